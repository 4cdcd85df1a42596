/* Softmax regression on n-grams: the logits of texts, as ngrams.py and linear.py have them. */

enum { BLOCKS = 3, SHORTEST = 2, LONGEST = 5, LONGEST_WORD = 256 };

typedef struct {
    const Char *chars;         /* normalised texts, words parted by single spaces */
    const int64_t *lengths;    /* [rows] */
    Table blocks[BLOCKS];      /* words, characters, shapes */
    const double *idf[BLOCKS];
    const double *unknown;     /* [BLOCKS] */
    const float *weights;      /* [columns][labels] */
    float *logits;             /* [rows][labels], 0 */
    double *known, *strange;   /* [rows] */
    int64_t rows, labels;
} Regression;

static int by_number(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Sort numbers; short lists, which most are, by Shell's method with Ciura's gaps: no call for each comparison. */
static void sort_numbers(uint64_t *numbers, int64_t n) {
    static const int64_t gaps[] = {132, 57, 23, 10, 4, 1};
    if (n > 400) {
        qsort(numbers, (size_t)n, sizeof *numbers, by_number);
        return;
    }
    for (size_t g = 0; g < sizeof gaps / sizeof *gaps; g++)
        for (int64_t i = gaps[g]; i < n; i++) {
            uint64_t moved = numbers[i];
            int64_t j = i;
            for (; j >= gaps[g] && numbers[j - gaps[g]] > moved; j -= gaps[g]) numbers[j] = numbers[j - gaps[g]];
            numbers[j] = moved;
        }
}

typedef struct {
    uint64_t *columns;
    int64_t n, room, missing;
} Found;

static void find(Memory *memory, const Table *block, Found *found, Text gram) {
    int64_t place = place_of(block, gram);
    if (place < 0) {
        found->missing++;
        return;
    }
    if (found->n == found->room) {
        uint64_t *larger = take(memory, (size_t)(2 * found->room + 256) * sizeof(uint64_t));
        if (found->n) memcpy(larger, found->columns, (size_t)found->n * sizeof(uint64_t));
        found->columns = larger;
        found->room = 2 * found->room + 256;
    }
    found->columns[found->n++] = (uint64_t)place;
}

/* Returns how many words are not known, over the root of their number. */
static double find_word_grams(Memory *memory, const Table *block, Text text, Found *found) {
    int64_t words = 0, unknown = 0;
    Char *pair = take(memory, (size_t)(text.length + 2) * sizeof(Char));
    Text before = {NULL, 0};
    for (int64_t i = 0; i < text.length;) {
        int64_t end = i;
        while (end < text.length && class_of(text.at[end]) & WORD) end++;
        if (end == i) {
            i++;
            continue;
        }
        Text word = {text.at + i, end - i};
        unknown -= found->missing;
        find(memory, block, found, word);
        unknown += found->missing;
        words++;
        if (before.at != NULL) {
            memcpy(pair, before.at, (size_t)before.length * sizeof(Char));
            pair[before.length] = ' ';
            memcpy(pair + before.length + 1, word.at, (size_t)word.length * sizeof(Char));
            find(memory, block, found, (Text){pair, before.length + 1 + word.length});
        }
        before = word;
        i = end;
    }
    return words ? (double)unknown / sqrt((double)words) : 0.0;
}

static void find_character_grams(Memory *memory, const Table *block, Text word, Found *found) {
    Char padded[LONGEST_WORD + 2];
    int64_t length = (word.length < LONGEST_WORD ? word.length : LONGEST_WORD) + 2;
    padded[0] = padded[length - 1] = ' ';
    memcpy(padded + 1, word.at, (size_t)(length - 2) * sizeof(Char));
    for (int64_t n = SHORTEST; n <= LONGEST && n <= length; n++)
        for (int64_t i = 0; i + n <= length; i++) find(memory, block, found, (Text){padded + i, n});
}

static void find_shape(Memory *memory, const Table *block, Text word, Found *found) {
    Char shape[LONGEST_WORD];
    int64_t length = word.length < LONGEST_WORD ? word.length : LONGEST_WORD, digits = 0;
    for (int64_t i = 0; i < word.length; i++) digits |= class_of(word.at[i]) & DIGIT;
    if (!digits) return;
    for (int64_t i = 0; i < length; i++) {
        unsigned kind = class_of(word.at[i]);
        shape[i] = kind & DIGIT ? 'd' : kind & ALPHA ? 'c' : word.at[i];
    }
    find(memory, block, found, (Text){shape, length});
}

/* Add a block's part to the logits; returns the idf of the n-grams that are known. */
static double weigh(const Regression *job, int block, int64_t offset, Found *found, float *logits) {
    const double *idf = job->idf[block];
    double squares = 0.0, known = 0.0;
    sort_numbers(found->columns, found->n);
    for (int pass = 0; pass < 2; pass++) {
        double scale = pass ? 1.0 / sqrt(squares) : 0.0;
        for (int64_t i = 0, next; i < found->n; i = next) {
            for (next = i; next < found->n && found->columns[next] == found->columns[i];) next++;
            int64_t column = (int64_t)found->columns[i];
            double value = (1.0 + log((double)(next - i))) * idf[column];
            if (pass == 0) {
                squares += value * value;
                known += (double)(next - i) * idf[column];
                continue;
            }
            const float weight = (float)(value * scale), *row = job->weights + (offset + column) * job->labels;
            for (int64_t k = 0; k < job->labels; k++) logits[k] += weight * row[k];
        }
    }
    return known;
}

static void regress(Memory *memory, const Regression *job, Text text, float *logits, double *share_known, double *strange) {
    Found found[BLOCKS] = {{0}};
    Text *words;
    int64_t n = split(memory, text, text.length + 1, &words), offset = 0;
    *strange = find_word_grams(memory, &job->blocks[0], text, &found[0]);
    for (int64_t i = 0; i < n; i++) {
        find_character_grams(memory, &job->blocks[1], words[i], &found[1]);
        find_shape(memory, &job->blocks[2], words[i], &found[2]);
    }
    double known = 0.0, unknown = 0.0;
    for (int block = 0; block < BLOCKS; block++) {
        unknown += (double)found[block].missing * job->unknown[block];
        known += weigh(job, block, offset, &found[block], logits);
        offset += job->blocks[block].size;
    }
    *share_known = known + unknown != 0.0 ? known / (known + unknown) : 0.0;
}

/* Fill in the logits of all rows; -1: there is no memory for it. */
int64_t regress_texts(const Regression *job) {
    Memory memory = {NULL};
    if (setjmp(memory.failed)) {
        release(&memory, 1);
        return -1;
    }
    const Char *at = job->chars;
    for (int64_t row = 0; row < job->rows; row++) {
        release(&memory, 0);
        regress(&memory, job, (Text){at, job->lengths[row]}, job->logits + row * job->labels, job->known + row, job->strange + row);
        at += job->lengths[row];
    }
    release(&memory, 1);
    return 0;
}
