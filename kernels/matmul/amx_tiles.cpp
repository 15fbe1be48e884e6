// The splitting of floats into bf16 parts and the product of their tiles; nothing but `available` without the unit.
#include "kernels/matmul/amx_tiles.h"

#if defined(__linux__) && defined(__AMX_BF16__) && defined(__AVX512BW__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "kernels/matmul/vector.h"

namespace ranvier::kernels::amx {
namespace {

/// Intel's 64 bytes of tile shapes: eight registers of 16 rows of 64 bytes.
struct TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileShapes) == 64);

/// GCC's tile intrinsics do not say that they touch memory.
void memory_is_touched() { std::atomic_signal_fence(std::memory_order_seq_cst); }

int64_t tiles_of(int64_t count, int64_t tile) { return (count + tile - 1) / tile; }
/// Lanes below `count`, which may be negative or above 16.
__mmask16 lanes(int64_t count) {
  return static_cast<__mmask16>((1u << std::clamp(count, int64_t{0}, int64_t{16})) - 1u);
}

/// Sixteen floats' parts, each a float whose low half is zero.
struct Parts {
  __m512i part[parts];
};

/// The digits of x in the upper half of its bits.
__m512i upper(__m512i x) { return _mm512_and_si512(x, _mm512_set1_epi32(static_cast<int>(0xffff0000u))); }

/// The first part is cut off and the second rounded, so that the third has either sign and what is left out no bias.
Parts split(__m512 x, __m512& largest) {
  constexpr int larger_magnitude = 0b1011;  // of range_ps
  largest = _mm512_range_ps(largest, x, larger_magnitude);
  const __m512i high = upper(_mm512_castps_si512(x));
  const __m512 rest = _mm512_sub_ps(x, _mm512_castsi512_ps(high));
  const __m512i middle = upper(_mm512_add_epi32(_mm512_castps_si512(rest), _mm512_set1_epi32(0x8000)));
  return {{high, middle, _mm512_castps_si512(_mm512_sub_ps(rest, _mm512_castsi512_ps(middle)))}};
}

/// An infinity less itself would be its second part; a NaN's parts make NaN as it would.
bool can_be_split(__m512 largest) {
  float magnitude[16];
  _mm512_storeu_ps(magnitude, largest);
  return std::all_of(magnitude, magnitude + 16, [](float x) { return !std::isinf(x); });
}

/// Which of the 64 halves of two registers make a third.
struct Halves {
  alignas(64) uint16_t index[32];
};
constexpr Halves upper_halves = [] {  // of every float: a float with 8 digits to bf16
  Halves h{};
  for (int i = 0; i < 32; ++i) h.index[i] = static_cast<uint16_t>(2 * i + 1);
  return h;
}();
constexpr Halves pairs_from(int first) {  // (a[first], b[first]), (a[first + 1], b[first + 1]), ...
  Halves h{};
  for (int i = 0; i < 32; ++i) h.index[i] = static_cast<uint16_t>(first + i / 2 + i % 2 * 32);
  return h;
}
constexpr Halves low_pairs = pairs_from(0), high_pairs = pairs_from(16);
constexpr Halves upper_pairs = [] {  // of two rows of floats
  Halves h{};
  for (int i = 0; i < 32; ++i) h.index[i] = static_cast<uint16_t>(i / 2 * 2 + 1 + i % 2 * 32);
  return h;
}();

__m512i choose(__m512i a, const Halves& halves, __m512i b) {
  return _mm512_permutex2var_epi16(a, _mm512_load_si512(halves.index), b);
}

void turn_tile(transpose::Lanes pairs[tile_rows], uint16_t* to) {
  transpose::all(pairs);
  for (int64_t i = 0; i < tile_rows; ++i) std::memcpy(to + i * tile_depth, &pairs[i], sizeof pairs[i]);
}

/// Left tiles of rows 0 to 15 and 16 to 31 (null: zeros) to the transpose's tiles of columns 0 to 15 and 16 to 31
/// (null: not wanted).
void transpose_tiles(const uint16_t* upper, const uint16_t* lower, uint16_t* low, uint16_t* high) {
  transpose::Lanes low_columns[tile_rows] = {}, high_columns[tile_rows] = {};
  for (int64_t k = 0; k < tile_rows; ++k) {
    const uint16_t* from = k < tile_rows / 2 ? upper : lower;
    if (!from) break;
    from += k % (tile_rows / 2) * 2 * tile_depth;
    const __m512i a = _mm512_loadu_si512(from), b = _mm512_loadu_si512(from + tile_depth);
    const __m512i pairs[2] = {choose(a, low_pairs, b), choose(a, high_pairs, b)};
    std::memcpy(&low_columns[k], &pairs[0], sizeof pairs[0]);
    std::memcpy(&high_columns[k], &pairs[1], sizeof pairs[1]);
  }
  turn_tile(low_columns, low);
  if (high) turn_tile(high_columns, high);
}

