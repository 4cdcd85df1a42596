/* What the kernel of rungs works on: memory of a call, texts of UTF-32, classes of characters, tables of texts. */

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint32_t Char;

typedef struct {
    const Char *at;
    int64_t length;
} Text;

/* -- memory: blocks that are freed together; a call that gets none jumps back to its beginning --------------------- */

typedef struct Block {
    struct Block *before;
    size_t size, used;
} Block;

typedef struct {
    Block *last;
    jmp_buf failed;
} Memory;

static void *take(Memory *memory, size_t size) {
    size = (size + 15) & ~(size_t)15;
    Block *block = memory->last;
    if (block == NULL || block->size - block->used < size) {
        size_t wanted = size > (1 << 18) ? size : 1 << 18;
        Block *fresh = malloc(sizeof(Block) + 16 + wanted);
        if (fresh == NULL) longjmp(memory->failed, 1);
        *fresh = (Block){block, wanted, 0};
        memory->last = block = fresh;
    }
    char *begin = (char *)(((uintptr_t)(block + 1) + 15) & ~(uintptr_t)15);
    block->used += size;
    return begin + block->used - size;
}

/* Free all blocks but the first, which is emptied; `all`: that one, too. */
static void release(Memory *memory, int all) {
    while (memory->last != NULL && (all || memory->last->before != NULL)) {
        Block *block = memory->last;
        memory->last = block->before;
        free(block);
    }
    if (memory->last != NULL) memory->last->used = 0;
}

/* -- classes of characters: what Python's str and re say of each, filled in by the caller -------------------------- */

enum { DECIMAL = 1, LETTER = 2, WORD = 4, DIGIT = 8, ALPHA = 16, VALUE_SHIFT = 8 };

static const uint16_t *classes;
static Char known_classes;

void set_classes(const uint16_t *table, int64_t count) {
    classes = table;
    known_classes = (Char)count;
}

static inline unsigned class_of(Char c) { return c < known_classes ? classes[c] : 0; }

/* -- texts ---------------------------------------------------------------------------------------------------------- */

static int compare(Text a, Text b) {
    int64_t least = a.length < b.length ? a.length : b.length;
    for (int64_t i = 0; i < least; i++)
        if (a.at[i] != b.at[i]) return a.at[i] < b.at[i] ? -1 : 1;
    return a.length == b.length ? 0 : a.length < b.length ? -1 : 1;
}

static inline int equal(Text a, Text b) {
    return a.length == b.length && memcmp(a.at, b.at, (size_t)a.length * sizeof(Char)) == 0;
}

static int by_text(const void *a, const void *b) { return compare(*(const Text *)a, *(const Text *)b); }

enum { FEW = 32 };

/* Sort texts; short lists, which most are, without a call for each comparison. */
static void sort_texts(Text *texts, int64_t n) {
    if (n > FEW) {
        qsort(texts, (size_t)n, sizeof *texts, by_text);
        return;
    }
    for (int64_t i = 1; i < n; i++) {
        Text moved = texts[i];
        int64_t j = i;
        for (; j > 0 && compare(texts[j - 1], moved) > 0; j--) texts[j] = texts[j - 1];
        texts[j] = moved;
    }
}

/* Sort texts and leave out repetitions; returns how many are left. */
static int64_t unique_texts(Text *texts, int64_t n) {
    int64_t kept = 0;
    sort_texts(texts, n);
    for (int64_t i = 0; i < n; i++)
        if (kept == 0 || !equal(texts[kept - 1], texts[i])) texts[kept++] = texts[i];
    return kept;
}

static int contains(Text whole, Text part) {
    if (part.length == 0) return 1;
    for (int64_t i = 0; i + part.length <= whole.length; i++)
        if (whole.at[i] == part.at[0] && memcmp(whole.at + i, part.at, (size_t)part.length * sizeof(Char)) == 0) return 1;
    return 0;
}

/* Split at single spaces; at most `most` words. */
static int64_t split(Memory *memory, Text text, int64_t most, Text **words) {
    int64_t n = 0, begin = 0, spaces = 0;
    for (int64_t i = 0; i < text.length; i++) spaces += text.at[i] == ' ';
    *words = take(memory, (size_t)(spaces + 1) * sizeof(Text));
    for (int64_t i = 0; i <= text.length && n < most; i++)
        if (i == text.length || text.at[i] == ' ') {
            if (i > begin) (*words)[n++] = (Text){text.at + begin, i - begin};
            begin = i + 1;
        }
    return n;
}

static Text joined(Memory *memory, const Text *parts, int64_t n) {
    int64_t length = n > 0 ? n - 1 : 0;
    for (int64_t i = 0; i < n; i++) length += parts[i].length;
    Char *out = take(memory, (size_t)(length + 1) * sizeof(Char));
    Text all = {out, length};
    for (int64_t i = 0; i < n; i++) {
        if (i > 0) *out++ = ' ';
        memcpy(out, parts[i].at, (size_t)parts[i].length * sizeof(Char));
        out += parts[i].length;
    }
    return all;
}

/* -- tables of texts ------------------------------------------------------------------------------------------------ */

typedef struct {
    const Char *chars;
    const int64_t *ends;
    uint64_t *slots;       /* upper half: of the hash, lower half: place + 1; 0: free */
    int64_t size, mask;    /* texts; slots - 1 */
} Table;

static inline uint64_t hashed(Text text) {
    uint64_t h = 0x9E3779B97F4A7C15u ^ (uint64_t)text.length;
    for (int64_t i = 0; i < text.length; i++) {
        h = (h ^ text.at[i]) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
    }
    return h;
}

static inline Text text_at(const Table *table, int64_t place) {
    int64_t begin = place > 0 ? table->ends[place - 1] : 0;
    return (Text){table->chars + begin, table->ends[place] - begin};
}

/* Return a text's place; -1: it is not in the table. */
static inline int64_t place_of(const Table *table, Text text) {
    uint64_t h = hashed(text);
    for (int64_t i = (int64_t)(h & (uint64_t)table->mask);; i = (i + 1) & table->mask) {
        uint64_t slot = table->slots[i];
        if (slot == 0) return -1;
        if (slot >> 32 == h >> 32 && equal(text_at(table, (int64_t)(slot & 0xFFFFFFFF) - 1), text))
            return (int64_t)(slot & 0xFFFFFFFF) - 1;
    }
}

/* Fill in the slots, which are 0 and more than there are texts; -1: a text is there twice. */
int64_t fill_table(Table *table) {
    for (int64_t place = 0; place < table->size; place++) {
        Text text = text_at(table, place);
        uint64_t h = hashed(text);
        int64_t i = (int64_t)(h & (uint64_t)table->mask);
        for (; table->slots[i] != 0; i = (i + 1) & table->mask)
            if (table->slots[i] >> 32 == h >> 32 && equal(text_at(table, (int64_t)(table->slots[i] & 0xFFFFFFFF) - 1), text))
                return -1;
        table->slots[i] = (h >> 32 << 32) | (uint64_t)(place + 1);
    }
    return 0;
}
