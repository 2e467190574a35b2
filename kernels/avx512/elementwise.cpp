// Norms, rotary embeddings and gates. bfloat16 in memory, float32 in registers: a result is rounded once.
#include "vectors.h"

namespace preftree {
namespace {

// 1 / sqrt(mean of squares + eps)
float rms_scale(__m512 squares, int64_t width, float eps) {
  return 1 / std::sqrt(_mm512_reduce_add_ps(squares) / static_cast<float>(width) + eps);
}

struct Norm {
  const float* weight;  // null for none
  float eps;
};

// residual [rows, width] float32 gets `update` [rows, width] added, where that is not null; out: the norm of the sum,
// from whose numbers their mean is taken before where it is `centred`.
template <bool centred>
void add_norm(float* residual, const uint16_t* update, const float* weight, float eps, uint16_t* out, int64_t rows,
              int64_t width) {
  for (int64_t row = 0; row < rows; row++, residual += width, out += width) {
    __m512 squares = _mm512_setzero_ps(), total = _mm512_setzero_ps(), mean = _mm512_setzero_ps();
    for (int64_t i = 0; i < width; i += kVector) {
      const __mmask16 mask = lowest(width - i);
      __m512 x = _mm512_maskz_loadu_ps(mask, residual + i);
      if (update) {
        x = _mm512_add_ps(x, widened(mask, update + row * width + i));
        _mm512_mask_storeu_ps(residual + i, mask, x);
      }
      if (centred)
        total = _mm512_add_ps(total, x);
      else
        squares = _mm512_fmadd_ps(x, x, squares);
    }
    if (centred) {
      mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) / static_cast<float>(width));
      for (int64_t i = 0; i < width; i += kVector) {
        const __mmask16 mask = lowest(width - i);
        const __m512 x = _mm512_maskz_sub_ps(mask, _mm512_maskz_loadu_ps(mask, residual + i), mean);
        squares = _mm512_fmadd_ps(x, x, squares);
      }
    }
    const __m512 scale = _mm512_set1_ps(rms_scale(squares, width, eps));
    for (int64_t i = 0; i < width; i += kVector) {
      const __mmask16 mask = lowest(width - i);
      __m512 x = _mm512_maskz_loadu_ps(mask, residual + i);
      if (centred) x = _mm512_sub_ps(x, mean);
      x = _mm512_mul_ps(x, scale);
      store_narrow(mask, out + i, _mm512_mul_ps(x, _mm512_maskz_loadu_ps(mask, weight + i)));
    }
  }
}

// A head's left and right halves as complex numbers, normed before where there is a norm.
void rotate_head(const bfloat16* x, const float* cosines, const float* sines, Norm norm, bfloat16* out, int64_t size) {
  const int64_t half = size / 2;
  __m512 scale = _mm512_set1_ps(1);
  if (norm.weight) {
    __m512 squares = _mm512_setzero_ps();
    for (int64_t i = 0; i < size; i += kVector) {
      const __m512 part = widened(lowest(size - i), x + i);
      squares = _mm512_fmadd_ps(part, part, squares);
    }
    scale = _mm512_set1_ps(rms_scale(squares, size, norm.eps));
  }
  for (int64_t i = 0; i < half; i += kVector) {
    const __mmask16 mask = lowest(half - i);
    __m512 left = widened(mask, x + i), right = widened(mask, x + half + i);
    if (norm.weight) {
      left = _mm512_mul_ps(_mm512_mul_ps(left, scale), _mm512_maskz_loadu_ps(mask, norm.weight + i));
      right = _mm512_mul_ps(_mm512_mul_ps(right, scale), _mm512_maskz_loadu_ps(mask, norm.weight + half + i));
    }
    const __m512 cosine = _mm512_maskz_loadu_ps(mask, cosines + i), sine = _mm512_maskz_loadu_ps(mask, sines + i);
    store_narrow(mask, out + i, _mm512_fmsub_ps(left, cosine, _mm512_mul_ps(right, sine)));
    store_narrow(mask, out + half + i, _mm512_fmadd_ps(right, cosine, _mm512_mul_ps(left, sine)));
  }
}

}  // namespace
}  // namespace preftree

using namespace preftree;

extern "C" {

void preftree_add_rms_norm(float* residual, const uint16_t* update, const float* weight, float eps, uint16_t* out,
                           int64_t rows, int64_t width) {
  add_norm<false>(residual, update, weight, eps, out, rows, width);
}

void preftree_add_layer_norm(float* residual, const uint16_t* update, const float* weight, float eps, uint16_t* out,
                             int64_t rows, int64_t width) {
  add_norm<true>(residual, update, weight, eps, out, rows, width);
}

// Rows of `products` [.., width] that `places` [rows, terms] names, times `weights`, added up one after the other.
void preftree_combine(const uint16_t* products, const int64_t* places, const float* weights, uint16_t* out,
                      int64_t rows, int64_t terms, int64_t width) {
  for (int64_t row = 0; row < rows; row++, places += terms, weights += terms, out += width)
    for (int64_t i = 0; i < width; i += kVector) {
      const __mmask16 mask = lowest(width - i);
      __m512 sum = _mm512_setzero_ps();
      for (int64_t term = 0; term < terms; term++)
        sum = _mm512_fmadd_ps(_mm512_set1_ps(weights[term]), widened(mask, products + places[term] * width + i), sum);
      store_narrow(mask, out + i, sum);
    }
}

// x: rows of `rotated` heads that rotate and `copied` ones that do not, x_row numbers apart. cosines, sines:
// [rows, size / 2]. out: rows of as many heads, out_row numbers apart, in the order of `slots`, null for that of x.
void preftree_rotate(const uint16_t* x, int64_t x_row, const float* cosines, const float* sines, const float* norm,
                     float eps, uint16_t* out, int64_t out_row, const int64_t* slots, int64_t rows, int64_t rotated,
                     int64_t copied, int64_t size) {
  for (int64_t row = 0; row < rows; row++) {
    uint16_t* to = out + (slots ? slots[row] : row) * out_row;
    const uint16_t* from = x + row * x_row;
    const int64_t angle = row * (size / 2);
    for (int64_t head = 0; head < rotated; head++)
      rotate_head(from + head * size, cosines + angle, sines + angle, {norm, eps}, to + head * size, size);
    std::memcpy(to + rotated * size, from + rotated * size, copied * size * sizeof *to);
  }
}
}
