// The small default network and the recipe it is trained with.
#include <string>

#include "models/vision.h"

namespace ranvier::models {

Tensor Tiny::operator()(Tensor x) const {
  Graph& graph = *x.graph;
  for (size_t i = 0; i < widths.size(); ++i) {
    const std::string site = "block" + std::to_string(i + 1);
    const Scope scope(graph, site);
    x = conv(x, widths[i], 3, "conv", {.padding = 1, .bias = false});
    x = norm(x, "norm", {.activation = Activation::relu, .pool = PoolPlace::after});
    if (at_site) x = at_site(x, site);
  }
  return cast(linear(flatten(x), classes, "head"), parameter_type(graph));
}

}  // namespace ranvier::models
