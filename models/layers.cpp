// The layers' parameters, initial values and running statistics.
#include "models/layers.h"

#include <cmath>

#include "models/coupling.h"

namespace ranvier::models {

namespace {

Tensor bare_conv(Tensor x, int64_t channels, int64_t filter, std::string_view name, const ConvOptions& options,
                 const Where& where) {
  Graph& graph = *x.graph;
  const Scope scope(graph, name);
  if (x.shape().rank() != 4) fail_at(where, "conv '{}': x must be (N, H, W, C), got {}", name, to_string(x.type()));
  const int64_t c = x.shape()[3];
  const double bound = 1.0 / std::sqrt(static_cast<double>(c * filter * filter));
  const Tensor w = parameter(graph, "weight", {channels, filter, filter, c},
                             options.init ? options.init : init::uniform(bound), where);
  const Tensor y = conv2d(x, cast(w, x.dtype(), where), {options.stride, options.padding, options.floor_to}, where);
  if (!options.bias) return y;
  return add(y, cast(parameter(graph, "bias", {channels}, init::uniform(bound), where), x.dtype(), where), where);
}

Tensor bare_linear(Tensor x, int64_t out, std::string_view name, bool bias, const Init& init, const Where& where) {
  Graph& graph = *x.graph;
  const Scope scope(graph, name);
  if (x.shape().rank() != 2) fail_at(where, "linear '{}': x must be (N, features), got {}", name, to_string(x.type()));
  const int64_t features = x.shape()[1];
  const double bound = 1.0 / std::sqrt(static_cast<double>(features));
  const Tensor w = parameter(graph, "weight", {out, features}, init ? init : init::uniform(bound), where);
  const Tensor y = matmul(x, cast(w, x.dtype(), where), false, true, where);
  if (!bias) return y;
  return add(y, cast(parameter(graph, "bias", {out}, init::uniform(bound), where), x.dtype(), where), where);
}

Tensor bare_norm(Tensor x, std::string_view name, const NormOptions& options, const Where& where) {
  Graph& graph = *x.graph;
  const Scope scope(graph, name);
  const int64_t c = x.shape()[-1];
  const Type statistic{parameter_type(graph), {c}};
  std::optional<Tensor> weight;
  if (options.weight) weight = parameter(graph, "weight", {c}, init::constant(1), where);
  const Tensor bias = parameter(graph, "bias", {c}, init::constant(0), where);
  const std::string mean_name = graph.path("running_mean"), var_name = graph.path("running_var");
  const Tensor running_mean = read(graph, "buffers", mean_name, statistic, init::constant(0), where);
  const Tensor running_var = read(graph, "buffers", var_name, statistic, init::constant(1), where);
  const BatchNormOptions op{options.eps, options.activation, options.pool};
  if (!graph.training()) return batch_norm_eval(x, weight, bias, running_mean, running_var, op, where);
  const BatchNormResult result = batch_norm(x, weight, bias, op, where);
  const double unbiased =
      result.rows > 1 ? static_cast<double>(result.rows) / static_cast<double>(result.rows - 1) : 1.0;
  const double keep = 1.0 - options.momentum;
  assign(graph, "buffers", mean_name, keep * running_mean + options.momentum * result.mean, where);
  assign(graph, "buffers", var_name, keep * running_var + (options.momentum * unbiased) * result.variance, where);
  return result.y;
}

}  // namespace

Tensor conv(Tensor x, int64_t channels, int64_t filter, std::string_view name, ConvOptions options, Where where) {
  return coupling_site(bare_conv(x, channels, filter, name, options, where), name, "conv");
}

Tensor linear(Tensor x, int64_t out, std::string_view name, bool bias, Init init, Where where) {
  return coupling_site(bare_linear(x, out, name, bias, init, where), name, "linear");
}

Tensor norm(Tensor x, std::string_view name, NormOptions options, Where where) {
  return coupling_site(bare_norm(x, name, options, where), name, "norm");
}

}  // namespace ranvier::models
