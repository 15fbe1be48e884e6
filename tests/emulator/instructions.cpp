// What the emulated warp instructions do, with the fragment layouts of the PTX ISA ("Matrix Fragments for
// mma.m16n8k16 with floating point type", "... for mma.m16n8k8", "ldmatrix").
#include <emulator_ptx.h>

namespace ranvier::kernels::ptx {
namespace {

uint64_t multiply_adds = 0;

void need_full_warp(unsigned mask, const char* what) {
  if (mask != ~0u) emulator::fail(std::string(what) + " needs the full warp");
}

// Element (row, column) of a fragment: each of the 32 lanes has group = lane / 4 and place = lane % 4 and holds some
// elements of rows `group` and `group + 8`.
struct Lane {
  int group, place;
  explicit Lane(int lane) : group(lane / 4), place(lane % 4) {}
};

/// The accumulators of a warp as a 16x8 matrix, and back.
void gather(void** lanes, float (&d)[16][8]) {
  for (int lane = 0; lane < 32; ++lane) {
    const float* const from = static_cast<const MmaCall*>(lanes[lane])->d;
    const auto [g, t] = Lane(lane);
    for (int h = 0; h < 2; ++h) {
      d[g][2 * t + h] = from[h];
      d[g + 8][2 * t + h] = from[2 + h];
    }
  }
}
void scatter(void** lanes, const float (&d)[16][8]) {
  for (int lane = 0; lane < 32; ++lane) {
    float* const to = static_cast<MmaCall*>(lanes[lane])->d;
    const auto [g, t] = Lane(lane);
    for (int h = 0; h < 2; ++h) {
      to[h] = d[g][2 * t + h];
      to[2 + h] = d[g + 8][2 * t + h];
    }
  }
}

/// d += a b, where b comes by columns.
template <int depth>
void multiply(float (&d)[16][8], const float (&a)[16][depth], const float (&b)[8][depth]) {
  multiply_adds += 16 * 8 * depth;
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      float sum = 0;
      for (int k = 0; k < depth; ++k) sum += a[i][k] * b[j][k];
      d[i][j] += sum;
    }
}

template <class T>
float half_of(uint32_t word, int high) {
  return to_float(T{static_cast<uint16_t>(high ? word >> 16 : word)});
}

template <class T>
void mma_k16(void** lanes, unsigned mask) {
  need_full_warp(mask, "mma.m16n8k16");
  float a[16][16], b[8][16], d[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* const call = static_cast<const MmaCall*>(lanes[lane]);
    const auto [g, t] = Lane(lane);
    for (int h = 0; h < 2; ++h) {
      a[g][2 * t + h] = half_of<T>(call->a[0], h);
      a[g + 8][2 * t + h] = half_of<T>(call->a[1], h);
      a[g][2 * t + 8 + h] = half_of<T>(call->a[2], h);
      a[g + 8][2 * t + 8 + h] = half_of<T>(call->a[3], h);
      b[g][2 * t + h] = half_of<T>(call->b0, h);
      b[g][2 * t + 8 + h] = half_of<T>(call->b1, h);
    }
  }
  gather(lanes, d);
  multiply(d, a, b);
  scatter(lanes, d);
}

float tf32(uint32_t bits) {
  const float value = std::bit_cast<float>(bits);
  if (value == value && (bits & 0x1fffu)) emulator::fail("mma.tf32: an operand was not rounded by to_tf32");
  return value;
}

}  // namespace

void ldmatrix_run(void** lanes, unsigned mask) {
  need_full_warp(mask, "ldmatrix");
  for (int j = 0; j < 4; ++j) {  // matrix j: its row addresses come from lanes 8j to 8j + 7
    uint16_t m[8][8];
    const void* rows[8];
    for (int r = 0; r < 8; ++r) {
      rows[r] = static_cast<const LdmatrixCall*>(lanes[8 * j + r])->row;
      if (reinterpret_cast<uintptr_t>(rows[r]) % 16)
        emulator::fail("ldmatrix: a row address is not aligned to 16 bytes");
      emulator::shared_addr(rows[r]);
      emulator::note_access(rows[r], 16, emulator::Access::read);
      emulator::raw_copy(m[r], rows[r], 16);
    }
    emulator::count_banks(rows, static_cast<const LdmatrixCall*>(lanes[0])->site);
    for (int lane = 0; lane < 32; ++lane) {
      auto* const call = static_cast<LdmatrixCall*>(lanes[lane]);
      const int r = lane / 4, c = 2 * (lane % 4);
      const uint16_t low = call->trans ? m[c][r] : m[r][c], high = call->trans ? m[c + 1][r] : m[r][c + 1];
      call->r[j] = low | uint32_t{high} << 16;
    }
  }
}

void mma_bf16_run(void** lanes, unsigned mask) { mma_k16<bf16>(lanes, mask); }
void mma_f16_run(void** lanes, unsigned mask) { mma_k16<f16>(lanes, mask); }

void mma_tf32_run(void** lanes, unsigned mask) {
  need_full_warp(mask, "mma.m16n8k8");
  float a[16][8], b[8][8], d[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* const call = static_cast<const MmaCall*>(lanes[lane]);
    const auto [g, t] = Lane(lane);
    a[g][t] = tf32(call->a[0]);
    a[g + 8][t] = tf32(call->a[1]);
    a[g][t + 4] = tf32(call->a[2]);
    a[g + 8][t + 4] = tf32(call->a[3]);
    b[g][t] = tf32(call->b0);
    b[g][t + 4] = tf32(call->b1);
  }
  gather(lanes, d);
  multiply(d, a, b);
  scatter(lanes, d);
}

}  // namespace ranvier::kernels::ptx

/// Multiply-adds of all mma instructions so far, for tests of how much work a kernel does.
extern "C" uint64_t emulator_multiply_adds() { return ranvier::kernels::ptx::multiply_adds; }
