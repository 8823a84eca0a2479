/* The inner loops of the slowest metrics, row by row so that intermediate values stay in the processor's cache.

Plain C99. Every sum has a fixed order and nothing is contracted (build with -ffp-contract=off), so that the values do not
depend on the width of the vector unit; exp and atan2 are computed here, by the same arithmetic everywhere. evalkit/compiled/
kernels.py calls these functions with arguments that it made itself; each has a slower form in NumPy beside it. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(WIDE) /* as a test says */
#elif defined(__GNUC__) && defined(__x86_64__) && defined(__linux__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif
#if defined(_WIN32)
#define API __declspec(dllexport)
#else
#define API __attribute__((visibility("default")))
#endif
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

typedef ptrdiff_t size;

enum { LANES = 8, MOST = 5, PART = 256, BLOCK = 1024 };

#define EPSILON 1e-10 /* of VIFP */
#define NOISE 2.0

#if !defined(SOURCE)
#define SOURCE ""
#endif
API const char *evalkit_source(void) { return SOURCE; } /* the SHA-256 of this file, when it was compiled */

/* One pass of a symmetric filter of odd length n over rows p[0..n-1], or over one row shifted, of `count` values. */

INLINE void blend(const double *const *p, const double *w, int n, size count, double *restrict out) {
    int r = n / 2, k = 1;
    const double *middle = p[r];
    double u = w[r];
    if (r >= 4) {
        const double *a = p[r - 1], *b = p[r + 1], *c = p[r - 2], *d = p[r + 2];
        const double *e = p[r - 3], *f = p[r + 3], *g = p[r - 4], *h = p[r + 4];
        double v1 = w[r - 1], v2 = w[r - 2], v3 = w[r - 3], v4 = w[r - 4];
        for (size j = 0; j < count; j++)
            out[j] = u * middle[j] + (v1 * (a[j] + b[j]) + v2 * (c[j] + d[j])) +
                     (v3 * (e[j] + f[j]) + v4 * (g[j] + h[j]));
        k = 5;
    } else
        for (size j = 0; j < count; j++) out[j] = u * middle[j];
    for (; k + 3 <= r; k += 4) {
        const double *a = p[r - k], *b = p[r + k], *c = p[r - k - 1], *d = p[r + k + 1];
        const double *e = p[r - k - 2], *f = p[r + k + 2], *g = p[r - k - 3], *h = p[r + k + 3];
        double v1 = w[r - k], v2 = w[r - k - 1], v3 = w[r - k - 2], v4 = w[r - k - 3];
        for (size j = 0; j < count; j++)
            out[j] += (v1 * (a[j] + b[j]) + v2 * (c[j] + d[j])) + (v3 * (e[j] + f[j]) + v4 * (g[j] + h[j]));
    }
    for (; k <= r; k++) {
        const double *a = p[r - k], *b = p[r + k];
        double v = w[r - k];
        for (size j = 0; j < count; j++) out[j] += v * (a[j] + b[j]);
    }
}

/* Rows of up to MOST products, and their filtered rows, of a block of columns: as many as the nearest cache takes. */

typedef struct {
    int quantities, n;
    size columns, valid, widest;
    const double *w;
    double *ring, *vertical, *filtered; /* quantities x n x columns, columns, quantities x valid */
} Rows;

INLINE int rows_open(Rows *rows, int quantities, const double *w, int n) {
    rows->widest = BLOCK + n - 1;
    rows->quantities = quantities, rows->n = n, rows->w = w;
    rows->ring = malloc(sizeof(double) * (size_t)((quantities * n + 1 + quantities) * rows->widest));
    if (!rows->ring) return 0;
    rows->vertical = rows->ring + (size)quantities * n * rows->widest;
    rows->filtered = rows->vertical + rows->widest;
    return 1;
}

/* The block that begins at a column of the result, which has `valid` of them. */
INLINE void rows_block(Rows *rows, size column, size valid) {
    rows->valid = valid - column < BLOCK ? valid - column : BLOCK;
    rows->columns = rows->valid + rows->n - 1;
}

INLINE double *rows_slot(Rows *rows, int quantity, size row) {
    return rows->ring + ((size)quantity * rows->n + row % rows->n) * rows->widest;
}

INLINE void rows_product(Rows *rows, int quantity, size row, const double *restrict x, const double *restrict y) {
    double *restrict slot = rows_slot(rows, quantity, row);
    if (y)
        for (size j = 0; j < rows->columns; j++) slot[j] = x[j] * y[j];
    else
        memcpy(slot, x, sizeof(double) * (size_t)rows->columns);
}

