// f32 products on AMX's bf16 tiles that keep the digits of f32: every operand in three bf16 parts, six products of
// them.
#pragma once
#include <cstdint>

namespace ranvier::kernels::amx {

// A float is the sum of three bf16 numbers, exactly: 8 + 8 + 8 binary digits. Of the nine products of parts the six
// that can reach the last digit of the whole are summed in f32, the small ones first, so that a result lies nearer to
// the exact one than a plain f32 sum of fma does (tests/amx_tiles.cpp). The unit counts numbers below 2^-126 as zero,
// and the parts of a number reach down to 2^-23 of it.
//
// An operand with `rows` rows and `depth`, the axis that is summed over, lies as (row tiles, depth tiles, 3 parts,
// 512): tiles of 16 rows x 32, filled up with zeros. In the left operand's tile a row's depth lies side by side; in the
// right operand's, whose rows are the product's columns, pairs (2 k, 2 k + 1) of the depth of 16 rows do. `turn` makes
// either of the other.
inline constexpr int64_t tile_rows = 16, tile_depth = 32, parts = 3, tile_elements = tile_rows * tile_depth;

/// Elements of an operand's tiles.
inline int64_t tiles_size(int64_t rows, int64_t depth) {
  return (rows + tile_rows - 1) / tile_rows * ((depth + tile_depth - 1) / tile_depth) * parts * tile_elements;
}

/// Whether this build and this machine have the unit and the system lends it; asks for it the first time.
bool available();

/// Readies the calling thread's tiles; gives them back at its end. Only where `available`.
class Session {
 public:
  Session();
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
};

/// Left tiles of x, element (row, depth) at x[row * stride + depth]. False where there is an infinity, which cannot be
/// split: the tiles are then of no use. A NaN makes NaN of what it would.
bool split_rows(const float* x, int64_t rows, int64_t depth, int64_t stride, uint16_t* tiles);
/// Right tiles of x, element (row, depth) at x[depth * stride + row]; fails as `split_rows` does.
bool split_columns(const float* x, int64_t rows, int64_t depth, int64_t stride, uint16_t* tiles);
/// Left tiles to right tiles and back, in place.
void turn(uint16_t* tiles, int64_t rows, int64_t depth);

/// Left tiles of x (rows, depth) to left tiles of its transpose (depth, rows).
void transpose(const uint16_t* tiles, int64_t rows, int64_t depth, uint16_t* transposed);

/// out (rows, columns), rows `stride` apart, = or += left (rows, depth) * right (columns, depth)^T. Within a Session.
void multiply(int64_t rows, int64_t depth, int64_t columns, const uint16_t* left, const uint16_t* right, float* out,
              int64_t stride, bool accumulate);

}  // namespace ranvier::kernels::amx
