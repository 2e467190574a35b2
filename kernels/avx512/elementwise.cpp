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

__m512 silu(__m512 x) {
  const __m512 power = exponential(_mm512_sub_ps(_mm512_setzero_ps(), x));
  return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1), power));
}

__m512 gelu_tanh(__m512 x) {
  const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
  const __m512 inner = _mm512_mul_ps(_mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), x), _mm512_set1_ps(0.797884561f));
  const __m512 half = _mm512_mul_ps(x, _mm512_set1_ps(0.5f));
  return _mm512_fmadd_ps(half, hyperbolic_tangent(inner), half);
}

}  // namespace
}  // namespace preftree

using namespace preftree;

extern "C" {

// residual [rows, width] float32 gets `update` [rows, width] added, where that is not null; out: the norm of the sum.
void preftree_add_rms_norm(float* residual, const uint16_t* update, const float* weight, float eps, uint16_t* out,
                           int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; row++, residual += width, out += width) {
    __m512 squares = _mm512_setzero_ps();
    for (int64_t i = 0; i < width; i += kVector) {
      const __mmask16 mask = lowest(width - i);
      __m512 x = _mm512_maskz_loadu_ps(mask, residual + i);
      if (update) {
        x = _mm512_add_ps(x, widened(mask, update + row * width + i));
        _mm512_mask_storeu_ps(residual + i, mask, x);
      }
      squares = _mm512_fmadd_ps(x, x, squares);
    }
    const __m512 scale = _mm512_set1_ps(rms_scale(squares, width, eps));
    for (int64_t i = 0; i < width; i += kVector) {
      const __mmask16 mask = lowest(width - i);
      const __m512 x = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, residual + i), scale);
      store_narrow(mask, out + i, _mm512_mul_ps(x, _mm512_maskz_loadu_ps(mask, weight + i)));
    }
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

// x [rows, width] in steps of a 127th of a row's largest number, 128 for zero; scale: [rows], of a step.
void preftree_quantize_rows(const uint16_t* x, uint8_t* out, float* scale, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; row++, x += width, out += width) {
    // Compared as integers, whose order is the same and which let a NaN through.
    __m512i largest = _mm512_castps_si512(_mm512_set1_ps(1.17549435e-38f));
    for (int64_t i = 0; i < width; i += kVector) {
      const __m512 size = _mm512_abs_ps(widened(lowest(width - i), x + i));
      largest = _mm512_max_epi32(largest, _mm512_castps_si512(size));
    }
    const int32_t bits = _mm512_reduce_max_epi32(largest);
    float most;
    std::memcpy(&most, &bits, sizeof most);
    scale[row] = most / 127;
    const __m512 steps = _mm512_set1_ps(127 / most);
    for (int64_t i = 0; i < width; i += kVector) {
      const __mmask16 mask = lowest(width - i);
      const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(widened(mask, x + i), steps));
      _mm_mask_storeu_epi8(out + i, mask, _mm512_cvtepi32_epi8(_mm512_add_epi32(whole, _mm512_set1_epi32(128))));
    }
  }
}

// out [rows, width] = sums [rows, width] * scale [rows] + bias [width], null for none.
void preftree_scale_rows(const float* sums, const float* scale, const float* bias, uint16_t* out, int64_t rows,
                         int64_t width) {
  for (int64_t row = 0; row < rows; row++, sums += width, out += width)
    for (int64_t i = 0; i < width; i += kVector) {
      const __mmask16 mask = lowest(width - i);
      const __m512 offset = bias ? _mm512_maskz_loadu_ps(mask, bias + i) : _mm512_setzero_ps();
      const __m512 x = _mm512_maskz_loadu_ps(mask, sums + i);
      store_narrow(mask, out + i, _mm512_fmadd_ps(x, _mm512_set1_ps(scale[row]), offset));
    }
}

// out [rows, width] = activation(gate) * up, both sums [rows, 2 * width] * scale [rows] + bias [2 * width].
void preftree_gate_rows(const float* sums, const float* scale, const float* bias, bool is_gelu, uint16_t* out,
                        int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; row++, sums += 2 * width, out += width)
    for (int64_t i = 0; i < width; i += kVector) {
      const __mmask16 mask = lowest(width - i);
      const auto half = [&](int64_t first) {
        const __m512 offset = bias ? _mm512_maskz_loadu_ps(mask, bias + first) : _mm512_setzero_ps();
        return _mm512_fmadd_ps(_mm512_maskz_loadu_ps(mask, sums + first), _mm512_set1_ps(scale[row]), offset);
      };
      const __m512 gate = half(i);
      store_narrow(mask, out + i, _mm512_mul_ps(is_gelu ? gelu_tanh(gate) : silu(gate), half(width + i)));
    }
}
}