INLINE double *rows_filter(Rows *rows, int quantity, size first) {
    const double *p[64];
    for (int k = 0; k < rows->n; k++) p[k] = rows_slot(rows, quantity, first + k);
    blend(p, rows->w, rows->n, rows->columns, rows->vertical);
    for (int k = 0; k < rows->n; k++) p[k] = rows->vertical + k;
    double *out = rows->filtered + (size)quantity * rows->widest;
    blend(p, rows->w, rows->n, rows->valid, out);
    return out;
}

/* Filtered x, or x times y, of the windows inside the image, every `step`-th row and column. */

WIDE API int evalkit_filter(const double *x, const double *y, size height, size width, const double *w, int n, int step,
                            double *out) {
    Rows rows;
    if (!rows_open(&rows, 1, w, n)) return 0;
    size valid = width - n + 1, out_columns = (valid + step - 1) / step;
    for (size c = 0; c < valid; c += BLOCK) { /* BLOCK is even: a step of 2 begins anew */
        rows_block(&rows, c, valid);
        for (size i = 0; i < height; i++) {
            size at = i * width + c, first = i - n + 1;
            rows_product(&rows, 0, i, x + at, y ? y + at : NULL);
            if (first < 0 || first % step) continue;
            const double *row = rows_filter(&rows, 0, first);
            double *target = out + first / step * out_columns + c / step;
            for (size j = 0; j * step < rows.valid; j++) target[j] = row[j * step];
        }
    }
    free(rows.ring);
    return 1;
}

/* The sum of ln(terms), each in [1, 2^17), by logarithms of products of 32. */

typedef struct {
    double lanes[LANES], sum;
    int held;
} Logs;

INLINE void logs_open(Logs *logs) {
    for (int k = 0; k < LANES; k++) logs->lanes[k] = 1;
    logs->sum = 0, logs->held = 0;
}

INLINE void logs_flush(Logs *logs) {
    for (int k = 0; k < LANES; k++) logs->sum += log(logs->lanes[k]), logs->lanes[k] = 1;
    logs->held = 0;
}

INLINE void logs_row(Logs *logs, const double *restrict terms, size count) {
    size j = 0;
    double lanes[LANES];
    memcpy(lanes, logs->lanes, sizeof lanes);
    for (; j + LANES <= count; j += LANES) {
        for (int k = 0; k < LANES; k++) lanes[k] *= terms[j + k];
        if (++logs->held == 31) {
            memcpy(logs->lanes, lanes, sizeof lanes);
            logs_flush(logs);
            memcpy(lanes, logs->lanes, sizeof lanes);
        }
    }
    memcpy(logs->lanes, lanes, sizeof lanes);
    for (int k = 0; j < count; j++, k++) logs->lanes[k] *= terms[j];
    if (++logs->held >= 31) logs_flush(logs);
}

/* VIFP at one scale. Local mean and variance of an image, the variance never negative and 0 below EPSILON. */

INLINE void clamp_variance(const double *restrict mean, double *restrict variance, size count) {
    for (size j = 0; j < count; j++) {
        double v = variance[j] - mean[j] * mean[j];
        variance[j] = v < EPSILON ? 0 : v;
    }
}

WIDE API int evalkit_moments(const double *x, size height, size width, const double *w, int n, double *mean,
                             double *variance) {
    Rows rows;
    if (!rows_open(&rows, 2, w, n)) return 0;
    size valid = width - n + 1;
    for (size c = 0; c < valid; c += BLOCK) {
        rows_block(&rows, c, valid);
        for (size i = 0; i < height; i++) {
            const double *row = x + i * width + c;
            rows_product(&rows, 0, i, row, NULL);
            rows_product(&rows, 1, i, row, row);
            size first = i - n + 1, at = first * valid + c;
            if (first < 0) continue;
            double *m = rows_filter(&rows, 0, first), *v = rows_filter(&rows, 1, first);
            clamp_variance(m, v, rows.valid);
            memcpy(mean + at, m, sizeof(double) * (size_t)rows.valid);
            memcpy(variance + at, v, sizeof(double) * (size_t)rows.valid);
        }
    }
    free(rows.ring);
    return 1;
}

/* 1 / (v + EPSILON), 0 where v is 0, in its place. */
INLINE void invert(double *restrict variance, size count) {
    for (size j = 0; j < count; j++) variance[j] = variance[j] == 0 ? 0 : 1 / (variance[j] + EPSILON);
}

