/* Similarities of texts in [0, 1], equal to RapidFuzz's: by the longest common subsequence (Hyyro 2004, bit-parallel)
   and by Jaro and Winkler. */

typedef struct {
    int64_t length, words;
    uint64_t *masks;        /* [characters + 1][words]: where each stands; row 0 is of the others */
    uint16_t low[256];      /* row of a character */
    uint32_t *keys, *rows;  /* of the others: open addressing */
    uint32_t mask;
} Pattern;

static inline int64_t row_of(const Pattern *pattern, Char c) {
    if (c < 256) return pattern->low[c];
    if (pattern->keys == NULL) return 0;
    for (uint32_t i = (c * 2654435761u) & pattern->mask;; i = (i + 1) & pattern->mask) {
        if (pattern->keys[i] == c) return pattern->rows[i];
        if (pattern->keys[i] == 0) return 0;
    }
}

static Pattern *pattern_of(Memory *memory, Text text, int backwards) {
    Pattern *pattern = take(memory, sizeof(Pattern));
    int64_t high = 0, rows = 1, capacity = 4;
    pattern->length = text.length;
    pattern->words = (text.length + 63) / 64;
    pattern->keys = pattern->rows = NULL;
    memset(pattern->low, 0, sizeof pattern->low);
    for (int64_t i = 0; i < text.length; i++)
        if (text.at[i] >= 256) high++;
        else if (pattern->low[text.at[i]] == 0) pattern->low[text.at[i]] = (uint16_t)rows++;
    if (high > 0) {
        while (capacity < 2 * high + 2) capacity *= 2;
        pattern->mask = (uint32_t)capacity - 1;
        pattern->keys = take(memory, (size_t)capacity * sizeof(uint32_t));
        pattern->rows = take(memory, (size_t)capacity * sizeof(uint32_t));
        memset(pattern->keys, 0, (size_t)capacity * sizeof(uint32_t));
        for (int64_t i = 0; i < text.length; i++) {
            Char c = text.at[i];
            if (c < 256) continue;
            uint32_t at = (c * 2654435761u) & pattern->mask;
            while (pattern->keys[at] != 0 && pattern->keys[at] != c) at = (at + 1) & pattern->mask;
            if (pattern->keys[at] == 0) pattern->keys[at] = c, pattern->rows[at] = (uint32_t)rows++;
        }
    }
    size_t size = (size_t)(rows * pattern->words) * sizeof(uint64_t);
    pattern->masks = take(memory, size);
    memset(pattern->masks, 0, size);
    for (int64_t i = 0; i < text.length; i++) {
        Char c = text.at[backwards ? text.length - 1 - i : i];
        pattern->masks[row_of(pattern, c) * pattern->words + i / 64] |= (uint64_t)1 << (i % 64);
    }
    return pattern;
}

static int64_t zeros(const Pattern *pattern, const uint64_t *state) {
    int64_t count = 0;
    for (int64_t w = 0; w < pattern->words; w++) {
        uint64_t open = ~state[w];
        if (w == pattern->words - 1 && pattern->length % 64) open &= ((uint64_t)1 << (pattern->length % 64)) - 1;
        count += __builtin_popcountll(open);
    }
    return count;
}

static inline void step(const Pattern *pattern, uint64_t *state, Char c) {
    const uint64_t *mask = pattern->masks + row_of(pattern, c) * pattern->words;
    uint64_t carry = 0;
    for (int64_t w = 0; w < pattern->words; w++) {
        uint64_t s = state[w], u = s & mask[w], sum = s + u, next = sum + carry;
        carry = (sum < s) | (next < sum);
        state[w] = next | (s - u);
    }
}

/* Longest common subsequence with a text. `state`: words of the pattern. */
static int64_t common(const Pattern *pattern, uint64_t *state, Text text) {
    if (pattern->words == 1) {
        uint64_t s = ~(uint64_t)0;
        for (int64_t i = 0; i < text.length; i++) {
            uint64_t u = s & pattern->masks[row_of(pattern, text.at[i])];
            s = (s + u) | (s - u);
        }
        return zeros(pattern, &s);
    }
    for (int64_t w = 0; w < pattern->words; w++) state[w] = ~(uint64_t)0;
    for (int64_t i = 0; i < text.length; i++) step(pattern, state, text.at[i]);
    return zeros(pattern, state);
}

static double similarity_of(int64_t shared, int64_t lengths) {
    return lengths ? 1.0 - (double)(lengths - 2 * shared) / (double)lengths : 1.0;
}

static int64_t common_of(Memory *memory, const Pattern *pattern, Text text) {
    return common(pattern, take(memory, (size_t)pattern->words * sizeof(uint64_t)), text);
}

static double ratio(Memory *memory, const Pattern *pattern, Text text) {
    return similarity_of(common_of(memory, pattern, text), pattern->length + text.length);
}

typedef struct {
    int64_t shared, lengths;
} Best;

static inline void better(Best *best, int64_t shared, int64_t lengths) {
    if (shared * best->lengths > best->shared * lengths) *best = (Best){shared, lengths};
}

