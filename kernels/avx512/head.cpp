// Logits: the output matrix, which stays in memory as it is, times hidden states of float32.
//
// A hidden state is the sum of two numbers of bfloat16, within 2^-17 of it, and is multiplied as both: products run at
// the rate of 16 bits, and the matrix is read once, whatever the number of rows.
#include "vectors.h"

namespace preftree {
namespace {

constexpr int64_t kPanel = panel<bfloat16>;

bfloat16 rounded(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if (x != x) return 0x7fc0;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

float wide(bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

struct Head {
  const float* hidden;  // [rows, inputs]
  int64_t rows, inputs;
  const bfloat16* weight;  // [outputs, inputs]
  int64_t outputs;

  int64_t blocks() const { return inputs / kTile; }
  int64_t row_blocks() const { return round_up(rows, kTile) / kTile; }
};

// Hidden states as panels: [row blocks][large and small parts][two halves of the rows][blocks][kPanel].
void pack(const Head& head, bfloat16* out) {
  const int64_t half = head.blocks() * kPanel;
  std::memset(out, 0, head.row_blocks() * 4 * half * sizeof *out);
  for (int64_t row = 0; row < head.rows; row++)
    for (int64_t i = 0; i < head.inputs; i++) {
      const float x = head.hidden[row * head.inputs + i];
      const bfloat16 large = rounded(x);
      bfloat16* to = out + (row / kTile * 4 + row % kTile / 16) * half + i / kTile * kPanel;
      to += i % kTile / 2 * 32 + row % 16 * 2 + i % 2;
      to[0] = large;
      to[2 * half] = rounded(x - wide(large));
    }
}

// Calls `take(first, count, row_block, logits)` for every 32 outputs and 32 rows; logits: [outputs][rows].
template <class Products, class Take>
void each_block(const Head& head, const Take& take) {
  thread_local Scratch<bfloat16> hidden_memory, weight_memory;
  alignas(64) thread_local float large[kTile * kTile], small[kTile * kTile];
  const int64_t blocks = head.blocks(), half = blocks * kPanel;
  bfloat16 *hidden = hidden_memory.of(head.row_blocks() * 4 * half), *last = weight_memory.of(kTile * head.inputs);
  pack(head, hidden);
  const Products products;
  for (int64_t first = 0; first < head.outputs; first += kTile) {
    const bfloat16* weight = head.weight + first * head.inputs;
    const int64_t count = std::min(kTile, head.outputs - first);
    if (count < kTile) {
      std::memcpy(last, weight, count * head.inputs * sizeof *last);
      weight = last;
    }
    for (int64_t block = 0; block < head.row_blocks(); block++) {
      const bfloat16* panels = hidden + block * 4 * half;
      products.product(large, kTile, weight, head.inputs, kTile, panels, panels + half, blocks);
      products.product(small, kTile, weight, head.inputs, kTile, panels + 2 * half, panels + 3 * half, blocks);
      for (int64_t i = 0; i < kTile * kTile; i += kVector)
        _mm512_store_ps(large + i, _mm512_add_ps(_mm512_load_ps(large + i), _mm512_load_ps(small + i)));
      take(first, count, block, large);
    }
  }
}

__m512 capped(__m512 x, float softcap) {
  if (softcap == 0) return x;
  const __m512 cap = _mm512_set1_ps(softcap);
  return _mm512_mul_ps(hyperbolic_tangent(_mm512_div_ps(x, cap)), cap);
}

// log-sum-exp of every row: [rows].
template <class Products>
void normalise(const Head& head, float softcap, float* out) {
  thread_local Scratch<float> memory;
  const int64_t padded = head.row_blocks() * kTile;
  float *largest = memory.of(2 * padded), *sum = largest + padded;
  std::fill_n(largest, padded, -1e30f);
  std::fill_n(sum, padded, 0.0f);
  each_block<Products>(head, [&](int64_t, int64_t count, int64_t block, float* logits) {
    for (int64_t row = block * kTile; row < (block + 1) * kTile; row += kVector, logits += kVector) {
      const __m512 before = _mm512_load_ps(largest + row);
      __m512 most = before;
      for (int64_t i = 0; i < count; i++) {
        const __m512 logit = capped(_mm512_load_ps(logits + i * kTile), softcap);
        _mm512_store_ps(logits + i * kTile, logit);
        most = _mm512_max_ps(most, logit);
      }
      __m512 total = _mm512_mul_ps(_mm512_load_ps(sum + row), exponential(_mm512_sub_ps(before, most)));
      for (int64_t i = 0; i < count; i++)
        total = _mm512_add_ps(total, exponential(_mm512_sub_ps(_mm512_load_ps(logits + i * kTile), most)));
      _mm512_store_ps(largest + row, most);
      _mm512_store_ps(sum + row, total);
    }
  });
  for (int64_t row = 0; row < head.rows; row++) out[row] = largest[row] + std::log(sum[row]);
}

float logit(const Head& head, int64_t row, int64_t token) {
  const float* x = head.hidden + row * head.inputs;
  const bfloat16* y = head.weight + token * head.inputs;
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < head.inputs; i += kVector)
    sum = _mm512_fmadd_ps(_mm512_loadu_ps(x + i), widened(0xffff, y + i), sum);
  return _mm512_reduce_add_ps(sum);
}

template <class Products>
void all_logits(const Head& head, float* out) {
  each_block<Products>(head, [&](int64_t first, int64_t count, int64_t block, const float* logits) {
    for (int64_t left = 0; left < count; left += kVector)
      for (int64_t top = 0; top < kTile; top += kVector) {
        __m512i rows[16];
        for (int64_t i = 0; i < 16; i++) rows[i] = _mm512_load_si512(logits + (left + i) * kTile + top);
        transpose(rows);
        for (int64_t i = 0; i < std::min(kVector, head.rows - block * kTile - top); i++)
          _mm512_mask_storeu_epi32(out + (block * kTile + top + i) * head.outputs + first + left,
                                   lowest(count - left), rows[i]);
      }
  });
}

}  // namespace
}  // namespace preftree

using namespace preftree;

extern "C" {

// As `label_head` in kernels/cpu/head.py. inputs: 32 divides them. softcap: 0 for none.
void preftree_label_head(bool has_amx, const float* hidden, int64_t rows, int64_t inputs, const uint16_t* weight,
                         int64_t outputs, float softcap, const int64_t* query_rows, const int64_t* query_tokens,
                         int64_t queries, float* logits, float* log_normaliser) {
  const Head head{hidden, rows, inputs, weight, outputs};
  (has_amx ? normalise<Amx> : normalise<Avx512>)(head, softcap, log_normaliser);
  for (int64_t i = 0; i < queries; i++) {
    const __m512 found = _mm512_set1_ps(logit(head, query_rows[i], query_tokens[i]));
    logits[i] = _mm512_cvtss_f32(capped(found, softcap));
  }
}

// out: [rows, outputs]. inputs: 32 divides them.
void preftree_token_logits(bool has_amx, const float* hidden, int64_t rows, int64_t inputs, const uint16_t* weight,
                           int64_t outputs, float* out) {
  (has_amx ? all_logits<Amx> : all_logits<Avx512>)({hidden, rows, inputs, weight, outputs}, out);
}
}
