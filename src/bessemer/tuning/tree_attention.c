/* Attention of packed trees for training, forward and backward, in float32 whatever the storage type.
 *
 * Rows [0, root) are common to all trees; tree n owns rows [starts[n], starts[n] + sizes[n]). A row of a tree sees root
 * and own rows by an additive mask, and never a row behind it. One task is one (tree, key/value head); it works alone and
 * in a fixed order, so results do not depend on the number of threads. Compiled per model: HEAD_DIM, GROUP (query heads
 * per key/value head), STORED_BF16.
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

#define LANES 16
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4)));
#define DIM_LANES ((HEAD_DIM + LANES - 1) / LANES)
#define PADDED_DIM (DIM_LANES * LANES)

typedef struct {
    const stored *q, *k, *v; /* [rows, heads, HEAD_DIM]; rows q_stride, kv_heads * HEAD_DIM and v_stride apart */
    stored *out;             /* dense, the shape of q */
    float *normaliser;       /* [rows, heads]: log of the sum of e^score */
    const stored *d_out;     /* dense; the rest is written by the backward pass */
    stored *dq, *dk, *dv;    /* dense; rows of the trees */
    float *root_dk, *root_dv; /* [trees, root, kv_heads, HEAD_DIM] */
    const float *mask;       /* [trees, width, root + width] */
    const int64_t *starts, *sizes;
    int64_t trees, root, width, kv_heads, q_stride, v_stride, threads;
    float scale;
} Job;

/* e^x for x <= 0, relative error below 3e-7: 2^n 2^f, a polynomial of degree 6 in f (Taylor of e^(f ln 2)).
 * Below -87 it is 0, so that what a mask hides has no weight at all. */
static inline float exponential(float x) {
    const float t = (x < -87.0f ? -87.0f : x) * 1.44269504f;
    const float n = floorf(t + 0.5f), f = t - n;
    const float p = 1.0f + f * (0.693147182f + f * (0.240226507f + f * (0.0555041087f + f * (0.00961812911f
                    + f * (0.00133335581f + f * 0.000154035304f)))));
    union { int32_t i; float f; } power = {.i = ((int32_t)n + 127) << 23};
    return x < -87.0f ? 0.0f : p * power.f;
}

/* result[g][j] = q[g] . k[j] for j < count; `across` is k transposed: [HEAD_DIM][span], span a multiple of LANES. */
static inline void dots(const float (*q)[PADDED_DIM], const float *across, int64_t count, int64_t span, float *result) {
    for (int64_t j = 0; j < count; j += LANES) {
        lanes sum[GROUP];
        for (int g = 0; g < GROUP; g++) sum[g] = (lanes){0};
        for (int d = 0; d < HEAD_DIM; d++) {
            const lanes key = *(const lanes *)(across + d * span + j);
            for (int g = 0; g < GROUP; g++) sum[g] += q[g][d] * key;
        }
        for (int g = 0; g < GROUP; g++) *(lanes *)(result + g * span + j) = sum[g];
    }
}

/* result[g] = sum over j < count of weight[g][j] * rows[j]. */
static inline void mix(const float *weight, const float *rows, int64_t count, int64_t span, float (*result)[PADDED_DIM]) {
    for (int part = 0; part < DIM_LANES; part += 4) {
        const int wide = DIM_LANES - part < 4 ? DIM_LANES - part : 4;
        lanes sum[GROUP][4];
        for (int g = 0; g < GROUP; g++)
            for (int i = 0; i < 4; i++) sum[g][i] = (lanes){0};
        if (wide == 4)
            for (int64_t j = 0; j < count; j++) {
                const lanes *row = (const lanes *)(rows + j * PADDED_DIM + part * LANES);
                for (int g = 0; g < GROUP; g++)
                    for (int i = 0; i < 4; i++) sum[g][i] += weight[g * span + j] * row[i];
            }
        else
            for (int64_t j = 0; j < count; j++) {
                const lanes *row = (const lanes *)(rows + j * PADDED_DIM + part * LANES);
                for (int g = 0; g < GROUP; g++)
                    for (int i = 0; i < wide; i++) sum[g][i] += weight[g * span + j] * row[i];
            }
        for (int g = 0; g < GROUP; g++)
            for (int i = 0; i < wide; i++) *(lanes *)(result[g] + (part + i) * LANES) = sum[g][i];
    }
}

