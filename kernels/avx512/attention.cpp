// Causal attention over the paths of a trie, 32 query rows of a K/V head at a time.
//
// All scores of these rows are there before the first is exponentiated: paths are short enough for the cache. A row's
// scores, sum and result are taken in blocks of keys counted from depth 0, so its bits depend on nothing but its path.
#include "vectors.h"

namespace preftree {
namespace {

constexpr int64_t kPanel = panel<bfloat16>;

struct Shape {
  int64_t heads, kv_heads, size;
  float scale, softcap;
  int64_t window;
  const float* sinks;  // [heads] or null

  int64_t group() const { return heads / kv_heads; }
  int64_t padded() const { return round_up(size, kTile); }
  int64_t kv_row() const { return 2 * kv_heads * size; }
};

// K and V of the path at hand as panels of products: keys [kv_heads][depths / 16][padded / 32][kPanel], with the head's
// numbers as terms and depths as columns; values [kv_heads][padded / 16][depths / 32][kPanel], the other way round.
class Path {
 public:
  Path(const bfloat16* kv, const Shape& shape, int64_t depths, Scratch<bfloat16>& keys, Scratch<bfloat16>& values)
      : kv_(kv),
        shape_(shape),
        depths_(depths),
        keys_(keys.of(shape.kv_heads * depths * shape.padded())),
        values_(values.of(shape.kv_heads * depths * shape.padded())) {}

  bfloat16* keys(int64_t head, int64_t depth) const { return keys_ + (head * depths_ + depth) * shape_.padded(); }
  bfloat16* values(int64_t head, int64_t depth, int64_t number) const {
    return values_ + head * depths_ * shape_.padded() + (number / 16 * (depths_ / 32) + depth / 32) * kPanel;
  }

  // Depths from `first`, a multiple of 32, up to `end`; zeros fill the last block.
  void gather(const int32_t* slots, int64_t first, int64_t end) {
    for (int64_t depth = first; depth < end; depth += kTile)
      for (int64_t head = 0; head < shape_.kv_heads; head++) {
        const bfloat16* rows[kTile] = {};
        for (int64_t i = 0; i < std::min(kTile, end - depth); i++)
          rows[i] = kv_ + slots[depth + i] * shape_.kv_row() + head * shape_.size;
        for (int64_t number = 0; number < shape_.padded(); number += kTile) {
          pack_keys(rows, number, keys(head, depth) + number / kTile * kPanel);
          pack_values(rows, number, values(head, depth, number));
        }
      }
  }

 private:
  __m512i numbers(const bfloat16* row, int64_t offset, int64_t first) const {
    const int64_t count = shape_.size - first;
    const __mmask32 mask = count >= kTile ? 0xffffffffu : (1u << count) - 1;
    return row ? _mm512_maskz_loadu_epi16(mask, row + offset + first) : _mm512_setzero_si512();
  }

  void pack_keys(const bfloat16* const* rows, int64_t first, bfloat16* out) const {
    for (int64_t half = 0; half < 2; half++) {
      __m512i pairs[16];
      for (int64_t i = 0; i < 16; i++) pairs[i] = numbers(rows[16 * half + i], 0, first);
      transpose(pairs);
      for (int64_t i = 0; i < 16; i++) _mm512_store_si512(out + half * 16 * shape_.padded() + i * 32, pairs[i]);
    }
  }

