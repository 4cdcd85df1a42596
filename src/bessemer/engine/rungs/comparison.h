/* What tells two records apart, as comparison.py has it: the same features, in the same order. */

enum {
    RATIO, PARTIAL, TOKEN_SORT, TOKEN_SET, JARO_WINKLER, JACCARD, CONTAINMENT, IDF_COSINE, IDF_SHARED, REST_LOW, REST_HIGH,
    RAREST_LOW, RAREST_HIGH, SOFT_LOW, SOFT_HIGH, FIRST_EQUAL, LAST_EQUAL, NUMBERS_JACCARD, NUMBERS_LOW, NUMBERS_HIGH,
    CODES_SHARED, CODES_LOW, CODES_HIGH, CODES_WITHIN, QUANTITIES_EQUAL, QUANTITIES_DIFFER, GRAMS_JACCARD,
    SQUEEZED_WITHIN, LENGTH_LOW, LENGTH_HIGH, TEXT_FEATURES,
    NUMBER_FEATURES = 5, LIST_FEATURES = 5
};
enum { AS_TEXT, AS_NUMBER, AS_LIST, AS_OTHER }; /* other: the caller fills in all but whether it is missing */
enum { MOST_TOKENS = 200, MOST_GRAM_LETTERS = 2000, MOST_SOFT = 12, MOST_ITEMS = 32, MOST_DIGITS = 64, MOST_PAIRED = 4 };
static const double ALIKE = 0.85;

typedef struct {
    const Char *chars;
    const int64_t *lengths;    /* [rows][2 * fields] */
    const int64_t *types;      /* [fields] */
    const int64_t *offsets;    /* [fields + 1]: where a field's features begin, the last: those of all fields together */
    const uint8_t *wanted;     /* [width] */
    Table idf, signs, units;
    const double *idf_values;  /* of the words, then of an unknown one */
    const double *weights;     /* of the signs, then the intercept */
    const int64_t *unit_bases;
    const double *unit_factors;
    double *features;          /* [rows][width] */
    double *known;             /* [rows] */
    int64_t rows, fields, width;
} Comparison;

typedef struct {
    Text text;
    double idf, known;         /* `known`: 0 when traffic has not had it */
} Word;

typedef struct {
    int64_t base;
    double value;
} Quantity;

typedef struct {
    Text text, squeezed;
    Text *tokens, *numbers, *codes;
    Word *words;               /* different tokens, sorted */
    Quantity *quantities;
    int64_t tokens_n, numbers_n, codes_n, words_n, quantities_n;
} Written;

static double share(double part, double whole) { return whole != 0.0 ? part / whole : NAN; }

static int64_t number_end(Text text, int64_t i) {
    while (i < text.length && class_of(text.at[i]) & DECIMAL) i++;
    while (i + 1 < text.length && (text.at[i] == '.' || text.at[i] == ',') && class_of(text.at[i + 1]) & DECIMAL)
        for (i++; i < text.length && class_of(text.at[i]) & DECIMAL;) i++;
    return i;
}

/* The first number in a text's first 64 characters; 0: there is none, or it is too large. */
static int number_in(Text text, double *value) {
    if (text.length > MOST_DIGITS) text.length = MOST_DIGITS;
    int64_t begin = 0, last = -1, n = 0, points = 0;
    while (begin < text.length && !(class_of(text.at[begin]) & DECIMAL)) begin++;
    if (begin == text.length) return 0;
    int64_t end = number_end(text, begin);
    for (int64_t i = begin; i < end; i++)
        if (text.at[i] == '.' || text.at[i] == ',') last = i;
    int point = last > begin && (end - last - 1 != 3 || text.at[last] == '.');
    char digits[MOST_DIGITS + 2];
    if (begin > 0 && text.at[begin - 1] == '-') digits[n++] = '-';
    for (int64_t i = begin; i < end; i++)
        if (class_of(text.at[i]) & DECIMAL) digits[n++] = (char)('0' + (class_of(text.at[i]) >> VALUE_SHIFT));
        else if (point ? i == last : text.at[i] == '.') digits[n++] = '.', points++;
    if (points > 1) return 0;
    digits[n] = 0;
    *value = strtod(digits, NULL);
    return fabs(*value) < 1e15;
}

