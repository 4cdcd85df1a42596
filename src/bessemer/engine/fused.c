/* What a block does between its matrix products, each in one pass over memory and in float32 registers.
 *
 * Rows are independent and every row is computed in the same order, so a result never depends on the batch or on the
 * number of threads. STORED_BF16 selects the storage type; norms' weights and statistics are float32.
 */
#include <math.h>
#include <stdint.h>

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

/* e^x for |x| < 87, relative error below 3e-7: 2^n 2^f, a polynomial of degree 6 in f (Taylor of e^(f ln 2)). */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 87.0f ? 87.0f : x;
    const float t = x * 1.44269504f;
    const float n = floorf(t + 0.5f), f = t - n;
    const float p = 1.0f + f * (0.693147182f + f * (0.240226507f + f * (0.0555041087f + f * (0.00961812911f
                    + f * (0.00133335581f + f * 0.000154035304f)))));
    union { int32_t i; float f; } power = {.i = ((int32_t)n + 127) << 23};
    return p * power.f;
}

/* Sums in sixteen partial sums of a fixed order: a compiler's own choice may depend on where a row lies in memory. */
#define LANES 16
typedef float lanes __attribute__((vector_size(4 * LANES)));

static inline float total_of(lanes sum, float rest) {
    for (int l = 0; l < LANES; l++) rest += sum[l];
    return rest;
}
static inline lanes widened(const stored *x) {
    lanes v;
    for (int l = 0; l < LANES; l++) v[l] = widen(x[l]);
    return v;
}
static float sum_of_squares(const stored *x, int64_t width) {
    lanes sum = {0};
    float rest = 0;
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) sum += widened(x + i) * widened(x + i);
    for (; i < width; i++) rest += widen(x[i]) * widen(x[i]);
    return total_of(sum, rest);
}
static float weighted_dot(const stored *a, const float *weight, const stored *b, int64_t width) {
    lanes sum = {0};
    float rest = 0;
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) {
        lanes w;
        for (int l = 0; l < LANES; l++) w[l] = weight[i + l];
        sum += widened(a + i) * w * widened(b + i);
    }
    for (; i < width; i++) rest += widen(a[i]) * weight[i] * widen(b[i]);
    return total_of(sum, rest);
}

/* total = x + delta (delta may be null: then total is x and is not written); normed = total * inverse * weight,
 * inverse = 1 / sqrt(mean(total^2) + eps). */
void add_norm(const stored *restrict x, const stored *restrict delta, const float *restrict weight,
              stored *restrict total, stored *restrict normed, float *restrict inverse, int64_t rows, int64_t width,
              float eps, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (rows > 32)
    for (int64_t row = 0; row < rows; row++) {
        const int64_t at = row * width;
        const stored *sum = x + at;
        if (delta) {
            for (int64_t i = 0; i < width; i++) total[at + i] = narrow(widen(x[at + i]) + widen(delta[at + i]));
            sum = total + at;
        }
        const float scale = 1.0f / sqrtf(sum_of_squares(sum, width) / width + eps);
        inverse[row] = scale;
        for (int64_t i = 0; i < width; i++) normed[at + i] = narrow(widen(sum[i]) * scale * weight[i]);
    }
}

/* dx = d_total + the gradient of add_norm's `normed` with respect to `total`; d_total may be null. */
void add_norm_backward(const stored *restrict d_total, const stored *restrict d_normed, const stored *restrict total,
                       const float *restrict inverse, const float *restrict weight, stored *restrict dx, int64_t rows,
                       int64_t width, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (rows > 32)
    for (int64_t row = 0; row < rows; row++) {
        const int64_t at = row * width;
        const float scale = inverse[row];
        const float mean = weighted_dot(d_normed + at, weight, total + at, width) * scale * scale / width;
        for (int64_t i = 0; i < width; i++) {
            const float own = (widen(d_normed[at + i]) * weight[i] - widen(total[at + i]) * mean) * scale;
            dx[at + i] = narrow(d_total ? own + widen(d_total[at + i]) : own);
        }
    }
}

/* Rotary embedding of [rows, heads, width], rows `stride` elements apart: pairs (i, i + width / 2), cosines and sines
 * [rows, width / 2]; direction -1 turns back. The result is dense. */