  void pack_values(const bfloat16* const* rows, int64_t first, bfloat16* out) const {
    alignas(64) static constexpr int16_t left[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                     8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i low = _mm512_load_si512(left), high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    bfloat16* const right = out + depths_ / 32 * kPanel;
    const int64_t offset = shape_.kv_heads * shape_.size;
    for (int64_t i = 0; i < 16; i++) {
      const __m512i even = numbers(rows[2 * i], offset, first), odd = numbers(rows[2 * i + 1], offset, first);
      _mm512_store_si512(out + i * 32, _mm512_permutex2var_epi16(even, low, odd));
      _mm512_store_si512(right + i * 32, _mm512_permutex2var_epi16(even, high, odd));
    }
  }

  const bfloat16* kv_;
  const Shape& shape_;
  const int64_t depths_;
  bfloat16 *keys_, *values_;
};

void cap(float* scores, int64_t first, int64_t last, float scale, float softcap) {
  const __m512 before = _mm512_set1_ps(scale / softcap), after = _mm512_set1_ps(softcap);
  for (int64_t key = first; key <= last; key += kVector) {
    const __m512 score = _mm512_mul_ps(_mm512_load_ps(scores + key), before);
    _mm512_store_ps(scores + key, _mm512_mul_ps(hyperbolic_tangent(score), after));
  }
}

// Softmax of a row: e^(score - largest) of the keys [from, depth] into `weights`, zero for others of [begin, stop), and
// one over their sum, which the sink joins where it is not null: the score of a key without a value.
float exponentiate(float* scores, bfloat16* weights, const Shape& shape, const float* sink, int64_t begin, int64_t from,
                   int64_t depth, int64_t stop) {
  const int64_t first = from / kVector * kVector, last = depth / kVector * kVector;
  if (shape.softcap > 0) cap(scores, first, last, shape.scale, shape.softcap);
  // Keys that the row does not see get a score whose power is zero.
  const auto hide = [&](int64_t key, __mmask16 mask) {
    _mm512_mask_store_ps(scores + key, mask, _mm512_set1_ps(-1e30f));
  };
  hide(first, lowest(from - first));
  hide(last, ~lowest(depth + 1 - last));
  __m512 largest = _mm512_load_ps(scores + first);
  for (int64_t key = first + kVector; key <= last; key += kVector)
    largest = _mm512_max_ps(largest, _mm512_load_ps(scores + key));
  const float power = (shape.softcap > 0 ? 1 : shape.scale) * kLog2E;
  const __m512 factor = _mm512_set1_ps(power), offset = _mm512_set1_ps(_mm512_reduce_max_ps(largest) * power);
  const auto zeros = _mm256_setzero_si256();
  for (int64_t key = begin; key < first; key += kVector) _mm256_store_si256((__m256i*)(weights + key), zeros);
  __m512 sum = _mm512_setzero_ps();
  for (int64_t key = first; key <= last; key += kVector) {
    const __m512 weight = power_of_two(_mm512_fmsub_ps(_mm512_load_ps(scores + key), factor, offset));
    sum = _mm512_add_ps(sum, weight);
    _mm256_store_si256((__m256i*)(weights + key), (__m256i)_mm512_cvtneps_pbh(weight));
  }
  for (int64_t key = last + kVector; key < stop; key += kVector) _mm256_store_si256((__m256i*)(weights + key), zeros);
  if (!sink) return 1 / _mm512_reduce_add_ps(sum);
  // Infinite where the sink is far above all scores; then nothing is left of them.
  const __m512 power_of_sink = power_of_two(_mm512_fmsub_ps(_mm512_set1_ps(*sink), _mm512_set1_ps(kLog2E), offset));
  return 1 / (_mm512_reduce_add_ps(sum) + _mm512_cvtss_f32(power_of_sink));
}

struct Tiles {
  const int32_t *first_row, *num_rows, *first_depth, *path, *slots;
  int64_t count;

