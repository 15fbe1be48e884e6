// ResNet-18 for 32x32 images.
#include "models/vision.h"

namespace ranvier::models {
namespace {

/// Two 3x3 convolutions around a shortcut; a 1x1 convolution adapts it where shapes change.
Tensor basic_block(Tensor x, int64_t channels, int64_t stride, std::string_view name) {
  const Scope scope(*x.graph, name);
  Tensor y = conv(x, channels, 3, "conv1", {.stride = stride, .padding = 1, .bias = false});
  y = norm(y, "bn1", {.activation = Activation::relu});
  y = norm(conv(y, channels, 3, "conv2", {.padding = 1, .bias = false}), "bn2");
  if (stride != 1 || x.shape()[3] != channels) {
    const Scope shortcut(*x.graph, "downsample");
    x = norm(conv(x, channels, 1, "0", {.stride = stride, .bias = false}), "1");
  }
  return relu(y + x);
}

}  // namespace

Tensor Resnet18::operator()(Tensor x) const {
  x = norm(conv(x, width, 3, "conv1", {.padding = 1, .bias = false}), "bn1", {.activation = Activation::relu});
  for (int stage = 0; stage < 4; ++stage) {
    const Scope scope(*x.graph, "layer" + std::to_string(stage + 1));
    const int64_t channels = width << stage;
    x = basic_block(x, channels, stage == 0 ? 1 : 2, "0");
    x = basic_block(x, channels, 1, "1");
  }
  return cast(linear(mean(x, {1, 2}), classes, "fc"), parameter_type(*x.graph));
}

}  // namespace ranvier::models
