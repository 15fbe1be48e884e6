// Buffers with sentinels on both sides, filled with NaN or garbage first, for tests of kernels that must write all and
// only theirs.
#pragma once
#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace ranvier::test {

/// `count` values between guard zones of 64 bytes or more of 0xA5; the values start as 0xA5 bytes too. They begin
/// `offset` elements behind a multiple of 64 bytes.
template <class T>
class Guarded {
 public:
  explicit Guarded(int64_t count, int64_t offset = 0)
      : count_(count), bytes_(static_cast<size_t>(count + offset) * sizeof(T) + 3 * zone, 0xA5) {
    const auto address = reinterpret_cast<uintptr_t>(bytes_.data()) + zone;
    first_ = reinterpret_cast<T*>((address + zone - 1) / zone * zone) + offset;
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() {
    const auto* p = reinterpret_cast<const uint8_t*>(first_);
    for (const uint8_t* at = bytes_.data(); at < bytes_.data() + bytes_.size(); ++at)
      if (at < p || at >= p + static_cast<size_t>(count_) * sizeof(T)) {
        EXPECT_EQ(*at, 0xA5) << "byte " << at - p << " outside a buffer of " << count_ << " was written";
        if (*at != 0xA5) return;
      }
  }
  T* data() { return first_; }
  operator T*() { return first_; }
  T& operator[](int64_t i) { return first_[i]; }
  int64_t size() const { return count_; }
  std::vector<T> values() const { return {first_, first_ + count_}; }

 private:
  static constexpr size_t zone = 64;
  int64_t count_;
  std::vector<uint8_t> bytes_;
  T* first_;
};

template <class T>
std::vector<T> normal(int64_t count, unsigned seed, double mean = 0, double deviation = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> draw(mean, deviation);
  std::vector<T> v(static_cast<size_t>(count));
  for (T& x : v) x = static_cast<T>(draw(engine));
  return v;
}

/// Every |got - want| at most `absolute` + `relative` |want|; NaN anywhere fails.
template <class A, class B>
void expect_near(const A& got, const B& want, double absolute, double relative, const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < want.size(); ++i) {
    const double w = static_cast<double>(want[i]), d = std::abs(static_cast<double>(got[i]) - w);
    ASSERT_TRUE(d <= absolute + relative * std::abs(w)) << what << "[" << i << "] is " << got[i] << ", want " << w;
  }
}

/// Same bytes, NaN included.
template <class T>
void expect_same_bits(const std::vector<T>& a, const std::vector<T>& b, const char* what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  if (a.empty()) return;
  ASSERT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(T)), 0) << what;
}

/// Runs `body` with a team of `threads`.
template <class Body>
void with_threads(int threads, Body&& body) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  body();
  omp_set_num_threads(before);
}

}  // namespace ranvier::test