  int64_t end(int64_t tile) const { return first_depth[tile] + num_rows[tile]; }
  // Depths, from 0 on, at which a tile's path is that of the tile before.
  int64_t shared(int64_t tile) const {
    if (tile == 0) return 0;
    const int64_t most = std::min(end(tile - 1), end(tile));
    const int32_t *before = slots + path[tile - 1], *own = slots + path[tile];
    return before == own ? most : std::mismatch(before, before + most, own).first - before;
  }
};

template <class Products>
void attend(const bfloat16* queries, const bfloat16* kv, const Tiles& tiles, bfloat16* out, const Shape& shape) {
  thread_local Scratch<bfloat16> key_memory, value_memory, query_memory, weight_memory;
  thread_local Scratch<float> score_memory, result_memory;
  int64_t deepest = 0;
  for (int64_t tile = 0; tile < tiles.count; tile++) deepest = std::max(deepest, tiles.end(tile));
  const int64_t depths = round_up(deepest, kTile), padded = shape.padded(), group = shape.group();
  const int64_t row_length = depths + kTile;  // no power of two, which the cache would keep in few places
  Path path(kv, shape, depths, key_memory, value_memory);
  bfloat16 *query = query_memory.of(kTile * padded), *weights = weight_memory.of(kTile * row_length);
  float *scores = score_memory.of(kTile * row_length), *result = result_memory.of(kTile * padded);
  const Products products;
  for (int64_t tile = 0; tile < tiles.count; tile++) {
    path.gather(tiles.slots + tiles.path[tile], tiles.shared(tile) / kTile * kTile, tiles.end(tile));
    // The query heads that share a K/V head are rows of the same products: row after row, head after head.
    const int64_t count = tiles.num_rows[tile] * group;
    for (int64_t head = 0; head < shape.kv_heads; head++)
      for (int64_t first = 0; first < count; first += kTile) {
        const int64_t rows = std::min(kTile, count - first);
        const auto depth = [&](int64_t i) { return tiles.first_depth[tile] + (first + i) / group; };
        const auto place = [&](int64_t i) {
          const int64_t row = tiles.first_row[tile] + (first + i) / group;
          return (row * shape.heads + head * group + (first + i) % group) * shape.size;
        };
        const auto first_seen = [&](int64_t depth) {
          return shape.window == 0 ? 0 : std::max<int64_t>(0, depth - shape.window + 1);
        };
        for (int64_t i = 0; i < rows; i++) std::memcpy(query + i * padded, queries + place(i), shape.size * 2);
        const int64_t begin = first_seen(depth(0)) / kTile * kTile, stop = round_up(depth(rows - 1) + 1, kTile);
        for (int64_t key = begin; key < stop; key += kTile) {
          const bfloat16* panel = path.keys(head, key);
          products.product(scores + key, row_length, query, padded, kTile, panel, panel + 16 * padded, padded / kTile);
        }
        float scale[kTile];
        for (int64_t i = 0; i < rows; i++) {
          const float* sink = shape.sinks ? shape.sinks + head * group + (first + i) % group : nullptr;
          scale[i] = exponentiate(scores + i * row_length, weights + i * row_length, shape, sink, begin,
                                  first_seen(depth(i)), depth(i), stop);
        }
        for (int64_t number = 0; number < padded; number += kTile)
          products.product(result + number, padded, weights + begin, row_length, kTile,
                           path.values(head, begin, number), path.values(head, begin, number + 16),
                           (stop - begin) / kTile);
        for (int64_t i = 0; i < rows; i++)
          for (int64_t number = 0; number < shape.size; number += kVector)
            store_narrow(lowest(shape.size - number), out + place(i) + number,
                         _mm512_mul_ps(_mm512_load_ps(result + i * padded + number), _mm512_set1_ps(scale[i])));
      }
  }
}

}  // namespace
}  // namespace preftree

// Tensors and options as `tree_attention` in kernels/cpu/attention.py has them, tiles as in `PathTiles`. softcap and
// window: 0 for none, sinks: null for none.
extern "C" void preftree_attend(bool has_amx, const uint16_t* queries, const uint16_t* kv, const int32_t* first_row,
                                const int32_t* num_rows, const int32_t* first_depth, const int32_t* path,
                                const int32_t* slots, int64_t tiles, uint16_t* out, int64_t heads, int64_t kv_heads,
                                int64_t size, float scale, float softcap, int64_t window, const float* sinks) {
  using namespace preftree;
  const auto run = has_amx ? attend<Amx> : attend<Avx512>;
  run(queries, kv, {first_row, num_rows, first_depth, path, slots, tiles}, out,
      {heads, kv_heads, size, scale, softcap, window, sinks});
}