void rotate(const stored *x, const stored *cosine, const stored *sine, stored *out, int64_t rows, int64_t heads,
            int64_t width, int64_t stride, float direction, int64_t threads) {
    const int64_t half = width / 2;
#pragma omp parallel for num_threads(threads) if (rows > 32)
    for (int64_t row = 0; row < rows; row++)
        for (int64_t head = 0; head < heads; head++) {
            const stored *restrict from = x + row * stride + head * width;
            stored *restrict to = out + (row * heads + head) * width;
            const stored *restrict c = cosine + row * half, *restrict s = sine + row * half;
            for (int64_t i = 0; i < half; i++) {
                const float a = widen(from[i]), b = widen(from[half + i]), turn = direction * widen(s[i]);
                to[i] = narrow(a * widen(c[i]) - b * turn);
                to[half + i] = narrow(b * widen(c[i]) + a * turn);
            }
        }
}

/* The gate's activation and its derivative: silu(x) = x / (1 + e^-x), or gelu in its tanh form (arXiv 1606.08415). */
static inline float active(float x, int gelu) {
    if (!gelu) return x / (1.0f + exponential(-x));
    return x / (1.0f + exponential(-1.59576912f * (x + 0.044715f * x * x * x)));
}
static inline float slope(float x, int gelu) {
    const float inner = gelu ? 1.59576912f * (x + 0.044715f * x * x * x) : x;
    const float steep = gelu ? 1.59576912f * (1.0f + 0.134145f * x * x) : 1.0f;
    const float sigmoid = 1.0f / (1.0f + exponential(-inner));
    return sigmoid * (1.0f + x * steep * (1.0f - sigmoid));
}

/* Gates work on blocks of a fixed length in local memory, a short last one padded: the same instructions for every
 * element, wherever its row lies. */
#define CHUNK 64

static void fetch(const stored *from, int64_t count, float *to) {
    for (int i = 0; i < CHUNK; i++) to[i] = i < count ? widen(from[i]) : 0.0f;
}
static void store(const float *from, int64_t count, stored *to) {
    for (int64_t i = 0; i < count; i++) to[i] = narrow(from[i]);
}
__attribute__((noinline)) static void gate_chunk(const float *restrict g, const float *restrict u, float *restrict y, int gelu) {
    if (gelu)
        for (int i = 0; i < CHUNK; i++) y[i] = active(g[i], 1) * u[i];
    else
        for (int i = 0; i < CHUNK; i++) y[i] = active(g[i], 0) * u[i];
}
__attribute__((noinline)) static void gate_backward_chunk(const float *restrict g, const float *restrict u, const float *restrict d,
                                                          float *restrict dg, float *restrict du, int gelu) {
    if (gelu)
        for (int i = 0; i < CHUNK; i++) du[i] = d[i] * active(g[i], 1), dg[i] = d[i] * u[i] * slope(g[i], 1);
    else
        for (int i = 0; i < CHUNK; i++) du[i] = d[i] * active(g[i], 0), dg[i] = d[i] * u[i] * slope(g[i], 0);
}

/* out [rows, width] = activation(gate) * up of gate_up [rows, 2 * width]. */
void gate(const stored *gate_up, stored *out, int64_t rows, int64_t width, int64_t gelu, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (rows > 16)
    for (int64_t row = 0; row < rows; row++) {
        const stored *g = gate_up + row * 2 * width, *u = g + width;
        float a[CHUNK], b[CHUNK], y[CHUNK];
        for (int64_t i = 0; i < width; i += CHUNK) {
            const int64_t count = width - i < CHUNK ? width - i : CHUNK;
            fetch(g + i, count, a);
            fetch(u + i, count, b);
            gate_chunk(a, b, y, (int)gelu);
            store(y, count, out + row * width + i);
        }
    }
}

void gate_backward(const stored *gate_up, const stored *dy, stored *out, int64_t rows, int64_t width, int64_t gelu,
                   int64_t threads) {
#pragma omp parallel for num_threads(threads) if (rows > 16)
    for (int64_t row = 0; row < rows; row++) {
        const stored *g = gate_up + row * 2 * width, *u = g + width;
        float a[CHUNK], b[CHUNK], d[CHUNK], dg[CHUNK], du[CHUNK];
        for (int64_t i = 0; i < width; i += CHUNK) {
            const int64_t count = width - i < CHUNK ? width - i : CHUNK;
            fetch(g + i, count, a);
            fetch(u + i, count, b);
            fetch(dy + row * width + i, count, d);
            gate_backward_chunk(a, b, d, dg, du, (int)gelu);
            store(dg, count, out + row * 2 * width + i);
            store(du, count, out + row * 2 * width + width + i);
        }
    }
}