/* 1 + g^2 v_s / (v + NOISE) over `product`, the mean of the products of both images. */
INLINE void gain_terms(double *restrict product, const double *restrict mean_f, const double *restrict variance_f,
                       const double *restrict mean_s, const double *restrict inverse_s, size count) {
    for (size j = 0; j < count; j++) {
        double covariance = product[j] - mean_f[j] * mean_s[j];
        covariance = covariance > 0 && variance_f[j] != 0 ? covariance : 0;
        double inverse = inverse_s[j];
        double explained = covariance * covariance * inverse;
        double unexplained = variance_f[j] - explained;
        unexplained = (unexplained > EPSILON ? unexplained : EPSILON) + NOISE;
        explained -= EPSILON * inverse * explained;
        product[j] = explained / unexplained + 1;
    }
}

INLINE void noise_terms(const double *restrict variance, double *restrict terms, size count) {
    for (size j = 0; j < count; j++) terms[j] = 1 + variance[j] / NOISE;
}

/* sum ln(1 + v_s / NOISE) of a variance that was computed, which is then inverted. */
WIDE API double evalkit_information(double *variance, size count) {
    double terms[1024];
    Logs logs;
    logs_open(&logs);
    for (size j = 0; j < count; j += 1024) {
        size part = count - j < 1024 ? count - j : 1024;
        noise_terms(variance + j, terms, part);
        logs_row(&logs, terms, part);
        invert(variance + j, part);
    }
    logs_flush(&logs);
    return logs.sum;
}

/* What of a source is kept, from moments that were computed. */
WIDE API int evalkit_kept(const double *f, const double *s, size height, size width, const double *w, int n,
                          const double *mean_f, const double *variance_f, const double *mean_s,
                          const double *inverse_s, double *kept) {
    Rows rows;
    Logs logs;
    if (!rows_open(&rows, 1, w, n)) return 0;
    logs_open(&logs);
    size valid = width - n + 1;
    for (size c = 0; c < valid; c += BLOCK) {
        rows_block(&rows, c, valid);
        for (size i = 0; i < height; i++) {
            rows_product(&rows, 0, i, f + i * width + c, s + i * width + c);
            size first = i - n + 1, at = first * valid + c;
            if (first < 0) continue;
            double *terms = rows_filter(&rows, 0, first);
            gain_terms(terms, mean_f + at, variance_f + at, mean_s + at, inverse_s + at, rows.valid);
            logs_row(&logs, terms, rows.valid);
        }
    }
    logs_flush(&logs);
    *kept = logs.sum;
    free(rows.ring);
    return 1;
}

/* Mean f, mean s, f^2, s^2 and f s of a row's windows, in q; 0 where a window is not complete yet. */
INLINE int five_rows(Rows *rows, const double *f, const double *s, size i, double **q) {
    rows_product(rows, 0, i, f, NULL);
    rows_product(rows, 1, i, s, NULL);
    rows_product(rows, 2, i, f, f);
    rows_product(rows, 3, i, s, s);
    rows_product(rows, 4, i, f, s);
    size first = i - rows->n + 1;
    if (first < 0) return 0;
    for (int k = 0; k < 5; k++) q[k] = rows_filter(rows, k, first);
    return 1;
}

/* The same and the source's information without anything that was computed before: no memory but some rows. */
WIDE API int evalkit_kept_alone(const double *f, const double *s, size height, size width, const double *w, int n,
                                double *kept, double *information) {
    Rows rows;
    Logs of_kept, of_source;
    if (!rows_open(&rows, 5, w, n)) return 0;
    logs_open(&of_kept), logs_open(&of_source);
    for (size c = 0; c < width - n + 1; c += BLOCK) {
        rows_block(&rows, c, width - n + 1);
        for (size i = 0; i < height; i++) {
            double *q[MOST], *terms = rows.vertical; /* free until the next row is filtered */
            if (!five_rows(&rows, f + i * width + c, s + i * width + c, i, q)) continue;
            clamp_variance(q[0], q[2], rows.valid);
            clamp_variance(q[1], q[3], rows.valid);
            noise_terms(q[3], terms, rows.valid);
            logs_row(&of_source, terms, rows.valid);
            invert(q[3], rows.valid);
            gain_terms(q[4], q[0], q[2], q[1], q[3], rows.valid);
            logs_row(&of_kept, q[4], rows.valid);
        }
    }
    logs_flush(&of_kept), logs_flush(&of_source);
    *kept = of_kept.sum, *information = of_source.sum;
    free(rows.ring);
    return 1;
}