/* One spelling of a number; other tokens stay as they are. */
static Text spelled(Memory *memory, Text token) {
    double value;
    if (!(class_of(token.at[0]) & DIGIT) || !number_in(token, &value)) return token;
    char said[64];
    int64_t n = 0;
    Char *out = take(memory, (size_t)(token.length + 64) * sizeof(Char));
    if (value < 1e6) {
        n = snprintf(said, sizeof said, "%g", value);
        for (int64_t i = 0; i < n; i++) out[i] = (Char)said[i];
        return (Text){out, n};
    }
    for (int64_t i = 0; i < token.length; i++)
        if (token.at[i] != ',') out[n++] = token.at[i];
    return (Text){out, n};
}

static void find_tokens(Memory *memory, Text text, Written *out) {
    int64_t most = text.length < MOST_TOKENS ? text.length : MOST_TOKENS, n = 0;
    out->tokens = take(memory, (size_t)(most + 1) * sizeof(Text));
    out->numbers = take(memory, (size_t)(most + 1) * sizeof(Text));
    out->numbers_n = 0;
    for (int64_t i = 0; i < text.length && n < MOST_TOKENS;) {
        unsigned kind = class_of(text.at[i]);
        int64_t end = i + 1;
        if (kind & DECIMAL) end = number_end(text, i);
        else if (kind & LETTER) while (end < text.length && class_of(text.at[end]) & LETTER) end++;
        if (kind & (DECIMAL | LETTER)) {
            out->tokens[n] = spelled(memory, (Text){text.at + i, end - i});
            if (class_of(out->tokens[n].at[0]) & DIGIT) out->numbers[out->numbers_n++] = out->tokens[n];
            n++;
        }
        i = end;
    }
    out->tokens_n = n;
    out->numbers_n = unique_texts(out->numbers, out->numbers_n);
}

static void find_words(Memory *memory, const Comparison *job, Written *out) {
    Text *different = take(memory, (size_t)(out->tokens_n + 1) * sizeof(Text));
    memcpy(different, out->tokens, (size_t)out->tokens_n * sizeof(Text));
    out->words_n = unique_texts(different, out->tokens_n);
    out->words = take(memory, (size_t)(out->words_n + 1) * sizeof(Word));
    for (int64_t i = 0; i < out->words_n; i++) {
        int64_t place = place_of(&job->idf, different[i]);
        double idf = job->idf_values[place < 0 ? job->idf.size : place];
        out->words[i] = (Word){different[i], idf, place < 0 ? 0.0 : idf};
    }
}

static Text squeeze(Memory *memory, Text text) {
    Char *out = take(memory, (size_t)(text.length + 1) * sizeof(Char));
    int64_t n = 0;
    for (int64_t i = 0; i < text.length; i++)
        if (class_of(text.at[i]) & WORD && text.at[i] != '_') out[n++] = text.at[i];
    return (Text){out, n};
}

static void find_codes(Memory *memory, Text text, Written *out) {
    Text *words;
    int64_t n = split(memory, text, MOST_TOKENS, &words);
    out->codes = take(memory, (size_t)(n + 1) * sizeof(Text));
    out->codes_n = 0;
    for (int64_t i = 0; i < n; i++) {
        int digits = 0, others = 0;
        for (int64_t j = 0; j < words[i].length; j++)
            if (class_of(words[i].at[j]) & DIGIT) digits = 1;
        if (!digits) continue;
        Text code = squeeze(memory, words[i]);
        for (int64_t j = 0; j < code.length; j++) others |= !(class_of(code.at[j]) & DIGIT);
        if (others || code.length >= 4) out->codes[out->codes_n++] = code;
    }
    out->codes_n = unique_texts(out->codes, out->codes_n);
}