constexpr int row_bytes = 64;
RANVIER_FLATTEN void load_left(const uint16_t* upper, const uint16_t* lower) {
  _tile_loadd(4, upper, row_bytes);
  _tile_loadd(5, lower, row_bytes);
}
RANVIER_FLATTEN void load_right(const uint16_t* first, const uint16_t* second) {
  _tile_loadd(6, first, row_bytes);
  _tile_loadd(7, second, row_bytes);
}
RANVIER_FLATTEN void multiply_loaded() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

/// Four tiles of a product: rows of `left[0]` and `left[1]` by columns of `right[0]` and `right[1]`, to `out`, whose
/// rows are `stride` apart. Small parts first: while they are summed, the sum is small, and so is what is rounded off.
__attribute__((noinline)) void product(int64_t depth_tiles, const uint16_t* const left[2],
                                       const uint16_t* const right[2], float* const out[4], int64_t stride) {
  constexpr int64_t step = parts * tile_elements, middle = tile_elements, low = 2 * tile_elements;
  const uint16_t *a0 = left[0], *a1 = left[1], *b0 = right[0], *b1 = right[1];
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < depth_tiles; ++k) {
    load_left(a0 + k * step + low, a1 + k * step + low);
    load_right(b0 + k * step + 0, b1 + k * step + 0);
    multiply_loaded();
    load_left(a0 + k * step + middle, a1 + k * step + middle);
    multiply_loaded();
    load_right(b0 + k * step + middle, b1 + k * step + middle);
    multiply_loaded();
    load_left(a0 + k * step + 0, a1 + k * step + 0);
    multiply_loaded();
    load_right(b0 + k * step + low, b1 + k * step + low);
    multiply_loaded();
  }
  for (int64_t k = 0; k < depth_tiles; ++k) {
    load_left(a0 + k * step + 0, a1 + k * step + 0);
    load_right(b0 + k * step + 0, b1 + k * step + 0);
    multiply_loaded();
  }
  const int64_t bytes = stride * static_cast<int64_t>(sizeof(float));
  _tile_stored(0, out[0], bytes);
  _tile_stored(1, out[1], bytes);
  _tile_stored(2, out[2], bytes);
  _tile_stored(3, out[3], bytes);
}

/// The (rows, columns) part of 32 x 32 sums to `out`, or added to it.
void write(const float* sums, int64_t rows, int64_t columns, float* out, int64_t stride, bool accumulate) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; j += 16) {
      const __mmask16 wanted = lanes(columns - j);
      __m512 sum = _mm512_load_ps(sums + i * 2 * tile_rows + j);
      if (accumulate) sum = _mm512_add_ps(_mm512_maskz_loadu_ps(wanted, out + i * stride + j), sum);
      _mm512_mask_storeu_ps(out + i * stride + j, wanted, sum);
    }
  }
}

}  // namespace

bool available() {
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool granted = syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  return granted;
}

Session::Session() {
  alignas(64) const TileShapes shapes;
  memory_is_touched();
  _tile_loadconfig(&shapes);
}
Session::~Session() { _tile_release(); }

bool split_rows(const float* x, int64_t rows, int64_t depth, int64_t stride, uint16_t* tiles) {
  const int64_t depth_tiles = tiles_of(depth, tile_depth);
  __m512 largest = _mm512_setzero_ps();
  for (int64_t i = 0; i < tiles_of(rows, tile_rows) * tile_rows; ++i) {
    uint16_t* to = tiles + i / tile_rows * depth_tiles * parts * tile_elements + i % tile_rows * tile_depth;
    for (int64_t k = 0; k < depth_tiles * tile_depth; k += tile_depth, to += parts * tile_elements) {
      const float* from = x + i * stride + k;
      const int64_t count = i < rows ? depth - k : 0;
      const Parts a = split(_mm512_maskz_loadu_ps(lanes(count), from), largest);
      const Parts b = split(_mm512_maskz_loadu_ps(lanes(count - 16), from + 16), largest);
      for (int p = 0; p < parts; ++p)
        _mm512_storeu_si512(to + p * tile_elements, choose(a.part[p], upper_halves, b.part[p]));
    }
  }
  return can_be_split(largest);
}

