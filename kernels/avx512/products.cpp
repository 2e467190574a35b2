// Linear layers: 32 rows times 32 outputs at a time, while the sums before them are rounded and stored.
#include "vectors.h"

namespace preftree {
namespace {

// Weights of so many outputs stay in the cache while all rows are multiplied with them.
constexpr int64_t kOutputs = 256;
constexpr int64_t kRotated = 64;  // numbers that are rotated together before they are quantized

enum Activation { kNone, kSilu, kGelu, kClamped };

// Gate and up come in turns, sixteen outputs of each.
struct Layer {
  int64_t inputs, outputs;
  const float* bias;  // [outputs] or null
  Activation activation;

  int64_t width() const { return activation == kNone ? outputs : outputs / 2; }

  void store(__m512 left, __m512 right, int64_t first, bfloat16* out) const {
    if (bias) {
      left = _mm512_add_ps(left, _mm512_maskz_loadu_ps(lowest(outputs - first), bias + first));
      right = _mm512_add_ps(right, _mm512_maskz_loadu_ps(lowest(outputs - first - kVector), bias + first + kVector));
    }
    if (activation == kNone) {
      store_narrow(lowest(outputs - first), out + first, left);
      store_narrow(lowest(outputs - first - kVector), out + first + kVector, right);
    } else {
      __m512 product;
      if (activation == kClamped)
        product = clamped_swiglu(left, right);
      else
        product = _mm512_mul_ps(activation == kGelu ? gelu_tanh(left) : silu(left), right);
      store_narrow(lowest(outputs / 2 - first / 2), out + first / 2, product);
    }
  }
};

// weight: [outputs / 16][inputs / 32] panels, padded with zeros to an even number of them.
struct Layer16 : Layer {
  const bfloat16* weight;

  void finish(const float* sums, int64_t, int64_t first, bfloat16* out) const {
    store(_mm512_load_ps(sums), _mm512_load_ps(sums + kVector), first, out);
  }
};

// weight: [outputs / 16][inputs / 64] panels, padded likewise. step: [outputs, padded] of a weight. offset: [outputs,
// padded], 128 times the sum of an output's weights. row_step: [rows] of x.
struct Layer8 : Layer {
  const int8_t* weight;
  const float* step;
  const int32_t* offset;
  const float* row_step;

