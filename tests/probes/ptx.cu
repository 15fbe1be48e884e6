// One kernel for each PTX wrapper of kernels/common/ptx.cuh: operands in, registers or memory out.
#include "kernels/common/mma_tile.cuh"
#include "kernels/common/ptx.cuh"
#include "tests/device_array.h"
#include "tests/probes/probes.h"

namespace ranvier::test {
namespace {

namespace ptx = kernels::ptx;
constexpr int lanes = 32;

template <bool transposed>
__global__ void ldmatrix_kernel(const uint16_t* tile, const int* rows, uint32_t* out) {
  RANVIER_SHARED(uint16_t, shared, [lanes][8]);
  for (int i = 0; i < 8; ++i) shared[threadIdx.x][i] = tile[threadIdx.x * 8 + i];
  __syncwarp();
  uint32_t r[4];
  if (transposed)
    ptx::ldmatrix_x4_trans(r, shared[rows[threadIdx.x]]);
  else
    ptx::ldmatrix_x4(r, shared[rows[threadIdx.x]]);
  for (int i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = r[i];
}

template <Multiply kind>
__global__ void mma_kernel(const uint32_t* a, const uint32_t* b, float* d) {
  const unsigned at = blockIdx.x * lanes + threadIdx.x;
  uint32_t mine[4];
  float sums[4];
  for (int i = 0; i < 4; ++i) mine[i] = a[4 * at + i], sums[i] = d[4 * at + i];
  if constexpr (kind == Multiply::bf16_k16)
    ptx::mma_m16n8k16<kernels::bf16>(sums, mine, b[2 * at], b[2 * at + 1]);
  else if constexpr (kind == Multiply::f16_k16)
    ptx::mma_m16n8k16<kernels::f16>(sums, mine, b[2 * at], b[2 * at + 1]);
  else
    ptx::mma_m16n8k8_tf32(sums, mine, b[2 * at], b[2 * at + 1]);
  for (int i = 0; i < 4; ++i) d[4 * at + i] = sums[i];
}

__global__ void to_tf32_kernel(const float* values, uint32_t* out, int count) {
  if (static_cast<int>(threadIdx.x) < count) out[threadIdx.x] = ptx::to_tf32(values[threadIdx.x]);
}

__global__ void pack_kernel(bool f16, const float* values, uint32_t* out, int count) {
  const int at = static_cast<int>(threadIdx.x);
  if (at >= count) return;
  const float low = values[2 * at], high = values[2 * at + 1];
  out[at] = f16 ? ptx::pack<kernels::f16>(low, high) : ptx::pack<kernels::bf16>(low, high);
}

__global__ void fast_kernel(Fast function, const float* values, float* out, int count) {
  const int at = static_cast<int>(threadIdx.x);
  if (at >= count) return;
  const float x = values[at];
  out[at] = function == Fast::exp2           ? ptx::fast_exp2(x)
            : function == Fast::log2         ? ptx::fast_log2(x)
            : function == Fast::inverse_root ? ptx::fast_inverse_root(x)
                                             : ptx::fast_inverse(x);
}

/// The words that load_a and load_b name for tf32, found by filling a tile with the numbers of its words.
template <bool columns>
__global__ void tf32_words_kernel(int step, uint32_t* out) {
  constexpr int extent = 64;
  using Tile = kernels::mma::OperandTile<float, kernels::mma::Major::extent, extent>;
  RANVIER_SHARED(uint4, tile, [Tile::bytes / 16]);
  // multiples of 2^13, which tf32 keeps: the number of a word is read off its value
  for (unsigned word = threadIdx.x; word < Tile::bytes / 4; word += lanes)
    reinterpret_cast<uint32_t*>(tile)[word] = word << 13;
  __syncwarp();
  uint32_t r[4];
  if constexpr (columns)
    kernels::mma::load_b<float, kernels::mma::Major::extent, extent>(r, reinterpret_cast<const unsigned char*>(tile), 0,
                                                                     step);
  else
    kernels::mma::load_a<float, kernels::mma::Major::extent, extent>(r, reinterpret_cast<const unsigned char*>(tile), 0,
                                                                     step);
  for (int i = 0; i < 4; ++i) out[i * lanes + static_cast<int>(threadIdx.x)] = r[i] >> 13;
}

__global__ void cp_async_kernel(const uint8_t* source, int bytes, int valid, uint8_t* out) {
  RANVIER_SHARED(uint4, slots, [lanes]);
  slots[threadIdx.x] = {0xEEEEEEEE, 0xEEEEEEEE, 0xEEEEEEEE, 0xEEEEEEEE};
  if (bytes == 16)
    ptx::cp_async_16(&slots[threadIdx.x], source + 16 * threadIdx.x, valid);
  else
    ptx::cp_async_4(&slots[threadIdx.x], source + 16 * threadIdx.x, valid);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  reinterpret_cast<uint4*>(out)[threadIdx.x] = slots[threadIdx.x];
}

__global__ void wait_groups_kernel(const float* values, float* out) {
  RANVIER_SHARED(float, groups, [3][lanes]);
  const unsigned me = threadIdx.x;
  for (int g = 0; g < 3; ++g) {
    ptx::cp_async_4(&groups[g][me], values + g * lanes + me);
    ptx::cp_async_commit();
  }
  ptx::cp_async_wait<2>();
  out[me] = groups[0][me];
  ptx::cp_async_wait<1>();
  out[lanes + me] = groups[1][me];
  ptx::cp_async_wait<0>();
  out[2 * lanes + me] = groups[2][me];
}

__global__ void shared_address_kernel(int index, uint32_t* out) {
  RANVIER_SHARED(float, tile, [100]);
  out[0] = ptx::shared_address(&tile[index]) - ptx::shared_address(&tile[0]);
}

template <bool copies>
__global__ void banks_kernel(int swizzled, const uint4* source, uint32_t* out) {
  RANVIER_SHARED(uint4, tile, [lanes][8]);
  const unsigned me = threadIdx.x, column = swizzled ? me % 8 : 0;
  for (unsigned c = 0; c < 8; ++c) tile[me][c] = source[me];
  __syncwarp();
  if (copies) {
    ptx::cp_async_16(&tile[me][column], source + me);
    ptx::cp_async_commit();
    ptx::cp_async_wait<0>();
    out[me] = tile[me][column].x;
  } else {
    uint32_t r[4];
    ptx::ldmatrix_x4(r, &tile[me][column]);
    out[me] = r[0];
  }
}

}  // namespace

Fragments probe_ldmatrix(const std::vector<uint16_t>& tile, const std::vector<int>& rows, bool transposed) {
  const DeviceArray<uint16_t> from(tile);
  const DeviceArray<int> order(rows);
  const DeviceArray<uint32_t> out(4 * lanes);
  kernels::launch(transposed ? ldmatrix_kernel<true> : ldmatrix_kernel<false>, {1, lanes}, from.data(), order.data(),
                  out.data());
  const std::vector<uint32_t> values = out.values();
  Fragments fragments(lanes);
  for (size_t i = 0; i < values.size(); ++i) fragments[i / 4][i % 4] = values[i];
  return fragments;
}

std::vector<float> probe_mma(Multiply kind, const std::vector<uint32_t>& a, const std::vector<uint32_t>& b,
                             const std::vector<float>& d) {
  const DeviceArray<uint32_t> left(a), right(b);
  const DeviceArray<float> sums(d);
  const auto kernel = kind == Multiply::bf16_k16  ? mma_kernel<Multiply::bf16_k16>
                      : kind == Multiply::f16_k16 ? mma_kernel<Multiply::f16_k16>
                                                  : mma_kernel<Multiply::tf32_k8>;
  kernels::launch(kernel, {static_cast<unsigned>(a.size() / (4 * lanes)), lanes}, left.data(), right.data(),
                  sums.data());
  return sums.values();
}

std::vector<uint32_t> probe_to_tf32(const std::vector<float>& values) {
  const DeviceArray<float> from(values);
  const DeviceArray<uint32_t> out(values.size());
  kernels::launch(to_tf32_kernel, {1, 64}, from.data(), out.data(), static_cast<int>(values.size()));
  return out.values();
}

std::vector<uint32_t> probe_pack(bool f16, const std::vector<float>& values) {
  const DeviceArray<float> from(values);
  const DeviceArray<uint32_t> out(values.size() / 2);
  kernels::launch(pack_kernel, {1, 64}, f16, from.data(), out.data(), static_cast<int>(values.size() / 2));
  return out.values();
}

std::vector<float> probe_fast(Fast function, const std::vector<float>& values) {
  const DeviceArray<float> from(values);
  const DeviceArray<float> out(values.size());
  kernels::launch(fast_kernel, {1, 64}, function, from.data(), out.data(), static_cast<int>(values.size()));
  return out.values();
}

std::vector<std::array<uint32_t, 32>> probe_tf32_words(bool columns, int step) {
  const DeviceArray<uint32_t> out(4 * lanes);
  kernels::launch(columns ? tf32_words_kernel<true> : tf32_words_kernel<false>, {1, lanes}, step, out.data());
  const std::vector<uint32_t> words = out.values();
  std::vector<std::array<uint32_t, 32>> loads(4);
  for (size_t i = 0; i < words.size(); ++i) loads[i / lanes][i % lanes] = words[i];
  return loads;
}

std::vector<uint8_t> probe_cp_async(const std::vector<uint8_t>& source, int bytes, int valid) {
  const DeviceArray<uint8_t> from(source), out(16 * lanes);
  kernels::launch(cp_async_kernel, {1, lanes}, from.data(), bytes, valid, out.data());
  return out.values();
}

std::vector<float> probe_wait_groups(const std::vector<float>& values) {
  const DeviceArray<float> from(values), out(3 * lanes);
  kernels::launch(wait_groups_kernel, {1, lanes}, from.data(), out.data());
  return out.values();
}

uint32_t probe_shared_address(int index) {
  const DeviceArray<uint32_t> out(1);
  kernels::launch(shared_address_kernel, {1, 1}, index, out.data());
  return out.values()[0];
}

void probe_banks(bool swizzled, bool copies) {
  const DeviceArray<uint4> source(std::vector<uint4>(lanes, uint4{1, 2, 3, 4}));
  const DeviceArray<uint32_t> out(lanes);
  kernels::launch(copies ? banks_kernel<true> : banks_kernel<false>, {1, lanes}, int{swizzled}, source.data(),
                  out.data());
  out.values();
}

}  // namespace ranvier::test