bool split_columns(const float* x, int64_t rows, int64_t depth, int64_t stride, uint16_t* tiles) {
  const int64_t depth_tiles = tiles_of(depth, tile_depth);
  __m512 largest = _mm512_setzero_ps();
  for (int64_t i = 0; i < rows; i += tile_rows) {
    for (int64_t t = 0; t < depth_tiles; ++t, tiles += parts * tile_elements) {
      for (int64_t k = 0; k < tile_depth; k += 2) {
        const int64_t at = t * tile_depth + k;
        const float* from = x + at * stride + i;
        const __mmask16 wanted = lanes(rows - i);
        const Parts a = split(_mm512_maskz_loadu_ps(at < depth ? wanted : 0, from), largest);
        const Parts b = split(_mm512_maskz_loadu_ps(at + 1 < depth ? wanted : 0, from + stride), largest);
        for (int p = 0; p < parts; ++p)
          _mm512_storeu_si512(tiles + p * tile_elements + k * tile_rows, choose(a.part[p], upper_pairs, b.part[p]));
      }
    }
  }
  return can_be_split(largest);
}

void turn(uint16_t* tiles, int64_t rows, int64_t depth) {
  for (int64_t t = 0; t < tiles_size(rows, depth); t += tile_elements) {
    transpose::Lanes pairs[tile_rows];
    std::memcpy(pairs, tiles + t, sizeof pairs);
    turn_tile(pairs, tiles + t);
  }
}

void transpose(const uint16_t* tiles, int64_t rows, int64_t depth, uint16_t* transposed) {
  const int64_t row_tiles = tiles_of(rows, tile_rows), column_tiles = tiles_of(depth, tile_rows);
  const int64_t line = tiles_of(depth, tile_depth) * parts * tile_elements;
  const int64_t to_line = tiles_of(rows, tile_depth) * parts * tile_elements;
  for (int64_t j = 0; j < column_tiles; j += 2) {
    for (int64_t i = 0; i < row_tiles; i += 2) {
      for (int64_t p = 0; p < parts; ++p) {
        const uint16_t* upper = tiles + i * line + (j / 2 * parts + p) * tile_elements;
        uint16_t* low = transposed + j * to_line + (i / 2 * parts + p) * tile_elements;
        transpose_tiles(upper, i + 1 < row_tiles ? upper + line : nullptr, low,
                        j + 1 < column_tiles ? low + to_line : nullptr);
      }
    }
  }
}

void multiply(int64_t rows, int64_t depth, int64_t columns, const uint16_t* left, const uint16_t* right, float* out,
              int64_t stride, bool accumulate) {
  constexpr int64_t square = 2 * tile_rows;  // of 2 x 2 tiles
  alignas(64) float sums[square * square];
  const int64_t depth_tiles = tiles_of(depth, tile_depth), line = depth_tiles * parts * tile_elements;
  for (int64_t i = 0; i < rows; i += square) {
    const uint16_t* upper = left + i / tile_rows * line;
    const uint16_t* const lefts[2] = {
        upper, i + tile_rows < rows ? upper + line : upper};  // sums of a repeated tile are dropped
    for (int64_t j = 0; j < columns; j += square) {
      const uint16_t* first = right + j / tile_rows * line;
      const uint16_t* const rights[2] = {first, j + tile_rows < columns ? first + line : first};
      float* to = out + i * stride + j;
      const bool direct = !accumulate && i + square <= rows && j + square <= columns;
      float* at = direct ? to : sums;
      const int64_t at_stride = direct ? stride : square;
      float* const tiles[4] = {at, at + tile_rows, at + tile_rows * at_stride, at + tile_rows * at_stride + tile_rows};
      memory_is_touched();
      product(depth_tiles, lefts, rights, tiles, at_stride);
      memory_is_touched();
      if (!direct) write(sums, std::min(square, rows - i), std::min(square, columns - j), to, stride, accumulate);
    }
  }
}

}  // namespace ranvier::kernels::amx

#else

namespace ranvier::kernels::amx {

bool available() { return false; }
Session::Session() = default;
Session::~Session() = default;
bool split_rows(const float*, int64_t, int64_t, int64_t, uint16_t*) { return false; }
bool split_columns(const float*, int64_t, int64_t, int64_t, uint16_t*) { return false; }
void turn(uint16_t*, int64_t, int64_t) {}
void transpose(const uint16_t*, int64_t, int64_t, uint16_t*) {}
void multiply(int64_t, int64_t, int64_t, const uint16_t*, const uint16_t*, float*, int64_t, bool) {}

}  // namespace ranvier::kernels::amx
#endif