static void find_quantities(Memory *memory, const Comparison *job, Text text, Written *out) {
    out->quantities = take(memory, (MOST_TOKENS + 1) * sizeof(Quantity));
    out->quantities_n = 0;
    int64_t found = 0;
    for (int64_t i = 0; i < text.length && found < MOST_TOKENS;) {
        if (!(class_of(text.at[i]) & DECIMAL)) {
            i++;
            continue;
        }
        int64_t end = number_end(text, i), at = end;
        Text amount = {text.at + i, end - i};
        i = end;
        while (at < text.length && text.at[at] == ' ') at++;
        if (at < text.length && text.at[at] == '-') at++;
        while (at < text.length && text.at[at] == ' ') at++;
        if (at == text.length) continue;
        Text unit = {text.at + at, 0};
        while (at + unit.length < text.length && class_of(unit.at[unit.length]) & LETTER) unit.length++;
        Char mark = text.at[at];
        if (unit.length == 0 && (mark == '"' || mark == '%' || mark == '$' || mark == 0x20AC || mark == 0xA3))
            unit.length = 1;
        if (unit.length == 0) continue;
        i = at + unit.length;
        found++;
        int64_t place = place_of(&job->units, unit);
        double value;
        if (place < 0 || !number_in(amount, &value)) continue;
        char said[64];
        snprintf(said, sizeof said, "%.4g", value * job->unit_factors[place]);
        Quantity one = {job->unit_bases[place], strtod(said, NULL)};
        int repeated = 0;
        for (int64_t j = 0; j < out->quantities_n; j++)
            repeated |= out->quantities[j].base == one.base && out->quantities[j].value == one.value;
        if (!repeated) out->quantities[out->quantities_n++] = one;
    }
}

static Written written(Memory *memory, const Comparison *job, Text text) {
    Written out = {.text = text, .squeezed = squeeze(memory, text)};
    find_tokens(memory, text, &out);
    find_words(memory, job, &out);
    find_codes(memory, text, &out);
    find_quantities(memory, job, text, &out);
    return out;
}

/* -- two texts ------------------------------------------------------------------------------------------------------ */

static int64_t shared_texts(const Text *a, int64_t n, const Text *b, int64_t m) {
    int64_t count = 0;
    for (int64_t i = 0, j = 0; i < n && j < m;) {
        int order = compare(a[i], b[j]);
        count += order == 0;
        i += order <= 0;
        j += order >= 0;
    }
    return count;
}

typedef struct {
    uint64_t *keys;            /* a trigram + 1; 0: free */
    uint8_t *sides;            /* bits: which text has it */
    uint64_t mask;
} Trigrams;

static int64_t trigrams_of(Text text) {
    int64_t length = text.length < MOST_GRAM_LETTERS ? text.length : MOST_GRAM_LETTERS;
    return length > 3 ? length - 2 : 1;
}

/* Enter a text's trigrams, a shorter text as one; returns how many have both sides since then. */
static int64_t enter_trigrams(Trigrams *table, Text text, int side, int64_t *different) {
    const uint64_t none = 0x1FFFFF;
    int64_t n = trigrams_of(text), both = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t key = 1 + ((i < text.length ? text.at[i] : none) | (i + 1 < text.length ? (uint64_t)text.at[i + 1] : none) << 21 |
                            (i + 2 < text.length ? (uint64_t)text.at[i + 2] : none) << 42);
        uint64_t at = (key * 0x9E3779B97F4A7C15u) >> 40 & table->mask;
        while (table->keys[at] != 0 && table->keys[at] != key) at = (at + 1) & table->mask;
        *different += table->keys[at] == 0;
        both += table->keys[at] == key && table->sides[at] == 3 - side;
        table->sides[at] = table->keys[at] == 0 ? (uint8_t)side : table->sides[at] | (uint8_t)side;
        table->keys[at] = key;
    }
    return both;
}

static double trigrams_jaccard(Memory *memory, Text a, Text b) {
    uint64_t size = 16;
    int64_t different = 0;
    while (size < 2 * (uint64_t)(trigrams_of(a) + trigrams_of(b))) size *= 2;
    Trigrams table = {take(memory, size * sizeof(uint64_t)), take(memory, size), size - 1};
    memset(table.keys, 0, size * sizeof(uint64_t));
    enter_trigrams(&table, a, 1, &different);
    int64_t both = enter_trigrams(&table, b, 2, &different);
    return share((double)both, (double)different);
}

typedef struct {
    Word *words;               /* rarest first */
    int64_t n;
    double total, squares;
} Rest;

