// Spike times of a PINN's solution against exact ones.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "models/pinn.h"

namespace ranvier::test {

inline void expect_spikes(const pinn::Solution& solution, const std::vector<double>& exact, double tolerance) {
  EXPECT_EQ(solution.failure, "");
  ASSERT_EQ(solution.spike_times_ms.size(), exact.size());
  for (size_t i = 0; i < exact.size(); ++i)
    EXPECT_TRUE(std::abs(solution.spike_times_ms[i] - exact[i]) <= tolerance)
        << "spike " << i << " at " << solution.spike_times_ms[i] << ", exact " << exact[i];
  EXPECT_LE(solution.worst_fresh_ratio(), 2);
}

}  // namespace ranvier::test