/* Sums in a fixed order: a row by LANES lanes. */

INLINE double row_sum(const double *restrict x, size count) {
    double lanes[LANES] = {0};
    size j = 0;
    for (; j + LANES <= count; j += LANES)
        for (int k = 0; k < LANES; k++) lanes[k] += x[j + k];
    for (int k = 0; j < count; j++, k++) lanes[k] += x[j];
    double sum = 0;
    for (int k = 0; k < LANES; k++) sum += lanes[k];
    return sum;
}

/* Structural similarity. */

INLINE void similarity(const double *restrict mean_f, const double *restrict mean_s, double *restrict squares_f,
                       const double *restrict squares_s, const double *restrict product, size count, double correction,
                       double c1, double c2) {
    for (size j = 0; j < count; j++) {
        double f = mean_f[j], s = mean_s[j], fs = f * s, ff = f * f, ss = s * s;
        double above = (2 * ((product[j] - fs) * correction) + c2) * (2 * fs + c1);
        double below = (ff + ss + c1) * ((squares_f[j] - ff) * correction + (squares_s[j] - ss) * correction + c2);
        squares_f[j] = above / below;
    }
}

/* The same by its two factors; contrast times structure stays in squares_s. */
INLINE void similarity_parts(const double *restrict mean_f, const double *restrict mean_s, double *restrict squares_f,
                             double *restrict squares_s, const double *restrict product, size count, double c1,
                             double c2) {
    for (size j = 0; j < count; j++) {
        double f = mean_f[j], s = mean_s[j], fs = f * s, ff = f * f, ss = s * s;
        double contrast = (2 * (product[j] - fs) + c2) / ((squares_f[j] - ff) + (squares_s[j] - ss) + c2);
        squares_s[j] = contrast;
        squares_f[j] = contrast * ((2 * fs + c1) / (ff + ss + c1));
    }
}

/* The sums of SSIM, and of its contrast times structure, over all windows inside the image of a filter w. */
WIDE API int evalkit_ssim_parts(const double *f, const double *s, size height, size width, const double *w, int n,
                                double c1, double c2, double *sum, double *contrast) {
    Rows rows;
    if (!rows_open(&rows, 5, w, n)) return 0;
    double total = 0, total_contrast = 0;
    for (size c = 0; c < width - n + 1; c += BLOCK) {
        rows_block(&rows, c, width - n + 1);
        for (size i = 0; i < height; i++) {
            double *q[MOST];
            if (!five_rows(&rows, f + i * width + c, s + i * width + c, i, q)) continue;
            similarity_parts(q[0], q[1], q[2], q[3], q[4], rows.valid, c1, c2);
            total += row_sum(q[2], rows.valid);
            total_contrast += row_sum(q[3], rows.valid);
        }
    }
    *sum = total, *contrast = total_contrast;
    free(rows.ring);
    return 1;
}

/* The sum of SSIM over all windows inside the image of a filter w. */
WIDE API int evalkit_ssim(const double *f, const double *s, size height, size width, const double *w, int n,
                          double correction, double c1, double c2, double *sum) {
    Rows rows;
    if (!rows_open(&rows, 5, w, n)) return 0;
    double total = 0;
    for (size c = 0; c < width - n + 1; c += BLOCK) {
        rows_block(&rows, c, width - n + 1);
        for (size i = 0; i < height; i++) {
            double *q[MOST];
            if (!five_rows(&rows, f + i * width + c, s + i * width + c, i, q)) continue;
            similarity(q[0], q[1], q[2], q[3], q[4], rows.valid, correction, c1, c2);
            total += row_sum(q[2], rows.valid);
        }
    }
    *sum = total;
    free(rows.ring);
    return 1;
}