typedef struct {
    Rest left, right;
    Word *shared;              /* sorted */
    int64_t shared_n;
    double total, squares;     /* of the shared words */
} Overlap;

static int rarer(const Word *x, const Word *y) { return x->idf != y->idf ? x->idf > y->idf : compare(x->text, y->text) < 0; }

/* Bring the `most` rarest words to the front, in order. */
static void rarest_first(Rest *rest, int64_t most) {
    for (int64_t i = 0; i < rest->n; i++) {
        if (i >= most && !rarer(&rest->words[i], &rest->words[most - 1])) continue;
        Word moved = rest->words[i];
        int64_t j = i < most ? i : most - 1;
        if (i >= most) rest->words[i] = rest->words[j];
        for (; j > 0 && rarer(&moved, &rest->words[j - 1]); j--) rest->words[j] = rest->words[j - 1];
        rest->words[j] = moved;
    }
}

static void sum_up(const Word *words, int64_t n, double *total, double *squares) {
    long double sum = 0.0L, squared = 0.0L;
    for (int64_t i = 0; i < n; i++) {
        sum += words[i].idf;
        squared += words[i].idf * words[i].idf;
    }
    *total = (double)sum;
    *squares = (double)squared;
}

static Overlap overlap(Memory *memory, const Written *a, const Written *b) {
    Overlap out = {.shared = take(memory, (size_t)(a->words_n + 1) * sizeof(Word))};
    out.left.words = take(memory, (size_t)(a->words_n + 1) * sizeof(Word));
    out.right.words = take(memory, (size_t)(b->words_n + 1) * sizeof(Word));
    for (int64_t i = 0, j = 0; i < a->words_n || j < b->words_n;) {
        int order = i == a->words_n ? 1 : j == b->words_n ? -1 : compare(a->words[i].text, b->words[j].text);
        if (order < 0) out.left.words[out.left.n++] = a->words[i++];
        else if (order > 0) out.right.words[out.right.n++] = b->words[j++];
        else out.shared[out.shared_n++] = a->words[i++], j++;
    }
    sum_up(out.left.words, out.left.n, &out.left.total, &out.left.squares);
    sum_up(out.right.words, out.right.n, &out.right.total, &out.right.squares);
    sum_up(out.shared, out.shared_n, &out.total, &out.squares);
    return out;
}

typedef struct {
    Text text;
    double idf;
    uint64_t letters;          /* bits of the letters that it has, six bits of each */
} SoftWord;

static int64_t soft_words(const Rest *rest, SoftWord *out) {
    int64_t n = 0;
    for (int64_t i = 0; i < rest->n && i < MOST_SOFT; i++) {
        SoftWord word = {rest->words[i].text, rest->words[i].idf, 0};
        int letters = word.text.length > 0;
        for (int64_t j = 0; j < word.text.length; j++) {
            letters &= !!(class_of(word.text.at[j]) & ALPHA);
            word.letters |= (uint64_t)1 << (word.text.at[j] % 64);
        }
        if (letters) out[n++] = word;
    }
    return n;
}

/* Most letters of one word that can have a partner in another. */
static int64_t possible(const SoftWord *word, uint64_t letters) {
    int64_t n = 0;
    for (int64_t i = 0; i < word->text.length; i++) n += letters >> (word->text.at[i] % 64) & 1;
    return n;
}

/* Similarity of two words; 0 when it is at most ALIKE, which RapidFuzz's cut-off leaves out but for rounding. */
static double alike(Memory *memory, const SoftWord *a, const SoftWord *b, Pattern **pattern) {
    int64_t n = possible(a, b->letters), m = possible(b, a->letters), most = n < m ? n : m;
    double bound = ((double)most / (double)a->text.length + (double)most / (double)b->text.length + 1.0) / 3.0;
    if (winkler(bound, a->text, b->text) < ALIKE + 1e-9) return 0.0;
    if (*pattern == NULL) *pattern = pattern_of(memory, a->text, 0);
    double similar = jaro_winkler(memory, *pattern, a->text, b->text);
    return similar < ALIKE + 1e-9 ? 0.0 : similar;
}

static void in_order(double *low, double x, double y) {
    low[0] = y < x ? y : x;
    low[1] = y < x ? x : y;
}

