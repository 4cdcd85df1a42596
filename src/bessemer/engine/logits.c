/* Float32 logits of the likely tokens: a bfloat16 product rounds a logit of 25 to a multiple of 1/8, so the tokens within
 * `margin` of a row's largest logit are computed again in float32, in sixteen partial sums of a fixed order. */
#include <stdint.h>

#define LANES 16
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2)));

static inline float widen(uint16_t x) {
    union { uint32_t u; float f; } v = {.u = (uint32_t)x << 16};
    return v.f;
}
static inline lanes widened(const uint16_t *x) {
    return (lanes)(__builtin_convertvector(*(const halves *)x, words) << 16);
}
static float dot(const uint16_t *a, const uint16_t *b, int64_t width) {
    lanes sum = {0};
    float total = 0;
    int64_t i = 0;
    for (; i + LANES <= width; i += LANES) sum += widened(a + i) * widened(b + i);
    for (; i < width; i++) total += widen(a[i]) * widen(b[i]);
    for (int l = 0; l < LANES; l++) total += sum[l];
    return total;
}

/* hidden [rows, width], head [vocabulary, width], logits [rows, vocabulary] in place. */
void refine(const uint16_t *hidden, const uint16_t *head, float *logits, int64_t rows, int64_t width,
            int64_t vocabulary, float margin, int64_t threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t row = 0; row < rows; row++) {
        float *values = logits + row * vocabulary;
        float best = values[0];
        for (int64_t v = 1; v < vocabulary; v++) best = values[v] > best ? values[v] : best;
        for (int64_t v = 0; v < vocabulary; v++)
            if (values[v] > best - margin) values[v] = dot(hidden + row * width, head + v * width, width);
    }
}
