// Lists of numbers for tests: a smooth one to feed in, and a comparison of two.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

namespace ranvier::testing {

using Doubles = std::vector<double>;

inline void expect_near(const Doubles& a, const Doubles& b, double tolerance, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (size_t i = 0; i < a.size(); ++i)
    ASSERT_TRUE(std::abs(a[i] - b[i]) <= tolerance * (1 + std::abs(b[i])))
        << what << " element " << i << ": " << a[i] << " against " << b[i];
}

/// sin(pace), sin(2 pace), ...
inline Doubles waves(size_t n, double pace) {
  Doubles v(n);
  for (size_t i = 0; i < n; ++i) v[i] = std::sin(pace * static_cast<double>(i + 1));
  return v;
}

}  // namespace ranvier::testing
