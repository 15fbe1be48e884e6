// Kernels that show what one PTX wrapper does with known operands, for tests/probes/test.cpp.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

namespace ranvier::test {

using Fragments = std::vector<std::array<uint32_t, 4>>;  ///< four registers of each of 32 lanes

/// ldmatrix of a tile of 32 rows of 8 values: lane l gives the address of row `rows[l]`.
Fragments probe_ldmatrix(const std::vector<uint16_t>& tile, const std::vector<int>& rows, bool transposed);

enum class Multiply { bf16_k16, f16_k16, tf32_k8 };
/// Independent products, one a block of 32 lanes: d (four f32 a lane) += a (four registers a lane) b (two a lane).
std::vector<float> probe_mma(Multiply kind, const std::vector<uint32_t>& a, const std::vector<uint32_t>& b,
                             const std::vector<float>& d);

/// Bits of to_tf32 of each value.
std::vector<uint32_t> probe_to_tf32(const std::vector<float>& values);

/// Words of pack<bf16> or pack<f16> of pairs of neighbouring values.
std::vector<uint32_t> probe_pack(bool f16, const std::vector<float>& values);

enum class Fast { exp2, log2, inverse_root, inverse };
/// The fast function of each value.
std::vector<float> probe_fast(Fast function, const std::vector<float>& values);

/// 32 slots of 16 bytes that begin as 0xEE; lane l copies `bytes` (16 or 4) of its 16 source bytes to its slot's start,
/// of which `valid` come from the source.
std::vector<uint8_t> probe_cp_async(const std::vector<uint8_t>& source, int bytes, int valid);

/// Three groups of copies, group g bringing values[32 g + lane]; what each lane reads of group 0, 1 and 2 after waits
/// that leave 2, 1 and 0 groups under way.
std::vector<float> probe_wait_groups(const std::vector<float>& values);

/// Distance of shared addresses of a float array's elements 0 and `index`.
uint32_t probe_shared_address(int index);

/// Reads and fills a tile of 32 rows of 128 bytes by ldmatrix and cp.async: each lane the same 16-byte column of its
/// own row, or (swizzled) column xor row.
void probe_banks(bool swizzled, bool copies);

/// Words of shared memory that the lanes read for a tf32 operand of a Major::extent tile, by load (4 of them) and lane:
/// rows of `load_a` (columns false) or columns of `load_b`, of the tile's first 16, at depths `8 step` and on.
std::vector<std::array<uint32_t, 32>> probe_tf32_words(bool columns, int step);

}  // namespace ranvier::test
