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

/* total = x + delta (delta may be null: then total is x and is not written); normed = total * inverse * weight,
 * inverse = 1 / sqrt(mean(total^2) + eps). */
void add_norm(const stored *x, const stored *delta, const float *weight, stored *total, stored *normed, float *inverse,
              int64_t rows, int64_t width, float eps, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (rows > 32)
    for (int64_t row = 0; row < rows; row++) {
        const int64_t at = row * width;
        const stored *sum = x + at;
        float squares = 0;
        if (delta) {
            for (int64_t i = 0; i < width; i++) total[at + i] = narrow(widen(x[at + i]) + widen(delta[at + i]));
            sum = total + at;
        }
        for (int64_t i = 0; i < width; i++) squares += widen(sum[i]) * widen(sum[i]);
        const float scale = 1.0f / sqrtf(squares / width + eps);
        inverse[row] = scale;
        for (int64_t i = 0; i < width; i++) normed[at + i] = narrow(widen(sum[i]) * scale * weight[i]);
    }
}

/* dx = d_total + the gradient of add_norm's `normed` with respect to `total`; d_total may be null. */
void add_norm_backward(const stored *d_total, const stored *d_normed, const stored *total, const float *inverse,
                       const float *weight, stored *dx, int64_t rows, int64_t width, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (rows > 32)
    for (int64_t row = 0; row < rows; row++) {
        const int64_t at = row * width;
        const float scale = inverse[row];
        float mean = 0;
        for (int64_t i = 0; i < width; i++) mean += widen(d_normed[at + i]) * weight[i] * widen(total[at + i]);
        mean = mean * scale * scale / width;
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
            const stored *from = x + row * stride + head * width;
            stored *to = out + (row * heads + head) * width;
            const stored *c = cosine + row * half, *s = sine + row * half;
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

/* out [rows, width] = activation(gate) * up of gate_up [rows, 2 * width]. */
void gate(const stored *gate_up, stored *out, int64_t rows, int64_t width, int64_t gelu, int64_t threads) {
#pragma omp parallel for num_threads(threads) if (rows > 16)
    for (int64_t row = 0; row < rows; row++) {
        const stored *g = gate_up + row * 2 * width, *u = g + width;
        stored *y = out + row * width;
        if (gelu)
            for (int64_t i = 0; i < width; i++) y[i] = narrow(active(widen(g[i]), 1) * widen(u[i]));
        else
            for (int64_t i = 0; i < width; i++) y[i] = narrow(active(widen(g[i]), 0) * widen(u[i]));
    }
}

void gate_backward(const stored *gate_up, const stored *dy, stored *out, int64_t rows, int64_t width, int64_t gelu,
                   int64_t threads) {
#pragma omp parallel for num_threads(threads) if (rows > 16)
    for (int64_t row = 0; row < rows; row++) {
        const stored *g = gate_up + row * 2 * width, *u = g + width, *d = dy + row * width;
        stored *dg = out + row * 2 * width, *du = dg + width;
        if (gelu)
            for (int64_t i = 0; i < width; i++) {
                du[i] = narrow(widen(d[i]) * active(widen(g[i]), 1));
                dg[i] = narrow(widen(d[i]) * widen(u[i]) * slope(widen(g[i]), 1));
            }
        else
            for (int64_t i = 0; i < width; i++) {
                du[i] = narrow(widen(d[i]) * active(widen(g[i]), 0));
                dg[i] = narrow(widen(d[i]) * widen(u[i]) * slope(widen(g[i]), 0));
            }
    }
}