/* The same for windows of n x n equal weights: their sums are integers. n * n * 255^2 must be below 2^31. */
WIDE API int evalkit_ssim_box(const uint8_t *f, const uint8_t *s, size height, size width, int n, double correction,
                              double c1, double c2, double *sum) {
    size valid = width - n + 1;
    int32_t *columns = calloc((size_t)(5 * width), sizeof(int32_t));
    double *means = malloc(sizeof(double) * (size_t)(5 * valid));
    if (!columns || !means) {
        free(columns), free(means);
        return 0;
    }
    double total = 0, weight = 1.0 / (n * n);
    int32_t *cf = columns, *cs = cf + width, *cff = cs + width, *css = cff + width, *cfs = css + width;
    for (size i = 0; i < height; i++) {
        const uint8_t *a = f + i * width, *b = s + i * width;
        for (size j = 0; j < width; j++) {
            int32_t x = a[j], y = b[j];
            cf[j] += x, cs[j] += y, cff[j] += x * x, css[j] += y * y, cfs[j] += x * y;
        }
        if (i >= n) {
            const uint8_t *old_a = a - n * width, *old_b = b - n * width;
            for (size j = 0; j < width; j++) {
                int32_t x = old_a[j], y = old_b[j];
                cf[j] -= x, cs[j] -= y, cff[j] -= x * x, css[j] -= y * y, cfs[j] -= x * y;
            }
        }
        if (i < n - 1) continue;
        for (int q = 0; q < 5; q++) {
            const int32_t *column = columns + q * width;
            double *restrict mean = means + q * valid;
            int32_t window[64];
            size j = 0;
            for (; j + 64 <= valid; j += 64) { /* the sum of n shifted columns, in registers of integers */
                for (int k = 0; k < 64; k++) window[k] = column[j + k];
                for (int m = 1; m < n; m++)
                    for (int k = 0; k < 64; k++) window[k] += column[j + k + m];
                for (int k = 0; k < 64; k++) mean[j + k] = window[k] * weight;
            }
            for (; j < valid; j++) {
                int32_t one = column[j];
                for (int m = 1; m < n; m++) one += column[j + m];
                mean[j] = one * weight;
            }
        }
        double *m = means;
        similarity(m, m + valid, m + 2 * valid, m + 3 * valid, m + 4 * valid, valid, correction, c1, c2);
        total += row_sum(m + 2 * valid, valid);
    }
    *sum = total;
    free(columns), free(means);
    return 1;
}

/* Edge transfer (Qabf). */

INLINE double exponential(double x) { /* e^x for |x| < 700, to about an ulp */
    const double magic = 0x1.8p52;
    double shifted = x * 0x1.71547652b82fep0 + magic, k = shifted - magic;
    double r = x - k * 0x1.62e42fee00000p-1;
    r -= k * 0x1.a39ef35793c76p-33;
    double p = 0x1.af38a9b0ec855p-26; /* (e^r - 1 - r) / r^2 */
    p = p * r + 0x1.289185613a3d6p-22;
    p = p * r + 0x1.71de0dae63bb3p-19;
    p = p * r + 0x1.a019b90d2ae7ap-16;
    p = p * r + 0x1.a01a01a7c41d5p-13;
    p = p * r + 0x1.6c16c1788bd90p-10;
    p = p * r + 0x1.11111111109b3p-7;
    p = p * r + 0x1.5555555553d63p-5;
    p = p * r + 0x1.5555555555556p-3;
    p = p * r + 0x1.0000000000001p-1;
    p = p * (r * r) + r + 1;
    uint64_t bits, scale;
    memcpy(&bits, &p, 8), memcpy(&scale, &shifted, 8);
    bits += scale << 52;
    memcpy(&p, &bits, 8);
    return p;
}

INLINE double angle(double y, double x) { /* atan2(y, x) for y >= 0, not both 0, to about an ulp */
    const double pi = 0x1.921fb54442d18p1;
    double across = x < 0 ? -x : x;
    double low = across < y ? across : y, high = across < y ? y : across;
    int far = low > 0x1.a827999fcef32p-2 * high; /* beyond tan(pi / 8): about pi / 4 */
    double t = (far ? low - high : low) / (far ? low + high : high);
    double z = t * t;
    double p = 0x1.ef3f736798091p-7;
    p = p * z - 0x1.118357ca27435p-5;
    p = p * z + 0x1.70995e9961734p-5;
    p = p * z - 0x1.ab66f999273fbp-5;
    p = p * z + 0x1.e16e24513a73ep-5;
    p = p * z - 0x1.110c3a7ccdb74p-4;
    p = p * z + 0x1.3b1369d8f07f5p-4;
    p = p * z - 0x1.745d1480b7932p-4;
    p = p * z + 0x1.c71c71b563986p-4;
    p = p * z - 0x1.2492492470754p-3;
    p = p * z + 0x1.9999999999566p-3;
    p = p * z - 0x1.5555555555554p-2;
    double a = t + t * z * p;
    a = far ? a + pi / 4 : a;
    a = across < y ? pi / 2 - a : a;
    return x < 0 ? pi - a : a;
}

