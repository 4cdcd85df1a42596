/* The compiled part of rungs: what kernel.py calls. Texts are UTF-32; nothing is kept between calls but the classes. */

#include "texts.h"
#include "similarity.h"
#include "comparison.h"
#include "ngrams.h"

typedef struct {
    const int32_t *feature;
    const double *threshold;
    const uint8_t *missing_left;
    const int32_t *left, *right;
    const double *value;
    const int32_t *roots, *column;
    const double *rows;        /* [rows][features] */
    double *outputs;           /* [rows][columns], begun with the base */
    int64_t rows_n, features, trees, columns;
} Forest;

/* Add the trees' values; a leaf is its own child, others have theirs behind them. Tree by tree: it stays in the cache. */
void walk_trees(const Forest *job) {
    for (int64_t tree = 0; tree < job->trees; tree++)
        for (int64_t row = 0; row < job->rows_n; row++) {
            const double *x = job->rows + row * job->features;
            int32_t at = job->roots[tree];
            while (job->left[at] != at) {
                double seen = x[job->feature[at]];
                int goes_left = isnan(seen) ? job->missing_left[at] : seen <= job->threshold[at];
                at = goes_left ? job->left[at] : job->right[at];
            }
            job->outputs[row * job->columns + job->column[tree]] += job->value[at];
        }
}