/* target[j] += sum over g of weight[g][j] * vector[g], for j < count. */
static inline void spread(const float *weight, const float (*vector)[PADDED_DIM], int64_t count, int64_t span, float *target) {
    for (int part = 0; part < DIM_LANES; part++) {
        lanes own[GROUP];
        for (int g = 0; g < GROUP; g++) own[g] = *(const lanes *)(vector[g] + part * LANES);
        for (int64_t j = 0; j < count; j++) {
            lanes *row = (lanes *)(target + j * PADDED_DIM + part * LANES);
            lanes sum = *row;
            for (int g = 0; g < GROUP; g++) sum += weight[g * span + j] * own[g];
            *row = sum;
        }
    }
}

/* Scratch of one thread: keys and values of one task, as rows and transposed. */
typedef struct { float *key, *value, *key_across, *value_across, *dk, *dv, *score, *slope; } Scratch;

static int64_t scratch_floats(int64_t span) { return span * (4 * PADDED_DIM + 2 * HEAD_DIM + 2 * GROUP); }

static Scratch carve(float *memory, int64_t span) {
    Scratch s;
    s.key = memory;
    s.value = s.key + span * PADDED_DIM;
    s.dk = s.value + span * PADDED_DIM;
    s.dv = s.dk + span * PADDED_DIM;
    s.key_across = s.dv + span * PADDED_DIM;
    s.value_across = s.key_across + span * HEAD_DIM;
    s.score = s.value_across + span * HEAD_DIM;
    s.slope = s.score + span * GROUP;
    return s;
}

static void load(const Job *job, int64_t tree, int64_t head, int64_t span, const Scratch *s) {
    const int64_t seen = job->root + job->sizes[tree];
    for (int64_t j = 0; j < seen; j++) {
        const int64_t row = j < job->root ? j : job->starts[tree] + j - job->root;
        const stored *k = job->k + (row * job->kv_heads + head) * HEAD_DIM, *v = job->v + row * job->v_stride + head * HEAD_DIM;
        for (int d = 0; d < HEAD_DIM; d++) {
            s->key[j * PADDED_DIM + d] = widen(k[d]);
            s->value[j * PADDED_DIM + d] = widen(v[d]);
        }
    }
    for (int d = 0; d < HEAD_DIM; d++)
        for (int64_t j = 0; j < seen; j++) {
            s->key_across[d * span + j] = s->key[j * PADDED_DIM + d];
            s->value_across[d * span + j] = s->value[j * PADDED_DIM + d];
        }
}

static void read_heads(const stored *from, float scale, float (*to)[PADDED_DIM]) {
    for (int g = 0; g < GROUP; g++)
        for (int d = 0; d < HEAD_DIM; d++) to[g][d] = widen(from[g * HEAD_DIM + d]) * scale;
}

static void forward_task(const Job *job, int64_t tree, int64_t head, int64_t span, const Scratch *s) {
    const int64_t heads = job->kv_heads * GROUP;
    float q[GROUP][PADDED_DIM], mixed[GROUP][PADDED_DIM];
    load(job, tree, head, span, s);
    for (int64_t i = 0; i < job->sizes[tree]; i++) {
        const int64_t row = job->starts[tree] + i, seen = job->root + i + 1;
        const float *mask = job->mask + (tree * job->width + i) * (job->root + job->width);
        read_heads(job->q + row * job->q_stride + head * GROUP * HEAD_DIM, job->scale, q);
        dots(q, s->key_across, seen, span, s->score);
        for (int g = 0; g < GROUP; g++) {
            float *score = s->score + g * span, best = -1e30f, sum = 0;
            for (int64_t j = 0; j < seen; j++) score[j] += mask[j];
            for (int64_t j = 0; j < seen; j++) best = score[j] > best ? score[j] : best;
            for (int64_t j = 0; j < seen; j++) score[j] = exponential(score[j] - best);
            for (int64_t j = 0; j < seen; j++) sum += score[j];
            for (int64_t j = 0; j < seen; j++) score[j] /= sum;
            job->normaliser[row * heads + head * GROUP + g] = best + logf(sum);
        }
        mix(s->score, s->value, seen, span, mixed);
        stored *out = job->out + (row * heads + head * GROUP) * HEAD_DIM;
        for (int g = 0; g < GROUP; g++)
            for (int d = 0; d < HEAD_DIM; d++) out[g * HEAD_DIM + d] = narrow(mixed[g][d]);
    }
}