/* Sobel's strength of row i of an image with a border of one pixel, and e^(44 a / pi) of its orientation a = atan(y / x) in
(-pi/2, pi/2], y upwards, pi/2 where x is 0. The factor is that of the sigmoid below: there, the angle between two
orientations is a ratio. One step after the other over a part of a row: the processor works on several pixels of a short
step at once, and on one of a long step. */
INLINE void edge_row(const uint8_t *image, size stride, size i, size width, double *restrict strength,
                     double *restrict turn) {
    const uint8_t *a = image + i * stride, *b = a + stride, *c = b + stride;
    double x[PART], y[PART];
    for (size start = 0; start < width; start += PART, a += PART, b += PART, c += PART, strength += PART, turn += PART) {
        size count = width - start < PART ? width - start : PART;
        for (size j = 0; j < count; j++) {
            int32_t sx = (a[j + 2] - a[j]) + 2 * (b[j + 2] - b[j]) + (c[j + 2] - c[j]);
            int32_t sy = (c[j] + 2 * c[j + 1] + c[j + 2]) - (a[j] + 2 * a[j + 1] + a[j + 2]);
            int32_t sign = sx < 0 ? -1 : 1;
            x[j] = sign * sx;
            y[j] = sx == 0 ? 1 : -sign * sy;
            strength[j] = sx * sx + sy * sy;
        }
        for (size j = 0; j < count; j++) strength[j] = sqrt(strength[j]);
        for (size j = 0; j < count; j++) {
            double across = angle(y[j] < 0 ? -y[j] : y[j], x[j]) * (22 * 2 / 0x1.921fb54442d18p1);
            x[j] = y[j] < 0 ? -across : across;
        }
        for (size j = 0; j < count; j++) turn[j] = exponential(x[j]);
    }
}

/* The same of a whole image. */
WIDE API void evalkit_edges(const uint8_t *image, size height, size width, double *strength, double *turn) {
    for (size i = 0; i < height; i++)
        edge_row(image, width + 2, i, width, strength + i * width, turn + i * width);
}

/* What of a source's edges is kept, pixel by pixel, times their strength. */
INLINE void preserved_row(const double *restrict fg, const double *restrict ft, const double *restrict sg,
                          const double *restrict st, size width, int equal_is_one, double *restrict out) {
    const double level = 0x1.924dcaaeca804p-7; /* e^(-22 (1 - 0.8)) */
    double strength[PART];
    for (size start = 0; start < width; start += PART, fg += PART, ft += PART, sg += PART, st += PART, out += PART) {
        size count = width - start < PART ? width - start : PART;
        /* constants of Xydeas and Petrovic: Gamma, kappa, sigma for strength and orientation */
        for (size j = 0; j < count; j++) {
            double low = fg[j] < sg[j] ? fg[j] : sg[j], high = fg[j] < sg[j] ? sg[j] : fg[j];
            double ratio = low == high ? (equal_is_one ? 1.0 : fg[j]) : low / high;
            double exponent = ratio * -15 + 15 * 0.5;
            strength[j] = exponent < -700 ? -700 : exponent;
        }
        for (size j = 0; j < count; j++) strength[j] = exponential(strength[j]) + 1;
        for (size j = 0; j < count; j++) {
            double low = ft[j] < st[j] ? ft[j] : st[j], high = ft[j] < st[j] ? st[j] : ft[j];
            out[j] = 0.9994 * 0.9879 * (sg[j] * low) / (strength[j] * (level * high + low));
        }
    }
}

/* Adds what the fused image keeps of both sources' edges to `kept`, all of them to `total`. It has a border of a pixel. */
WIDE API int evalkit_edges_kept(const uint8_t *fused, size height, size width, const double *first_strength,
                                const double *first_turn, const double *second_strength, const double *second_turn,
                                int equal_is_one, double *kept, double *total) {
    double *rows = malloc(sizeof(double) * (size_t)(3 * width));
    if (!rows) return 0;
    double *strength = rows, *turn = rows + width, *out = turn + width;
    for (size i = 0; i < height; i++) {
        size at = i * width;
        edge_row(fused, width + 2, i, width, strength, turn);
        preserved_row(strength, turn, first_strength + at, first_turn + at, width, equal_is_one, out);
        kept[0] += row_sum(out, width), total[0] += row_sum(first_strength + at, width);
        preserved_row(strength, turn, second_strength + at, second_turn + at, width, equal_is_one, out);
        kept[1] += row_sum(out, width), total[1] += row_sum(second_strength + at, width);
    }
    free(rows);
    return 1;
}

/* Gray levels. */

