// The airbench94 network: whitening layer, three groups, and its test-time augmentation.
#include <algorithm>
#include <cmath>

#include "models/vision.h"

namespace ranvier::models {
namespace {

constexpr NormOptions norm_options{.eps = 1e-12, .momentum = 0.4, .weight = false, .activation = Activation::gelu};

/// U(+-1/sqrt(9 C)), then the first C filters replaced by the identity: the layer starts by passing its input on.
Init identity_conv() {
  return [](std::span<float> values, const Shape& shape, uint64_t seed, uint64_t stream) {
    const int64_t k = shape[0], taps = shape[1] * shape[2], c = shape[3];
    init::uniform(1.0 / std::sqrt(static_cast<double>(taps * c)))(values, shape, seed, stream);
    for (int64_t filter = 0; filter < std::min(k, c); ++filter) {
      const auto first = values.begin() + filter * taps * c;
      std::fill(first, first + taps * c, 0.0f);
      first[taps / 2 * c + filter] = 1.0f;
    }
  };
}

/// U(+-1/sqrt(features)) divided by its own (unbiased) standard deviation.
Init unit_deviation() {
  return [](std::span<float> values, const Shape& shape, uint64_t seed, uint64_t stream) {
    init::uniform(1.0 / std::sqrt(static_cast<double>(shape[1])))(values, shape, seed, stream);
    double sum = 0, squares = 0;
    for (float v : values) sum += v;
    const double mean = sum / static_cast<double>(values.size());
    for (float v : values) squares += (v - mean) * (v - mean);
    const double deviation = std::sqrt(squares / static_cast<double>(values.size() - 1));
    for (float& v : values) v = static_cast<float>(v / deviation);
  };
}

Tensor conv_norm(Tensor x, int64_t channels, const std::string& number, PoolPlace pool) {
  const int64_t window = pool == PoolPlace::before ? 2 : 1;  // 31, 15 and 7 rows: the last of each would be dead work
  x = conv(x, channels, 3, "conv" + number, {.padding = 1, .floor_to = window, .bias = false, .init = identity_conv()});
  NormOptions options = norm_options;
  options.pool = pool;
  return norm(x, "norm" + number, options);
}

}  // namespace

Tensor Speednet::operator()(Tensor x) const {
  Graph& graph = *x.graph;
  {
    const Scope scope(graph, "whiten");
    const Tensor w =
        read(graph, "buffers", graph.path("weight"), {parameter_type(graph), {24, 2, 2, 3}}, init::constant(0));
    const Tensor bias = parameter(graph, "bias", {24}, init::uniform(1.0 / std::sqrt(12.0)));
    x = gelu(conv2d(x, cast(w, x.dtype())) + cast(bias, x.dtype()));
  }
  for (size_t g = 0; g < widths.size(); ++g) {
    const std::string site = "group" + std::to_string(g + 1);
    const Scope scope(graph, site);
    x = conv_norm(x, widths[g], "1", PoolPlace::before);
    x = conv_norm(x, widths[g], "2", PoolPlace::none);
    if (at_site) x = at_site(x, site);
  }
  x = flatten(max_pool(x, 3));
  return cast(linear(x, classes, "head", false, unit_deviation()), parameter_type(graph)) * (1.0 / 256);
}

Tensor six_views(const Classifier& net, Tensor x) {
  const int64_t h = x.shape()[1], w = x.shape()[2];
  const Tensor padded = pad_reflect(x, std::vector<int64_t>{0, 1, 1, 0}, std::vector<int64_t>{0, 1, 1, 0});
  const auto crop = [&](int64_t at) {
    return slice(padded, std::vector<int64_t>{0, at, at, 0}, std::vector<int64_t>{x.shape()[0], h, w, x.shape()[3]});
  };
  const auto both = [&](Tensor view) { return net(view) + net(flip_all(view)); };
  return 0.25 * both(x) + 0.125 * (both(crop(0)) + both(crop(2)));
}

}  // namespace ranvier::models