static void soft(Memory *memory, Overlap *both, double *out) {
    rarest_first(&both->left, MOST_SOFT);
    rarest_first(&both->right, MOST_SOFT);
    SoftWord left[MOST_SOFT], right[MOST_SOFT];
    double mine[MOST_SOFT] = {0}, theirs[MOST_SOFT] = {0};
    int64_t n = soft_words(&both->left, left), m = soft_words(&both->right, right);
    for (int64_t i = 0; i < n; i++) {
        Pattern *pattern = NULL;
        for (int64_t j = 0; j < m; j++) {
            double similar = alike(memory, &left[i], &right[j], &pattern);
            if (similar > mine[i]) mine[i] = similar;
            if (similar > theirs[j]) theirs[j] = similar;
        }
    }
    long double a = 0.0L, b = 0.0L;
    for (int64_t i = 0; i < n; i++) a += mine[i] * left[i].idf;
    for (int64_t j = 0; j < m; j++) b += theirs[j] * right[j].idf;
    in_order(out, share(both->total + (double)a, both->total + both->left.total),
             share(both->total + (double)b, both->total + both->right.total));
}

static double rarest(const Rest *rest) {
    double most = 0.0;
    for (int64_t i = 0; i < rest->n; i++) most = rest->words[i].idf > most ? rest->words[i].idf : most;
    return most;
}

static void compare_codes(const Written *a, const Written *b, double *out) {
    int64_t shared = 0, alone[2] = {0, 0}, within = 0;
    for (int64_t i = 0, j = 0; i < a->codes_n || j < b->codes_n;) {
        int order = i == a->codes_n ? 1 : j == b->codes_n ? -1 : compare(a->codes[i], b->codes[j]);
        if (order < 0) alone[0]++, within += contains(b->squeezed, a->codes[i++]);
        else if (order > 0) alone[1]++, within += contains(a->squeezed, b->codes[j++]);
        else shared++, i++, j++;
    }
    out[CODES_SHARED] = (double)shared;
    in_order(out + CODES_LOW, (double)alone[0], (double)alone[1]);
    out[CODES_WITHIN] = share((double)within, (double)(alone[0] + alone[1]));
}

static void compare_quantities(const Written *a, const Written *b, double *out) {
    int64_t units = 0, same = 0;
    for (int64_t i = 0; i < a->quantities_n; i++) {
        int64_t base = a->quantities[i].base;
        int first = 1, there = 0, equals = 0;
        for (int64_t j = 0; j < i; j++) first &= a->quantities[j].base != base;
        for (int64_t j = 0; first && j < b->quantities_n; j++)
            if (b->quantities[j].base == base) {
                there = 1;
                for (int64_t k = i; k < a->quantities_n; k++)
                    equals |= a->quantities[k].base == base && a->quantities[k].value == b->quantities[j].value;
            }
        units += there;
        same += equals;
    }
    out[QUANTITIES_EQUAL] = (double)same;
    out[QUANTITIES_DIFFER] = (double)(units - same);
}

static void compare_words(Memory *memory, const Written *a, const Written *b, const uint8_t *wanted, double *out) {
    Overlap both = overlap(memory, a, b);
    double shared = (double)both.shared_n, least = (double)(a->words_n < b->words_n ? a->words_n : b->words_n);
    double lengths = (both.squares + both.left.squares) * (both.squares + both.right.squares);
    out[JACCARD] = share(shared, (double)(a->words_n + b->words_n - both.shared_n));
    out[CONTAINMENT] = share(shared, least);
    out[IDF_COSINE] = lengths != 0.0 ? both.squares / sqrt(lengths) : NAN;
    out[IDF_SHARED] = share(both.total, both.total + both.left.total + both.right.total);
    in_order(out + REST_LOW, both.left.total, both.right.total);
    in_order(out + RAREST_LOW, rarest(&both.left), rarest(&both.right));
    if (wanted[SOFT_LOW] || wanted[SOFT_HIGH]) soft(memory, &both, out + SOFT_LOW);
}