static void backward_task(const Job *job, int64_t tree, int64_t head, int64_t span, const Scratch *s) {
    const int64_t heads = job->kv_heads * GROUP, size = job->sizes[tree], root = job->root;
    float q[GROUP][PADDED_DIM] = {{0}}, d_out[GROUP][PADDED_DIM] = {{0}}, dq[GROUP][PADDED_DIM];
    load(job, tree, head, span, s);
    memset(s->dk, 0, (size_t)(2 * span * PADDED_DIM) * sizeof(float));
    for (int64_t i = 0; i < size; i++) {
        const int64_t row = job->starts[tree] + i, seen = root + i + 1;
        const float *mask = job->mask + (tree * job->width + i) * (root + job->width);
        const int64_t at = (row * heads + head * GROUP) * HEAD_DIM;
        read_heads(job->q + row * job->q_stride + head * GROUP * HEAD_DIM, job->scale, q);
        read_heads(job->d_out + at, 1.0f, d_out);
        dots(q, s->key_across, seen, span, s->score);
        dots(d_out, s->value_across, seen, span, s->slope);
        for (int g = 0; g < GROUP; g++) {
            float *p = s->score + g * span, *ds = s->slope + g * span, total = 0;
            const float normaliser = job->normaliser[row * heads + head * GROUP + g];
            for (int64_t j = 0; j < seen; j++) p[j] = exponential(p[j] + mask[j] - normaliser);
            for (int64_t j = 0; j < seen; j++) total += p[j] * ds[j];
            for (int64_t j = 0; j < seen; j++) ds[j] = p[j] * (ds[j] - total);
        }
        mix(s->slope, s->key, seen, span, dq);
        for (int g = 0; g < GROUP; g++)
            for (int d = 0; d < HEAD_DIM; d++) job->dq[at + g * HEAD_DIM + d] = narrow(dq[g][d] * job->scale);
        spread(s->slope, q, seen, span, s->dk); /* q carries the scale */
        spread(s->score, d_out, seen, span, s->dv);
    }
    for (int64_t j = 0; j < root + size; j++) {
        const float *dk = s->dk + j * PADDED_DIM, *dv = s->dv + j * PADDED_DIM;
        if (j < root) {
            const int64_t at = ((tree * root + j) * job->kv_heads + head) * HEAD_DIM;
            memcpy(job->root_dk + at, dk, HEAD_DIM * sizeof(float));
            memcpy(job->root_dv + at, dv, HEAD_DIM * sizeof(float));
        } else {
            const int64_t at = ((job->starts[tree] + j - root) * job->kv_heads + head) * HEAD_DIM;
            for (int d = 0; d < HEAD_DIM; d++) {
                job->dk[at + d] = narrow(dk[d]);
                job->dv[at + d] = narrow(dv[d]);
            }
        }
    }
}

static int run(const Job *job, void (*task)(const Job *, int64_t, int64_t, int64_t, const Scratch *)) {
    const int64_t span = (job->root + job->width + LANES - 1) / LANES * LANES;
    int failed = 0;
#pragma omp parallel num_threads(job->threads)
    {
        float *memory = calloc((size_t)scratch_floats(span) + LANES, sizeof(float));
        if (!memory) {
#pragma omp atomic write
            failed = 1;
        } else {
            const Scratch s = carve(memory, span);
#pragma omp for schedule(dynamic, 1) nowait
            for (int64_t i = 0; i < job->trees * job->kv_heads; i++) task(job, i / job->kv_heads, i % job->kv_heads, span, &s);
            free(memory);
        }
    }
    return failed;
}

/* Both return 0, or 1 when memory could not be had. */
int tree_forward(const Job *job) { return run(job, forward_task); }
int tree_backward(const Job *job) { return run(job, backward_task); }
