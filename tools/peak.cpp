// Measures arithmetic and memory peaks: the best of a few short runs.
#include "tools/peak.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "engine/device.h"
#include "kernels/common/parallel.h"

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

}  // namespace

Peak measure_peak() {
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

}  // namespace ranvier::cli