static void compare_letters(Memory *memory, Text a, Text b, const uint8_t *wanted, double *out) {
    const Pattern *mine = pattern_of(memory, a, 0);
    if (wanted[RATIO]) out[RATIO] = ratio(memory, mine, b);
    if (wanted[JARO_WINKLER]) out[JARO_WINKLER] = jaro_winkler(memory, mine, a, b);
    if (wanted[PARTIAL]) {
        out[PARTIAL] = a.length <= b.length ? partial_ratio(memory, mine, a, b) : 0.0;
        double other = b.length <= a.length ? partial_ratio(memory, pattern_of(memory, b, 0), b, a) : 0.0;
        if (other > out[PARTIAL]) out[PARTIAL] = other;
    }
    if (!wanted[TOKEN_SORT] && !wanted[TOKEN_SET]) return;
    Text *left, *right;
    int64_t n = split(memory, a, a.length + 1, &left), m = split(memory, b, b.length + 1, &right);
    sort_texts(left, n);
    sort_texts(right, m);
    if (wanted[TOKEN_SORT]) {
        const Pattern *turned = n > 1 ? pattern_of(memory, joined(memory, left, n), 0) : mine;
        out[TOKEN_SORT] = ratio(memory, turned, joined(memory, right, m));
    }
    if (wanted[TOKEN_SET]) {
        n = unique_texts(left, n);
        m = unique_texts(right, m);
        out[TOKEN_SET] = token_set_ratio(memory, left, n, right, m);
    }
}

/* TEXT_FEATURES; equal when the texts are swapped, NaN when either is empty or one is not wanted. */
static void compare_texts(Memory *memory, const Written *a, const Written *b, const uint8_t *wanted, double *out) {
    for (int i = 0; i < TEXT_FEATURES; i++) out[i] = NAN;
    if (a->text.length == 0 || b->text.length == 0) return;
    if (compare(b->text, a->text) < 0) { const Written *other = a; a = b; b = other; }
    compare_letters(memory, a->text, b->text, wanted, out);
    compare_words(memory, a, b, wanted, out);
    int first = a->tokens_n == 0 || b->tokens_n == 0;
    out[FIRST_EQUAL] = first ? a->tokens_n == b->tokens_n : equal(a->tokens[0], b->tokens[0]);
    out[LAST_EQUAL] = first ? a->tokens_n == b->tokens_n : equal(a->tokens[a->tokens_n - 1], b->tokens[b->tokens_n - 1]);
    int64_t numbers = shared_texts(a->numbers, a->numbers_n, b->numbers, b->numbers_n);
    out[NUMBERS_JACCARD] = share((double)numbers, (double)(a->numbers_n + b->numbers_n - numbers));
    in_order(out + NUMBERS_LOW, (double)(a->numbers_n - numbers), (double)(b->numbers_n - numbers));
    compare_codes(a, b, out);
    compare_quantities(a, b, out);
    if (wanted[GRAMS_JACCARD]) out[GRAMS_JACCARD] = trigrams_jaccard(memory, a->squeezed, b->squeezed);
    const Written *few = a->squeezed.length <= b->squeezed.length ? a : b, *many = few == a ? b : a;
    out[SQUEEZED_WITHIN] = few->squeezed.length > 0 && contains(many->squeezed, few->squeezed);
    in_order(out + LENGTH_LOW, (double)a->text.length, (double)b->text.length);
}

static void compare_numbers(Memory *memory, Text a, Text b, double *out) {
    double x, y;
    for (int i = 0; i < NUMBER_FEATURES; i++) out[i] = NAN;
    if (a.length > 0 && b.length > 0) out[4] = ratio(memory, pattern_of(memory, a, 0), b);
    if (!number_in(a, &x) || !number_in(b, &y)) return;
    double high = fmax(fabs(x), fabs(y)), low = fmin(fabs(x), fabs(y)), gap = fabs(x - y);
    out[0] = gap <= 1e-9 * high;
    out[1] = gap;
    out[2] = high != 0.0 ? gap / high : 0.0;
    if (low != 0.0) out[3] = log(high / low);
}

static int is_word(Text text, int64_t i) { return i >= 0 && i < text.length && class_of(text.at[i]) & WORD; }

