/* Attention of packed query rows over a paged key/value cache, in float32 whatever the storage type.
 *
 * First the rows' own keys and values are stored in their slots of the cache. Then each row looks at its sequence.
 * A row sees the first `length` tokens of its sequence (minus those outside the layer's window) and a short list of
 * extra token positions (the ancestors of a node in a tree of labels). Every row is computed alone and in the same
 * order, so a result never depends on what else is in the batch. Compiled per model: HEAD_DIM, GROUP (query heads per
 * key/value head), BLOCK (tokens per cache block), STORED_BF16.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef STORED_BF16
typedef uint16_t stored;
static inline float widen(stored x) {
    union { uint32_t u; float f; } v = {.u = (uint32_t)x << 16};
    return v.f;
}
static inline stored narrow(float x) { /* round to nearest, ties to even, as torch does */
    union { float f; uint32_t u; } v = {.f = x};
    return (stored)((v.u + 0x7fff + ((v.u >> 16) & 1)) >> 16);
}
#else
typedef float stored;
static inline float widen(stored x) { return x; }
static inline stored narrow(float x) { return x; }
#endif

typedef struct {
    const stored *q;       /* [rows, kv_heads * GROUP, HEAD_DIM] */
    stored *keys;          /* one layer: [blocks * BLOCK, kv_heads, HEAD_DIM] */
    stored *values;        /* the same shape */
    const stored *new_keys, *new_values; /* [rows, kv_heads, HEAD_DIM], rows apart by new_*_stride elements */
    stored *out;           /* the shape of q */
    const int64_t *slot_of_row;
    const int32_t *tables; /* [sequences, table_width]: block numbers of each sequence, in order */
    const int32_t *sequence_of_row;
    const int32_t *length_of_row;
    const int32_t *extra_start; /* per row: first entry in `extras`; entry rows holds the end */
    const int32_t *extras;      /* token positions within the row's sequence */
    int64_t rows, kv_heads, table_width, window, threads, new_keys_stride, new_values_stride;
    float scale;
} Job;

/* e^x for x <= 0, relative error below 3e-7: 2^n 2^f with a polynomial of degree 6 in f, |f| <= 1/2 (Taylor of e^(f ln 2)). */
static inline float exponential(float x) {
    const float t = (x < -80.0f ? -80.0f : x) * 1.44269504f;
    const float n = floorf(t + 0.5f), f = t - n;
    const float p = 1.0f + f * (0.693147182f + f * (0.240226507f + f * (0.0555041087f + f * (0.00961812911f
                    + f * (0.00133335581f + f * 0.000154035304f)))));
    union { int32_t i; float f; } power = {.i = ((int32_t)n + 127) << 23};
    return p * power.f;
}

static inline const stored *token(const Job *job, const stored *pool, const int32_t *table, int64_t position, int64_t head) {
    int64_t slot = (int64_t)table[position / BLOCK] * BLOCK + position % BLOCK;
    return pool + (slot * job->kv_heads + head) * HEAD_DIM;
}

static void attend_row(const Job *job, int64_t row, int64_t head, float *restrict scores) {
    const int32_t *table = job->tables + (int64_t)job->sequence_of_row[row] * job->table_width;
    const int64_t length = job->length_of_row[row];
    const int64_t depth = job->extra_start[row + 1] - job->extra_start[row];
    const int64_t reach = length + depth;
    const int64_t n_extra = job->window > 0 && depth > job->window ? job->window : depth;
    const int32_t *extras = job->extras + job->extra_start[row + 1] - n_extra;
    const int64_t first = job->window > 0 && reach > job->window ? reach - job->window : 0;
    const int64_t plain = first < length ? length - first : 0;
    const int64_t count = plain + n_extra;
    const int64_t base = (row * job->kv_heads + head) * GROUP * HEAD_DIM;

    float q[GROUP][HEAD_DIM], best[GROUP], sum[GROUP], acc[GROUP][HEAD_DIM];
    for (int g = 0; g < GROUP; g++) {
        best[g] = -1e30f;
        sum[g] = 0;
        for (int d = 0; d < HEAD_DIM; d++) {
            q[g][d] = widen(job->q[base + g * HEAD_DIM + d]) * job->scale;
            acc[g][d] = 0;
        }
    }
    for (int64_t i = 0; i < count; i++) {
        const stored *k = token(job, job->keys, table, i < plain ? first + i : extras[i - plain], head);
        float dot[GROUP];
        for (int g = 0; g < GROUP; g++) {
            float total = 0;
            for (int d = 0; d < HEAD_DIM; d++) total += q[g][d] * widen(k[d]);
            dot[g] = total;
        }
        for (int g = 0; g < GROUP; g++) {
            scores[i * GROUP + g] = dot[g];
            best[g] = dot[g] > best[g] ? dot[g] : best[g];
        }
    }
    for (int64_t i = 0; i < count; i++)
        for (int g = 0; g < GROUP; g++) scores[i * GROUP + g] -= best[g];
    for (int64_t i = 0; i < count * GROUP; i++) scores[i] = exponential(scores[i]);
    for (int64_t i = 0; i < count; i++) {
        const stored *v = token(job, job->values, table, i < plain ? first + i : extras[i - plain], head);
        for (int g = 0; g < GROUP; g++) {
            const float p = scores[i * GROUP + g];
            sum[g] += p;
            for (int d = 0; d < HEAD_DIM; d++) acc[g][d] += p * widen(v[d]);
        }
    }
    for (int g = 0; g < GROUP; g++) {
        const float inverse = 1.0f / sum[g];
        for (int d = 0; d < HEAD_DIM; d++) job->out[base + g * HEAD_DIM + d] = narrow(acc[g][d] * inverse);
    }
}

/* Returns 0, or 1 when memory for the scores could not be had. */
int attend(const Job *job) {
    int64_t longest = 0;
    for (int64_t row = 0; row < job->rows; row++) {
        int64_t n = job->length_of_row[row] + job->extra_start[row + 1] - job->extra_start[row];
        longest = n > longest ? n : longest;
    }
    int failed = 0;
#pragma omp parallel num_threads(job->threads)
    {
        float *scores = malloc((size_t)(longest * GROUP) * sizeof(float) + 64);
        if (!scores) {
#pragma omp atomic write
            failed = 1;
        }
        const int64_t width = job->kv_heads * HEAD_DIM;
#pragma omp for schedule(static)
        for (int64_t row = 0; row < job->rows; row++) {
            const int64_t at = job->slot_of_row[row] * width;
            memcpy(job->keys + at, job->new_keys + row * job->new_keys_stride, (size_t)width * sizeof(stored));
            memcpy(job->values + at, job->new_values + row * job->new_values_stride, (size_t)width * sizeof(stored));
        }
#pragma omp for schedule(dynamic, 4)
        for (int64_t task = 0; task < job->rows * job->kv_heads; task++)
            if (scores) attend_row(job, task / job->kv_heads, task % job->kv_heads, scores);
        free(scores);
    }
    return failed;
}
