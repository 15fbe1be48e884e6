// The emulated instructions of sm_90 whose wrappers kernels/common/ptx.cuh does not have yet: mbarriers, TMA loads of
// two dimensions, and wgmma on 128-byte swizzled operands with K contiguous. Only the emulator's own tests use them so
// far.
#pragma once
#include <core.h>

namespace emulator {

void mbarrier_init(uint64_t* barrier, unsigned count, Site site = here());
/// Arrives; the phase ends when all have arrived and `bytes` more of copies than before have landed.
void mbarrier_arrive(uint64_t* barrier, unsigned bytes = 0, Site site = here());
/// Waits until the phase of this parity has ended.
void mbarrier_wait(uint64_t* barrier, unsigned parity, Site site = here());

/// A matrix in device memory, and the box of it that one load brings. Elements beyond its edges come as zeros.
struct TensorMap {
  const void* base;
  int element_bytes, columns, rows;
  int64_t pitch_bytes;
  int box_columns, box_rows;
};
/// Loads the box whose first element is (row, column); 16-byte pieces of its 128-byte rows are swizzled.
void tma_load(void* to, const TensorMap& map, uint64_t* barrier, int column, int row, Site site = here());

/// Shared-memory matrix descriptor: K contiguous, 128-byte swizzle, 1024 bytes from one group of eight rows to the
/// next.
inline uint64_t descriptor(const void* p) {
  return uint64_t{shared_addr(p) >> 4 & 0x3fff} | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}
/// d (64x64 over a warpgroup) += a (64x16) b (64x16)^T, bf16.
void wgmma_m64n64k16(float (&d)[32], uint64_t a, uint64_t b, Site site = here());
void wgmma_commit();
void wgmma_wait(int pending, Site site = here());

}  // namespace emulator