/* Length of what parts items at a place: a mark, or the word `and`; 0: nothing. */
static int64_t parting(Text text, int64_t i) {
    Char c = text.at[i];
    if (c == ',' || c == ';' || c == '|' || c == '&') return 1;
    int spelled_so = c == 'a' && i + 2 < text.length && text.at[i + 1] == 'n' && text.at[i + 2] == 'd';
    return spelled_so && !is_word(text, i - 1) && !is_word(text, i + 3) ? 3 : 0;
}

static int64_t items_of(Text text, Text *items) {
    int64_t n = 0, pieces = 0, begin = 0;
    for (int64_t i = 0; i <= text.length && pieces < MOST_ITEMS; i++) {
        int64_t mark = i == text.length ? 1 : parting(text, i);
        if (mark == 0) continue;
        int64_t from = begin, to = i;
        while (from < to && text.at[from] == ' ') from++;
        while (to > from && text.at[to - 1] == ' ') to--;
        if (to > from) items[n++] = (Text){text.at + from, to - from};
        pieces++;
        begin = i + mark;
        i += mark - 1;
    }
    return n;
}

static int64_t last_words(const Text *items, int64_t n, Text *out) {
    for (int64_t i = 0; i < n; i++) {
        int64_t begin = items[i].length;
        while (begin > 0 && items[i].at[begin - 1] != ' ') begin--;
        out[i] = (Text){items[i].at + begin, items[i].length - begin};
    }
    return unique_texts(out, n);
}

static void compare_lists(Memory *memory, Text a, Text b, double *out) {
    Text left[MOST_ITEMS], right[MOST_ITEMS], lasts[2][MOST_ITEMS];
    int64_t counts[2] = {items_of(a, left), items_of(b, right)};
    for (int i = 0; i < LIST_FEATURES; i++) out[i] = NAN;
    if (counts[0] == 0 || counts[1] == 0) return;
    int64_t lasts_n[2] = {last_words(left, counts[0], lasts[0]), last_words(right, counts[1], lasts[1])};
    int64_t n = unique_texts(left, counts[0]), m = unique_texts(right, counts[1]), swapped = m < n;
    for (int64_t i = 0; n == m && i < n; i++) {
        int order = compare(left[i], right[i]);
        swapped = order > 0;
        if (order != 0) break;
    }
    const Text *few = swapped ? right : left, *many = swapped ? left : right;
    int64_t few_n = swapped ? m : n, many_n = swapped ? n : m;
    long double sum = 0.0L;
    for (int64_t i = 0; i < few_n; i++) {
        double best = 0.0;
        const Pattern *pattern = pattern_of(memory, few[i], 0);
        for (int64_t j = 0; j < many_n; j++) {
            double similar = jaro_winkler(memory, pattern, few[i], many[j]);
            if (similar > best) best = similar;
        }
        sum += best;
    }
    double shared = (double)shared_texts(left, n, right, m);
    double ends = (double)shared_texts(lasts[0], lasts_n[0], lasts[1], lasts_n[1]);
    out[0] = share(shared, (double)(n + m) - shared);
    out[1] = share(shared, (double)few_n);
    out[2] = share(ends, (double)(lasts_n[0] + lasts_n[1]) - ends);
    out[3] = (double)sum / (double)few_n;
    out[4] = fabs((double)(counts[0] - counts[1]));
}

/* -- records -------------------------------------------------------------------------------------------------------- */

typedef struct {
    const Comparison *job;
    Char *key;
    long double total;
    int64_t signs, found;
} Signs;

static void add_sign(Signs *signs, Text sign) {
    int64_t place = place_of(&signs->job->signs, sign);
    signs->signs++;
    if (place < 0) return;
    signs->found++;
    signs->total += signs->job->weights[place];
}

static void add_word(Signs *signs, Char mark, Text word) {
    signs->key[0] = mark;
    memcpy(signs->key + 1, word.at, (size_t)word.length * sizeof(Char));
    add_sign(signs, (Text){signs->key, word.length + 1});
}

static void add_pair(Signs *signs, Text a, Text b) {
    if (compare(b, a) < 0) { Text other = a; a = b; b = other; }
    memcpy(signs->key, a.at, (size_t)a.length * sizeof(Char));
    signs->key[a.length] = '|';
    memcpy(signs->key + a.length + 1, b.at, (size_t)b.length * sizeof(Char));
    add_sign(signs, (Text){signs->key, a.length + b.length + 1});
}

