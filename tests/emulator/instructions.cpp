// What the emulated warp instructions do, with the fragment layouts of the PTX ISA.
#include <emulator_ptx.h>

namespace ranvier::kernels::ptx {
namespace {
uint64_t multiply_adds = 0;
}

/// Multiply-adds of all mma instructions so far, for tests of how much work a kernel does.
extern "C" uint64_t emulator_multiply_adds() { return multiply_adds; }

void ldmatrix_run(void** lanes, unsigned mask) {
  if (mask != ~0u) emulator::fail("ldmatrix needs the full warp");
  for (int j = 0; j < 4; ++j) {  // matrix j: its row addresses come from lanes 8j to 8j + 7
    uint16_t m[8][8];
    for (int r = 0; r < 8; ++r) {
      const auto* call = static_cast<const LdmatrixCall*>(lanes[8 * j + r]);
      if (reinterpret_cast<uintptr_t>(call->row) % 16) emulator::fail("ldmatrix: a row address is not 16-byte aligned");
      emulator::shared_addr(call->row);
      emulator::note_access(call->row, 16, false);
      emulator::raw_copy(m[r], call->row, 16);
    }
    for (int lane = 0; lane < 32; ++lane) {
      auto* call = static_cast<LdmatrixCall*>(lanes[lane]);
      const int r = lane / 4, c = 2 * (lane % 4);
      const uint16_t low = call->trans ? m[c][r] : m[r][c], high = call->trans ? m[c + 1][r] : m[r][c + 1];
      call->r[j] = low | uint32_t{high} << 16;
    }
  }
}

namespace {

template <class T>
float half_of(uint32_t word, int high) {
  return to_float(T{static_cast<uint16_t>(high ? word >> 16 : word)});
}

template <class T>
void mma_k16(void** lanes, unsigned mask) {
  if (mask != ~0u) emulator::fail("mma needs the full warp");
  multiply_adds += 16 * 8 * 16;
  float a[16][16], b[8][16], d[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* x = static_cast<const MmaCall*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int h = 0; h < 2; ++h) {
      a[g][2 * t + h] = half_of<T>(x->a[0], h);
      a[g + 8][2 * t + h] = half_of<T>(x->a[1], h);
      a[g][2 * t + 8 + h] = half_of<T>(x->a[2], h);
      a[g + 8][2 * t + 8 + h] = half_of<T>(x->a[3], h);
      b[g][2 * t + h] = half_of<T>(x->b0, h);
      b[g][2 * t + 8 + h] = half_of<T>(x->b1, h);
      d[g][2 * t + h] = x->d[h];
      d[g + 8][2 * t + h] = x->d[2 + h];
    }
  }
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[i][k] * b[j][k];
      d[i][j] += sum;
    }
  for (int lane = 0; lane < 32; ++lane) {
    auto* x = static_cast<MmaCall*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int h = 0; h < 2; ++h) x->d[h] = d[g][2 * t + h], x->d[2 + h] = d[g + 8][2 * t + h];
  }
}

}  // namespace

void mma_bf16_run(void** lanes, unsigned mask) { mma_k16<bf16>(lanes, mask); }
void mma_f16_run(void** lanes, unsigned mask) { mma_k16<f16>(lanes, mask); }

void mma_tf32_run(void** lanes, unsigned mask) {
  if (mask != ~0u) emulator::fail("mma needs the full warp");
  multiply_adds += 16 * 8 * 8;
  float a[16][8], b[8][8], d[16][8];
  const auto value = [](uint32_t bits) {
    if (bits & 0x1fffu) emulator::fail("mma.tf32: an operand was not rounded by to_tf32");
    return std::bit_cast<float>(bits);
  };
  for (int lane = 0; lane < 32;
       ++lane) {  // a0 (g, t), a1 (g+8, t), a2 (g, t+4), a3 (g+8, t+4); b0 (k=t, n=g), b1 (t+4, g)
    const auto* x = static_cast<const MmaCall*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    a[g][t] = value(x->a[0]), a[g + 8][t] = value(x->a[1]), a[g][t + 4] = value(x->a[2]),
    a[g + 8][t + 4] = value(x->a[3]);
    b[g][t] = value(x->b0), b[g][t + 4] = value(x->b1);
    for (int h = 0; h < 2; ++h) d[g][2 * t + h] = x->d[h], d[g + 8][2 * t + h] = x->d[2 + h];
  }
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      float sum = 0;
      for (int k = 0; k < 8; ++k) sum += a[i][k] * b[j][k];
      d[i][j] += sum;
    }
  for (int lane = 0; lane < 32; ++lane) {
    auto* x = static_cast<MmaCall*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int h = 0; h < 2; ++h) x->d[h] = d[g][2 * t + h], x->d[2 + h] = d[g + 8][2 * t + h];
  }
}

}  // namespace ranvier::kernels::ptx
