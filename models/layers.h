// Layers: functions Tensor -> Tensor whose parameters are state entries named by scope, as PyTorch names them. They
// compute in the type of x: parameters and statistics keep their own, and weights are cast where they meet x.
#pragma once
#include <string_view>

#include "engine/ops.h"

namespace ranvier::models {

struct ConvOptions {
  int64_t stride = 1, padding = 0;
  int64_t floor_to = 1;  ///< the window of a pool that follows at once; see Conv2dOptions
  bool bias = true;
  Init init = {};  ///< of the weight; U(+-1/sqrt(fan-in)) where it is empty, as PyTorch's default
};
/// x (N, H, W, C) -> (N, P, Q, channels) with a square filter; parameters <name>.weight (K, R, S, C) and <name>.bias.
Tensor conv(Tensor x, int64_t channels, int64_t filter, std::string_view name, ConvOptions options = {},
            Where where = Where::current());

/// x (N, features) -> (N, out); parameters <name>.weight (out, features) and <name>.bias.
Tensor linear(Tensor x, int64_t out, std::string_view name, bool bias = true, Init init = {},
              Where where = Where::current());

struct NormOptions {
  double eps = 1e-5;
  double momentum = 0.1;  ///< running <- (1 - momentum) running + momentum batch
  bool weight = true;     ///< train a scale (gamma), else it is 1
  Activation activation = Activation::none;
  PoolPlace pool = PoolPlace::none;
};
/// Batch norm, with its activation and 2x2 max-pool in the same op; <name>.weight and <name>.bias are parameters,
/// <name>.running_mean and <name>.running_var live in slab "buffers". Training traces use and record batch statistics.
Tensor norm(Tensor x, std::string_view name, NormOptions options = {}, Where where = Where::current());

}  // namespace ranvier::models