/* Every beginning of a text that is shorter than the pattern; `back`: every end, the pattern turned round. */
static void beginnings(const Pattern *pattern, uint64_t *state, Text text, int back, Best *best) {
    int64_t m = pattern->length;
    for (int64_t w = 0; w < pattern->words; w++) state[w] = ~(uint64_t)0;
    for (int64_t i = 1; i < m; i++) {
        Char c = text.at[back ? text.length - i : i - 1];
        step(pattern, state, c);
        if (2 * i * best->lengths > best->shared * (m + i)) better(best, zeros(pattern, state), m + i);
    }
}

/* A text against every part of a longer one that is as long, or shorter at its ends. */
static double partial_ratio(Memory *memory, const Pattern *pattern, Text text, Text longer) {
    int64_t m = text.length, n = longer.length;
    uint64_t *state = take(memory, (size_t)pattern->words * sizeof(uint64_t));
    Best best = {0, 1};
    for (int64_t i = 0; i + m <= n;) {
        int64_t shared = common(pattern, state, (Text){longer.at + i, m});
        better(&best, shared, 2 * m);
        int64_t needed = best.shared * 2 * m / best.lengths + 1; /* moving by one adds at most one */
        i += needed > shared ? needed - shared : 1;
    }
    beginnings(pattern, state, longer, 0, &best);
    beginnings(pattern_of(memory, text, 1), state, longer, 1, &best);
    return similarity_of(best.shared, best.lengths);
}

/* RapidFuzz's token_set_ratio of sorted, different words. */
static double token_set_ratio(Memory *memory, const Text *a, int64_t n, const Text *b, int64_t m) {
    if (n == 0 || m == 0) return 0.0;
    Text *left = take(memory, (size_t)n * sizeof(Text)), *right = take(memory, (size_t)m * sizeof(Text));
    int64_t i = 0, j = 0, lefts = 0, rights = 0, both = 0, letters = 0;
    while (i < n || j < m) {
        int order = i == n ? 1 : j == m ? -1 : compare(a[i], b[j]);
        if (order < 0) left[lefts++] = a[i++];
        else if (order > 0) right[rights++] = b[j++];
        else both++, letters += a[i].length, i++, j++;
    }
    if (both > 0 && (lefts == 0 || rights == 0)) return 1.0;
    Text mine = joined(memory, left, lefts), theirs = joined(memory, right, rights);
    int64_t shared = both > 0 ? letters + both - 1 : 0, gap = shared > 0;
    int64_t mine_all = shared + gap + mine.length, theirs_all = shared + gap + theirs.length;
    int64_t alike = common_of(memory, pattern_of(memory, mine, 0), theirs);
    double best = similarity_of(alike + shared + gap, mine_all + theirs_all);
    if (shared == 0) return best;
    double one = similarity_of(shared, shared + mine_all), two = similarity_of(shared, shared + theirs_all);
    return best > one ? (best > two ? best : two) : one > two ? one : two;
}

static double winkler(double jaro, Text p, Text t) {
    int64_t start = 0;
    if (jaro <= 0.7) return jaro;
    while (start < 4 && start < p.length && start < t.length && p.at[start] == t.at[start]) start++;
    jaro += (double)start * 0.1 * (1.0 - jaro);
    return jaro > 1.0 ? 1.0 : jaro;
}

/* Jaro's similarity, by the letters that have a partner: at most half of the longer text away, each with the first. */
static double jaro_winkler(Memory *memory, const Pattern *pattern, Text p, Text t) {
    int64_t n = p.length, m = t.length, bound = (n > m ? n : m) / 2 - 1, shared = 0, moved = 0, words = pattern->words;
    if (bound < 0) bound = 0;
    uint64_t *seen = take(memory, (size_t)words * sizeof(uint64_t));
    Char *partners = take(memory, (size_t)(n < m ? n : m) * sizeof(Char));
    memset(seen, 0, (size_t)words * sizeof(uint64_t));
    for (int64_t j = 0; j < m && j - bound < n; j++) {
        int64_t row = row_of(pattern, t.at[j]), low = j > bound ? j - bound : 0, high = j + bound < n - 1 ? j + bound : n - 1;
        if (row == 0) continue;
        for (int64_t w = low / 64; w <= high / 64; w++) {
            uint64_t open = pattern->masks[row * words + w] & ~seen[w];
            if (w == low / 64) open &= ~(uint64_t)0 << (low % 64);
            if (w == high / 64) open &= ~(uint64_t)0 >> (63 - high % 64);
            if (open == 0) continue;
            seen[w] |= open & -open;
            partners[shared++] = t.at[j];
            break;
        }
    }
    if (shared == 0) return 0.0;
    for (int64_t w = 0, k = 0; w < words; w++)
        for (uint64_t left = seen[w]; left; left &= left - 1) moved += p.at[64 * w + __builtin_ctzll(left)] != partners[k++];
    double similar = (double)shared / (double)n + (double)shared / (double)m;
    return winkler((similar + (double)(shared - moved / 2) / (double)shared) / 3.0, p, t);
}