WIDE API double evalkit_gradient_sum(const uint8_t *x, size height, size width) { /* of numpy.gradient's magnitude */
    double total = 0, row[512];
    for (size i = 0; i < height; i++) {
        const uint8_t *here = x + i * width;
        const uint8_t *up = i ? here - width : here, *down = i + 1 < height ? here + width : here;
        double v = i && i + 1 < height ? 0.5 : 1.0;
        for (size start = 0; start < width; start += 512) {
            size end = start + 512 < width ? start + 512 : width;
            for (size j = start; j < end; j++) {
                size left = j ? j - 1 : 0, right = j + 1 < width ? j + 1 : j;
                double h = j && j + 1 < width ? 0.5 : 1.0;
                double gx = (here[right] - here[left]) * h, gy = (down[j] - up[j]) * v;
                row[j - start] = gx * gx + gy * gy;
            }
            for (size j = 0; j < end - start; j++) row[j] = sqrt(row[j]);
            total += row_sum(row, end - start);
        }
    }
    return total;
}

WIDE API void evalkit_differences(const uint8_t *x, size height, size width, int64_t *across, int64_t *down) {
    int64_t dx = 0, dy = 0;
    for (size i = 0; i < height; i++) {
        const uint8_t *here = x + i * width, *next = here + width;
        for (size start = 0; start < width; start += 1024) { /* 1024 squares fit into 32 bits */
            size end = start + 1024 < width ? start + 1024 : width;
            uint32_t sum_x = 0, sum_y = 0;
            for (size j = start; j < (end < width - 1 ? end : width - 1); j++) {
                int32_t d = here[j + 1] - here[j];
                sum_x += (uint32_t)(d * d);
            }
            if (i + 1 < height)
                for (size j = start; j < end; j++) {
                    int32_t d = next[j] - here[j];
                    sum_y += (uint32_t)(d * d);
                }
            dx += sum_x, dy += sum_y;
        }
    }
    *across = dx, *down = dy;
}

API int evalkit_joint(const uint8_t *row, const uint8_t *column, size count, int64_t *counts) {
    uint32_t *part = calloc(2 * 65536, sizeof(uint32_t)); /* two, so that equal neighbours do not wait for each other */
    if (!part) return 0;
    for (size start = 0; start < count; start += 0x7fffffff) {
        size end = count - start > 0x7fffffff ? start + 0x7fffffff : count;
        size j = start;
        for (; j + 2 <= end; j += 2) {
            part[row[j] << 8 | column[j]]++;
            part[65536 | row[j + 1] << 8 | column[j + 1]]++;
        }
        if (j < end) part[row[j] << 8 | column[j]]++;
        for (int k = 0; k < 65536; k++) counts[k] += (int64_t)part[k] + part[65536 + k];
        memset(part, 0, 2 * 65536 * sizeof(uint32_t));
    }
    free(part);
    return 1;
}

API void evalkit_histogram(const uint8_t *x, size count, int64_t *counts) {
    uint32_t part[4][256];
    for (size start = 0; start < count; start += 0x7ffffffc) {
        size end = count - start > 0x7ffffffc ? start + 0x7ffffffc : count;
        size j = start;
        memset(part, 0, sizeof part);
        for (; j + 4 <= end; j += 4)
            for (int k = 0; k < 4; k++) part[k][x[j + k]]++;
        for (; j < end; j++) part[0][x[j]]++;
        for (int k = 0; k < 256; k++) counts[k] += (int64_t)part[0][k] + part[1][k] + part[2][k] + part[3][k];
    }
}

/* Phase congruency: what four filters of one orientation, rows of interleaved complex numbers, say of each pixel. */

#define SPREAD 1e-4 /* against 0/0 */

INLINE void phase_part(const double *const *response, size count, double threshold, double *restrict energy,
                       double *restrict amplitude) {
    double even[4][PART], odd[4][PART], most[PART], u[PART], v[PART];
    for (size j = 0; j < count; j++) amplitude[j] = most[j] = u[j] = v[j] = 0, energy[j] = -threshold;
    for (int k = 0; k < 4; k++) {
        const double *r = response[k];
        double *restrict e = even[k], *restrict o = odd[k];
        for (size j = 0; j < count; j++) e[j] = r[2 * j], o[j] = r[2 * j + 1];
        for (size j = 0; j < count; j++) {
            double x = sqrt(e[j] * e[j] + o[j] * o[j]);
            amplitude[j] += x;
            most[j] = x > most[j] ? x : most[j];
            u[j] += e[j], v[j] += o[j];
        }
    }
    for (size j = 0; j < count; j++) {
        double length = sqrt(u[j] * u[j] + v[j] * v[j]) + SPREAD;
        u[j] /= length, v[j] /= length;
    }
    for (int k = 0; k < 4; k++) {
        const double *restrict e = even[k], *restrict o = odd[k];
        for (size j = 0; j < count; j++) energy[j] += e[j] * u[j] + o[j] * v[j] - fabs(e[j] * v[j] - o[j] * u[j]);
    }
    for (size j = 0; j < count; j++) {
        double above = energy[j] > 0 ? energy[j] : 0;
        energy[j] = above / (1 + exponential(10 * 0.5 - 10.0 / 4 * (amplitude[j] / (most[j] + SPREAD))));
    }
}

