// Measures arithmetic and memory peaks: the best of a few short runs.
#include "tools/peak.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "kernels/common/parallel.h"
#if defined(RANVIER_HAS_CUDA)
#include "kernels/probe/probe.h"
#endif
#if defined(RANVIER_HAS_CUBLAS)
#include "kernels/matmul/cublas.h"
#endif

namespace ranvier::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int lanes = 16, chains = 24;  // enough independent sums to hide the latency of two fma units
typedef float Vector __attribute__((vector_size(lanes * sizeof(float))));

/// Runs chains of multiply-adds; the result is returned so that it must be computed.
float multiply_adds(int64_t rounds) {
  Vector sum[chains];
  for (int c = 0; c < chains; ++c) sum[c] = Vector{} + static_cast<float>(c);
  const Vector a = Vector{} + 0.999f, b = Vector{} + 0.001f;
  for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 24
    for (int c = 0; c < chains; ++c)
      for (int l = 0; l < lanes; ++l) sum[c][l] = __builtin_fmaf(sum[c][l], a[l], b[l]);
  float total = 0;
  for (const Vector& v : sum) total += v[0];
  return total;
}

double best_of(int runs, auto&& body) {
  double best = 1e30;
  for (int run = 0; run < runs; ++run) {
    const auto start = Clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

Peak measure_cpu() {
  const int64_t threads = ranvier::threads();
  constexpr int64_t rounds = 2'000'000;
  std::vector<float> results(static_cast<size_t>(threads) * 16);
  const double arithmetic = best_of(5, [&] {
    kernels::parallel_for(threads, [&](int64_t t) { results[static_cast<size_t>(t) * 16] = multiply_adds(rounds); });
  });
  const size_t bytes = size_t{256} << 20;
  Memory from(Device::cpu(), bytes), to(Device::cpu(), bytes);
  std::memset(from.data(), 1, bytes);
  const double copy = best_of(5, [&] {
    kernels::parallel_for(threads, [&](int64_t t) {
      const size_t begin = bytes * static_cast<size_t>(t) / static_cast<size_t>(threads);
      const size_t end = bytes * static_cast<size_t>(t + 1) / static_cast<size_t>(threads);
      std::memcpy(static_cast<char*>(to.data()) + begin, static_cast<char*>(from.data()) + begin, end - begin);
    });
  });
  return {2.0 * static_cast<double>(threads * rounds) * lanes * chains / arithmetic / 1e9,
          2.0 * static_cast<double>(bytes) / copy / 1e9};
}

#if defined(RANVIER_HAS_CUDA)
/// Best seconds of a few runs by the device's own clock.
double best_on_device(Device device, int runs, auto&& body) {
  double best = 1e30;
  for (int run = 0; run < runs; ++run) {
    Timeline timeline(device);
    timeline.mark();
    body();
    timeline.mark();
    best = std::min(best, timeline.milliseconds().back() / 1e3);
  }
  return best;
}

double probe(Device device, kernels::ProbeUnit unit) {
  const Memory out(device, kernels::probe_outputs * sizeof(float));
  constexpr double long_enough = 5e-3;  // seconds: clocks have settled and the launch does not count
  double flops = 0;
  for (int rounds = 16;; rounds *= 4) {
    const double seconds = best_on_device(device, 3, [&] {
      flops = kernels::probe_cuda(unit, rounds, static_cast<float*>(out.data()), stream_of(device));
    });
    if (seconds >= long_enough || rounds > (1 << 26)) return flops / seconds / 1e9;
  }
}

/// Random bits of f32 (as of two 16-bit numbers) between 0.5 and 1 in magnitude: zeros would draw less power.
void fill_randomly(Device device, const Memory& memory) {
  std::vector<uint32_t> words(memory.bytes() / 4);
  uint32_t state = 1;
  for (uint32_t& word : words) {
    state = state * 1664525u + 1013904223u;
    word = 0x3f003f00u | (state >> 8 & 0x807f807fu);
  }
  copy_to_device(device, memory.data(), words.data(), words.size() * 4);
}

#if defined(RANVIER_HAS_CUBLAS)
double square_product(Device device, kernels::CublasType type, size_t element) {
  constexpr int64_t size = 8192;
  const kernels::CublasMatmul product({1, size, size, size}, type, 256);
  const size_t bytes = static_cast<size_t>(size * size) * element;
  const Memory a(device, bytes), b(device, bytes), c(device, bytes), workspace(device, product.workspace());
  fill_randomly(device, a), fill_randomly(device, b);
  const double seconds = best_on_device(
      device, 5, [&] { product.run(a.data(), b.data(), c.data(), workspace.data(), stream_of(device)); });
  return 2.0 * size * size * size / seconds / 1e9;
}
#endif

Peak measure_cuda(Device device) {
  using kernels::ProbeUnit;
  Peak peak;
  const size_t bytes = size_t{256} << 20;
  const Memory from(device, bytes), to(device, bytes);
  fill_randomly(device, from);
  peak.gbs = 2.0 * static_cast<double>(bytes) / 1e9 /
             best_on_device(device, 10, [&] { copy_on_device(device, to.data(), from.data(), bytes); });
  peak.gflops = probe(device, ProbeUnit::f32), peak.gflops_f64 = probe(device, ProbeUnit::f64);
  peak.gflops_tf32 = probe(device, ProbeUnit::tf32);
  peak.gflops_bf16 = probe(device, ProbeUnit::bf16), peak.gflops_f16 = probe(device, ProbeUnit::f16);
#if defined(RANVIER_HAS_CUBLAS)
  using kernels::CublasType;
  peak.gflops_f64 = std::max(peak.gflops_f64, square_product(device, CublasType::f64, 8));  // has tensor cores, too
  peak.gflops_tf32 = std::max(peak.gflops_tf32, square_product(device, CublasType::tf32, 4));
  peak.gflops_bf16 = std::max(peak.gflops_bf16, square_product(device, CublasType::bf16, 2));
  peak.gflops_f16 = std::max(peak.gflops_f16, square_product(device, CublasType::f16, 2));
#endif
  return peak;
}
#endif

}  // namespace

double Peak::rate(DType operands, bool tf32) const {
  if (operands == DType::f64 && gflops_f64 > 0) return gflops_f64;
  if (operands == DType::bf16 && gflops_bf16 > 0) return gflops_bf16;
  if (operands == DType::f16 && gflops_f16 > 0) return gflops_f16;
  return tf32 && gflops_tf32 > 0 ? gflops_tf32 : gflops;
}

Peak measure_peak(Device device) {
#if defined(RANVIER_HAS_CUDA)
  if (device.backend == Backend::cuda) return measure_cuda(device);
#else
  (void)device;
#endif
  return measure_cpu();
}

}  // namespace ranvier::cli