/* Log-odds of the signs, and the share of the words that traffic had: of the records as a whole. */
static void weigh_words(Memory *memory, const Comparison *job, const Written *a, const Written *b, double *logit, double *known) {
    if (compare(b->text, a->text) < 0) { const Written *other = a; a = b; b = other; }
    Overlap both = overlap(memory, a, b);
    Signs signs = {job, take(memory, (size_t)(a->text.length + b->text.length + 130) * sizeof(Char)), 0.0L, 0, 0};
    const Rest *sides[2] = {&both.left, &both.right};
    long double had = 0.0L, total = 0.0L;
    for (int64_t i = 0; i < both.shared_n; i++) {
        add_word(&signs, '=', both.shared[i].text);
        had += both.shared[i].known, total += both.shared[i].idf;
    }
    for (int side = 0; side < 2; side++)
        for (int64_t i = 0; i < sides[side]->n; i++) {
            add_word(&signs, '-', sides[side]->words[i].text);
            if (sides[!side]->n == 0) add_word(&signs, '+', sides[side]->words[i].text);
            had += sides[side]->words[i].known, total += sides[side]->words[i].idf;
        }
    if (both.left.n <= MOST_PAIRED && both.right.n <= MOST_PAIRED)
        for (int64_t i = 0; i < both.left.n; i++)
            for (int64_t j = 0; j < both.right.n; j++) add_pair(&signs, both.left.words[i].text, both.right.words[j].text);
    *known = (double)total != 0.0 ? (double)had / (double)total : 0.0;
    *logit = signs.found ? job->weights[job->signs.size] + (double)signs.total / sqrt((double)signs.signs) : NAN;
}

static void compare_pair(Memory *memory, const Comparison *job, const Text *texts, double *out, double *known) {
    int64_t fields = job->fields;
    Text *present = take(memory, (size_t)fields * sizeof(Text));
    Written whole[2];
    for (int side = 0; side < 2; side++) {
        int64_t n = 0;
        for (int64_t f = 0; f < fields; f++)
            if (texts[2 * f + side].length > 0) present[n++] = texts[2 * f + side];
        whole[side] = written(memory, job, joined(memory, present, n));
    }
    for (int64_t f = 0; f < fields; f++) {
        Text a = texts[2 * f], b = texts[2 * f + 1];
        int64_t at = job->offsets[f];
        out[at++] = (double)((a.length == 0) + (b.length == 0));
        if (job->types[f] == AS_OTHER) continue;
        if (job->types[f] == AS_NUMBER) {
            compare_numbers(memory, a, b, out + at);
            continue;
        }
        if (fields == 1) compare_texts(memory, &whole[0], &whole[1], job->wanted + at, out + at);
        else {
            Written left = written(memory, job, a), right = written(memory, job, b);
            compare_texts(memory, &left, &right, job->wanted + at, out + at);
        }
        if (job->types[f] == AS_LIST) compare_lists(memory, a, b, out + at + TEXT_FEATURES);
    }
    if (fields > 1) compare_texts(memory, &whole[0], &whole[1], job->wanted + job->offsets[fields], out + job->offsets[fields]);
    weigh_words(memory, job, &whole[0], &whole[1], out + job->width - 1, known);
}

/* Compare the records of all rows; -1: there is no memory for it. */
int64_t compare_records(const Comparison *job) {
    Memory memory = {NULL};
    if (setjmp(memory.failed)) {
        release(&memory, 1);
        return -1;
    }
    const Char *at = job->chars;
    for (int64_t row = 0; row < job->rows; row++) {
        release(&memory, 0);
        Text *texts = take(&memory, (size_t)(2 * job->fields) * sizeof(Text));
        for (int64_t i = 0; i < 2 * job->fields; i++) {
            texts[i] = (Text){at, job->lengths[row * 2 * job->fields + i]};
            at += texts[i].length;
        }
        compare_pair(&memory, job, texts, job->features + row * job->width, job->known + row);
    }
    release(&memory, 1);
    return 0;
}