  void finish(const int32_t* sums, int64_t row, int64_t first, bfloat16* out) const {
    const auto number = [&](int64_t i) {
      const __m512i whole = _mm512_sub_epi32(_mm512_load_si512(sums + i), _mm512_loadu_si512(offset + first + i));
      const __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(step + first + i), _mm512_set1_ps(row_step[row]));
      return _mm512_mul_ps(_mm512_cvtepi32_ps(whole), scale);
    };
    store(number(0), number(kVector), first, out);
  }
};

// x: rows of `x_row` numbers in blocks that lie `x_block` apart, 32 rows `x_rows` apart.
template <class Products, class Number, class AnyLayer>
void multiply(const Number* x, int64_t x_row, int64_t x_block, int64_t x_rows, int64_t rows, const AnyLayer& layer,
              bfloat16* out) {
  using Sum = typename Terms<Number>::Sum;
  alignas(64) thread_local Sum memory[2][kTile * kTile];
  const int64_t blocks = round_up(layer.inputs, block_terms<Number>) / block_terms<Number>;
  const int64_t at_once = (kTile + blocks - 1) / blocks;  // rows that are finished beside a block
  const Products products;
  Sum *sums = memory[0], *before = memory[1];
  int64_t row_before = 0, first_before = 0, left = 0;  // what is not finished: its rows, and how many
  const auto finish_some = [&](int64_t) {
    for (int64_t i = 0; i < at_once && left > 0; i++) {
      left--;
      const int64_t row = row_before + left;
      layer.finish(before + left * kTile, row, first_before, out + row * layer.width());
    }
  };
  for (int64_t start = 0; start < layer.outputs; start += kOutputs)
    for (int64_t row = 0; row < rows; row += kTile)
      for (int64_t first = start; first < std::min(start + kOutputs, layer.outputs); first += kTile) {
        const auto* weight = layer.weight + first / 16 * blocks * panel<Number>;
        products.product(sums, kTile, x + row / kTile * x_rows, x_row, x_block, weight, weight + blocks * panel<Number>,
                         blocks, finish_some);
        std::swap(sums, before);
        row_before = row, first_before = first, left = std::min(kTile, rows - row);
      }
  while (left > 0) finish_some(0);
}

// x times the Hadamard matrix of 64 rows, over 8: it spreads what is large in few places over all of them.
void rotate(__m512 (&x)[4]) {
  const __m512 a = _mm512_add_ps(x[0], x[2]), b = _mm512_add_ps(x[1], x[3]);
  const __m512 c = _mm512_sub_ps(x[0], x[2]), d = _mm512_sub_ps(x[1], x[3]);
  x[0] = _mm512_add_ps(a, b), x[1] = _mm512_sub_ps(a, b), x[2] = _mm512_add_ps(c, d), x[3] = _mm512_sub_ps(c, d);
  const auto folded = [](__m512 own, __m512 other, __mmask16 is_second) {
    return _mm512_mask_sub_ps(_mm512_add_ps(own, other), is_second, other, own);
  };
  for (__m512& y : x) {
    y = folded(y, _mm512_shuffle_f32x4(y, y, 0x4e), 0xff00);
    y = folded(y, _mm512_shuffle_f32x4(y, y, 0xb1), 0xf0f0);
    y = folded(y, _mm512_permute_ps(y, 0x4e), 0xcccc);
    y = folded(y, _mm512_permute_ps(y, 0xb1), 0xaaaa);
    y = _mm512_mul_ps(y, _mm512_set1_ps(0.125f));
  }
}

// x [rows, inputs] in steps of a 127th of a row's largest number, 128 for zero, as products take them:
// [rows / 32][inputs / 64][32][64]. step: [rows].
void quantize(const bfloat16* x, int64_t rows, int64_t inputs, bool is_rotated, uint8_t* out, float* step) {
  thread_local Scratch<float> memory;
  const int64_t padded = round_up(inputs, kRotated);
  float* row_memory = memory.of(padded);
  for (int64_t row = 0; row < rows; row++, x += inputs) {
    // Compared as integers, whose order is the same and which let a NaN through.
    __m512i largest = _mm512_castps_si512(_mm512_set1_ps(1.17549435e-38f));
    for (int64_t first = 0; first < padded; first += kRotated) {
      __m512 part[4];
      for (int64_t i = 0; i < 4; i++) part[i] = widened(lowest(inputs - first - i * 16), x + first + i * 16);
      if (is_rotated) rotate(part);
      for (int64_t i = 0; i < 4; i++) {
        largest = _mm512_max_epi32(largest, _mm512_castps_si512(_mm512_abs_ps(part[i])));
        _mm512_store_ps(row_memory + first + i * 16, part[i]);
      }
    }
    const int32_t bits = _mm512_reduce_max_epi32(largest);
    float most;
    std::memcpy(&most, &bits, sizeof most);
    step[row] = most / 127;
    const __m512 steps = _mm512_set1_ps(127 / most);
    uint8_t* to = out + row / kTile * kTile * padded + row % kTile * 64;
    for (int64_t i = 0; i < padded; i += kVector) {
      const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(row_memory + i), steps));
      const __m128i levels = _mm512_cvtepi32_epi8(_mm512_add_epi32(whole, _mm512_set1_epi32(128)));
      _mm_store_si128((__m128i*)(to + i / 64 * kTile * 64 + i % 64), levels);
    }
  }
}

}  // namespace
}  // namespace preftree

using namespace preftree;

extern "C" {

// x [rows, inputs] with rows that 32 divides and inputs that 32 divides; out [rows, outputs] or, of a gate,
// [rows, outputs / 2].
void preftree_multiply_16(bool has_amx, const uint16_t* x, int64_t rows, int64_t inputs, const uint16_t* weight,
                          const float* bias, int64_t outputs, int64_t activation, uint16_t* out) {
  const Layer16 layer{{inputs, outputs, bias, static_cast<Activation>(activation)}, weight};
  const auto run = has_amx ? multiply<Amx, bfloat16, Layer16> : multiply<Avx512, bfloat16, Layer16>;
  run(x, inputs, kTile, kTile * inputs, rows, layer, out);
}

// The same of any rows and inputs, in 8 bits.
void preftree_multiply_8(bool has_amx, const uint16_t* x, int64_t rows, int64_t inputs, bool is_rotated,
                         const int8_t* weight, const float* step, const int32_t* offset, const float* bias,
                         int64_t outputs, int64_t activation, uint16_t* out) {
  thread_local Scratch<uint8_t> level_memory;
  thread_local Scratch<float> step_memory;
  const int64_t padded = round_up(inputs, 64);
  uint8_t* levels = level_memory.of(round_up(rows, kTile) * padded);
  float* row_step = step_memory.of(rows);
  quantize(x, rows, inputs, is_rotated, levels, row_step);
  const Layer8 layer{{inputs, outputs, bias, static_cast<Activation>(activation)}, weight, step, offset, row_step};
  const auto run = has_amx ? multiply<Amx, uint8_t, Layer8> : multiply<Avx512, uint8_t, Layer8>;
  run(levels, 64, kTile * 64, kTile * padded, rows, layer, out);
}
}
