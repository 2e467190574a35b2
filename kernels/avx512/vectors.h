// Sixteen numbers at a time, and products of 32 x 32 tiles: on AMX, or on AVX-512's instructions for bfloat16.
// What is left of a row beyond a multiple of sixteen goes through masks.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace preftree {

using bfloat16 = uint16_t;

constexpr int64_t kVector = 16;  // float32 numbers of a register
constexpr int64_t kTile = 32;    // rows and columns of a product

inline int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// The lowest `count` of sixteen.
inline __mmask16 lowest(int64_t count) {
  return count >= kVector ? 0xffff : (__mmask16)((1u << std::max<int64_t>(count, 0)) - 1);
}

inline __m512 widened(__mmask16 mask, const bfloat16* x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, x)), 16));
}

inline void store_narrow(__mmask16 mask, bfloat16* out, __m512 x) {
  _mm256_mask_storeu_epi16(out, mask, (__m256i)_mm512_cvtneps_pbh(x));
}

constexpr float kLog2E = 1.44269504f;

// 2^x, within 2e-7 of it. A polynomial for the fraction, which is in [-0.5, 0.5].
inline __m512 power_of_two(__m512 x) {
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 fraction = _mm512_sub_ps(x, whole);
  __m512 y = _mm512_set1_ps(1.32669706e-3f);
  for (const float term : {9.67545994e-3f, 5.55074252e-2f, 2.40221217e-1f, 6.93146944e-1f, 1.00000012f})
    y = _mm512_fmadd_ps(y, fraction, _mm512_set1_ps(term));
  return _mm512_scalef_ps(y, whole);
}

inline __m512 exponential(__m512 x) { return power_of_two(_mm512_mul_ps(x, _mm512_set1_ps(kLog2E))); }

// tanh x = 1 - 2 / (e^2x + 1)
inline __m512 hyperbolic_tangent(__m512 x) {
  const __m512 one = _mm512_set1_ps(1);
  const __m512 power = exponential(_mm512_add_ps(x, x));
  return _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2), _mm512_add_ps(power, one)));
}

// x / (1 + e^-x)
inline __m512 silu(__m512 x) {
  const __m512 power = exponential(_mm512_sub_ps(_mm512_setzero_ps(), x));
  return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1), power));
}

// gate / (1 + e^(-1.702 gate)) * (up + 1), with gate at most 7 and up within 7 of zero
inline __m512 clamped_swiglu(__m512 gate, __m512 up) {
  const __m512 limit = _mm512_set1_ps(7), one = _mm512_set1_ps(1);
  // Of a NaN and a number, these return what is named last.
  gate = _mm512_min_ps(limit, gate);
  up = _mm512_max_ps(_mm512_set1_ps(-7), _mm512_min_ps(limit, up));
  const __m512 power = exponential(_mm512_mul_ps(gate, _mm512_set1_ps(-1.702f)));
  return _mm512_mul_ps(_mm512_div_ps(gate, _mm512_add_ps(one, power)), _mm512_add_ps(up, one));
}

// x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))
inline __m512 gelu_tanh(__m512 x) {
  const __m512 cube = _mm512_mul_ps(_mm512_mul_ps(x, x), x);
  const __m512 inner = _mm512_mul_ps(_mm512_fmadd_ps(cube, _mm512_set1_ps(0.044715f), x), _mm512_set1_ps(0.797884561f));
  const __m512 half = _mm512_mul_ps(x, _mm512_set1_ps(0.5f));
  return _mm512_fmadd_ps(half, hyperbolic_tangent(inner), half);
}