WIDE API void evalkit_phase(const double *first, const double *second, const double *third, const double *fourth,
                            size count, double threshold, double angle, double spread, double *energies,
                            double *amplitudes, double *xx, double *yy, double *xy) {
    double energy[PART], amplitude[PART], c = cos(angle), s = sin(angle);
    for (size start = 0; start < count; start += PART) {
        size n = start + PART < count ? PART : count - start;
        const double *const response[] = {first + 2 * start, second + 2 * start, third + 2 * start, fourth + 2 * start};
        phase_part(response, n, threshold, energy, amplitude);
        for (size j = 0; j < n; j++) {
            energies[start + j] += energy[j], amplitudes[start + j] += amplitude[j];
            double congruency = energy[j] / (amplitude[j] + spread), squared = congruency * congruency;
            xx[start + j] += squared * (c * c), yy[start + j] += squared * (s * s), xy[start + j] += squared * (c * s);
        }
    }
}

/* complex spectrum times two real gains */

WIDE API void evalkit_gain(const double *x, const double *one, const double *other, size count, double *restrict out) {
    for (size j = 0; j < count; j++) {
        double gain = one[j] * other[j];
        out[2 * j] = x[2 * j] * gain, out[2 * j + 1] = x[2 * j + 1] * gain;
    }
}

WIDE API void evalkit_power(const double *x, size count, double *restrict out) {
    for (size j = 0; j < count; j++) out[j] = x[2 * j] * x[2 * j] + x[2 * j + 1] * x[2 * j + 1];
}

/* The rows of a PNG from its inflated data, each after the kind of its filter (PNG, third edition, 9.2 and 12): what is
predicted from the pixels to the left, above, and above the left one is added. */

INLINE uint8_t paeth(int left, int above, int corner) {
    int to_left = abs(above - corner), to_above = abs(left - corner), to_corner = abs(left + above - 2 * corner);
    int nearest = to_above <= to_corner ? above : corner;
    return (uint8_t)(to_left <= to_above && to_left <= to_corner ? left : nearest);
}

INLINE int png_row(int kind, const uint8_t *restrict x, const uint8_t *restrict up, size count, int channels,
                   uint8_t *restrict out) {
    int left[4] = {0}, corner[4] = {0};
    switch (kind) {
    case 0: memcpy(out, x, (size_t)count); return 1;
    case 1:
        for (size j = 0; j < count; j += channels)
            for (int k = 0; k < channels; k++) out[j + k] = (uint8_t)(left[k] = (x[j + k] + left[k]) & 255);
        return 1;
    case 2:
        for (size j = 0; j < count; j++) out[j] = (uint8_t)(x[j] + up[j]);
        return 1;
    case 3:
        for (size j = 0; j < count; j += channels)
            for (int k = 0; k < channels; k++)
                out[j + k] = (uint8_t)(left[k] = (x[j + k] + ((left[k] + up[j + k]) >> 1)) & 255);
        return 1;
    case 4:
        for (size j = 0; j < count; j += channels)
            for (int k = 0; k < channels; k++) {
                int above = up[j + k];
                out[j + k] = (uint8_t)(left[k] = (x[j + k] + paeth(left[k], above, corner[k])) & 255);
                corner[k] = above;
            }
        return 1;
    default: return 0;
    }
}

/* 1 or 3 channels of 8 bits; returns whether there are no other filters than those five. */
API int evalkit_png_rows(const uint8_t *x, size height, size width, int channels, uint8_t *out) {
    size count = width * channels;
    uint8_t *zeros = calloc((size_t)count, 1);
    if (!zeros) return 0;
    int known = 1;
    const uint8_t *up = zeros;
    for (size i = 0; i < height && known; i++, x += count + 1, up = out, out += count)
        known = channels == 1 ? png_row(x[0], x + 1, up, count, 1, out) : png_row(x[0], x + 1, up, count, 3, out);
    free(zeros);
    return known;
}