// Of sixteen rows of sixteen 32-bit numbers.
inline void transpose(__m512i (&rows)[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    rows[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    rows[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    rows[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    rows[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    t[i] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; i++) {
    rows[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    rows[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    rows[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    rows[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// Memory that a thread uses again and again: fresh memory has to be mapped in first, which takes longer than filling it.
template <class Number>
class Scratch {
 public:
  ~Scratch() { std::free(data_); }
  Number* of(int64_t count) {
    if (count > count_) {
      std::free(data_);
      count_ = round_up(2 * count, 64);
      data_ = static_cast<Number*>(std::aligned_alloc(64, count_ * sizeof(Number)));
      std::memset(data_, 0, count_ * sizeof(Number));
    }
    return data_;
  }

 private:
  Number* data_ = nullptr;
  int64_t count_ = 0;
};

// Products of 32 rows by 32 columns, whose sums over terms begin at zero: terms that are zero change no bit.
//
// c[32][32] = a[32][terms] b[terms][32], c with rows of `c_row` sums. Terms come in blocks of 64 bytes: those of a lie
// `a_block` numbers apart, with rows of `a_row` numbers; those of b are panels, `b_left` for the first sixteen columns
// and `b_right` for the others. bfloat16 is summed in float32, uint8 times int8 in int32. `beside(block)` is called with
// every block: other work that the processor does while the tiles multiply.

template <class Number>
struct Terms;
template <>
struct Terms<bfloat16> {
  using Weight = bfloat16;
  using Sum = float;
  static __m512 add(__m512 sum, __m512i x, __m512i y) { return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)y); }
  static __m512 zero() { return _mm512_setzero_ps(); }
};
template <>
struct Terms<uint8_t> {
  using Weight = int8_t;
  using Sum = int32_t;
  static __m512i add(__m512i sum, __m512i x, __m512i y) { return _mm512_dpbusd_epi32(sum, x, y); }
  static __m512i zero() { return _mm512_setzero_si512(); }
};

// Of a [16 groups of terms][16 columns][a group] panel; a group has 4 bytes.
template <class Number>
constexpr int64_t panel = 1024 / sizeof(Number);
template <class Number>
constexpr int64_t block_terms = 64 / sizeof(Number);

inline void nothing(int64_t) {}

struct Amx {
  Amx() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } tiles;
    std::fill_n(tiles.row_bytes, 8, 64);
    std::fill_n(tiles.rows, 8, 16);
    _tile_loadconfig(&tiles);
  }
  ~Amx() { _tile_release(); }

  template <class Number, class Beside = void (*)(int64_t)>
  void product(typename Terms<Number>::Sum* c, int64_t c_row, const Number* a, int64_t a_row, int64_t a_block,
               const typename Terms<Number>::Weight* b_left, const typename Terms<Number>::Weight* b_right,
               int64_t blocks, const Beside& beside = nothing) const {
    const int64_t row_bytes = a_row * sizeof(Number);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t block = 0; block < blocks; block++) {
      _tile_loadd(4, a + block * a_block, row_bytes);
      _tile_loadd(5, a + block * a_block + 16 * a_row, row_bytes);
      _tile_loadd(6, b_left + block * panel<Number>, 64);
      _tile_loadd(7, b_right + block * panel<Number>, 64);
      if constexpr (sizeof(Number) == 1) {
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
      } else {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      beside(block);
    }
    _tile_stored(0, c, c_row * 4);
    _tile_stored(1, c + 16, c_row * 4);
    _tile_stored(2, c + 16 * c_row, c_row * 4);
    _tile_stored(3, c + 16 * c_row + 16, c_row * 4);
  }
};

struct Avx512 {
  template <class Number, class Beside = void (*)(int64_t)>
  void product(typename Terms<Number>::Sum* c, int64_t c_row, const Number* a, int64_t a_row, int64_t a_block,
               const typename Terms<Number>::Weight* b_left, const typename Terms<Number>::Weight* b_right,
               int64_t blocks, const Beside& beside = nothing) const {
    using With = Terms<Number>;
    constexpr int64_t together = 8;  // rows whose sums stay in registers
    constexpr int64_t group = 4 / sizeof(Number);
    for (int64_t block = 0; block < blocks; block++) beside(block);
    for (int64_t row = 0; row < kTile; row += together) {
      decltype(With::zero()) sums[together][2];
      for (auto& sum : sums) sum[0] = sum[1] = With::zero();
      for (int64_t block = 0; block < blocks; block++)
        for (int64_t i = 0; i < 16; i++) {
          const __m512i left = _mm512_load_si512(b_left + block * panel<Number> + i * 16 * group);
          const __m512i right = _mm512_load_si512(b_right + block * panel<Number> + i * 16 * group);
          for (int64_t j = 0; j < together; j++) {
            int32_t terms;
            std::memcpy(&terms, a + (row + j) * a_row + block * a_block + i * group, sizeof terms);
            const __m512i x = _mm512_set1_epi32(terms);
            sums[j][0] = With::add(sums[j][0], x, left);
            sums[j][1] = With::add(sums[j][1], x, right);
          }
        }
      for (int64_t j = 0; j < together; j++) {
        _mm512_store_si512(c + (row + j) * c_row, (__m512i)sums[j][0]);
        _mm512_store_si512(c + (row + j) * c_row + 16, (__m512i)sums[j][1]);
      }
    }
  }
};

}  // namespace preftree
