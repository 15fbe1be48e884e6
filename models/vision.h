// The image classifiers: tiny, speednet and resnet18, each a function from normalised images to logits.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/session.h"
#include "models/coupling.h"
#include "models/layers.h"

namespace ranvier::models {

/// Images (N, H, W, 3), normalised, in the compute type -> logits (N, classes) in the parameters' type, for a loss that
/// is never computed in 16 bits.
using Classifier = std::function<Tensor(Tensor)>;

/// What is done to the activations of a network at a named place ("block2", "block3"; of speednet "group1" ... ), in
/// training and evaluation alike; empty leaves them.
using AtSite = std::function<Tensor(Tensor x, std::string_view site)>;

/// Three blocks of conv 3x3 without bias, batch norm, relu, max-pool 2 (widths 32-64-128), then linear: 113,962
/// parameters for 32x32 images and ten classes. The CPU's default.
struct Tiny {
  int64_t classes = 10;
  std::array<int64_t, 3> widths = {32, 64, 128};
  AtSite at_site = {};  ///< "block1" ... "block3", after the pool
  Tensor operator()(Tensor x) const;
};

/// The airbench94 network (K. Jordan 2024): a frozen whitening layer, three groups of two convolutions, pool before
/// norm, GELU; 1,971,352 trainable parameters. The logits are divided by 256. Set its whitening filters with
/// `set_whitening`.
struct Speednet {
  int64_t classes = 10;
  std::array<int64_t, 3> widths = {64, 256, 256};
  AtSite at_site = {};  ///< "group1" ... "group3", after the second convolution's activation
  Tensor operator()(Tensor x) const;
};

/// ResNet-18 in its CIFAR form (He et al. 2016): 3x3 stem without pool, four stages of two basic blocks, 64 to 512
/// channels, global average pool; 11,173,962 parameters for ten classes. Names follow torchvision.
struct Resnet18 {
  int64_t classes = 10;
  int64_t width = 64;
  Tensor operator()(Tensor x) const;
};

/// Eigenvalues (falling) and filters of the whitening layer.
struct Whitening {
  std::array<double, 12> eigenvalues;
  /// (24, 2, 2, 3): v_k / sqrt(lambda_k + 5e-4) with the component of largest magnitude positive, then their negatives.
  std::vector<float> filters;
};
/// From all 2x2 patches of the given u8 images (n, h, w, 3), normalised: eigenvectors of their uncentred second moment.
Whitening whitening(std::span<const uint8_t> images, int64_t height, int64_t width, const std::array<float, 3>& mean,
                    const std::array<float, 3>& std);
/// Computes it and puts the filters into "buffers/whiten.weight" (the network must have been traced once).
void set_whitening(State& state, const Whitening& whitening);

/// Test-time augmentation of airbench: six views, 1/4 the image and its mirror, 1/8 each shifted by one pixel along the
/// diagonal, both ways, and mirrored. Images are what the network takes.
Tensor six_views(const Classifier& net, Tensor images);

/// A network and how it is trained.
struct Recipe {
  std::string name;
  Classifier net;
  optim::Optimizer optimizer;
  int64_t batch = 128;
  int64_t epochs = 6;
  double label_smoothing = 0;
  bool summed_loss = false;       ///< sum over the batch instead of the mean
  bool flip = true;               ///< random mirror image
  bool alternating_flip = false;  ///< each image is seen both ways in any two epochs
  int64_t translate = 0;          ///< random shift by up to so many pixels
  bool reflect = false;           ///< what a shift uncovers: mirrored border, else zero
  int64_t cutout = 0;             ///< side of a square set to the mean
  bool whiten = false;            ///< needs set_whitening before training
  CouplingOptions coupling;       ///< needs refresh_coupling before training
};

/// The recipe with a coupling: checks it, and gives learned geometry an optimizer rule of its own. Throws Error.
Recipe with_coupling(Recipe recipe, CouplingOptions coupling);

/// The recipe of a model by name: "tiny", "speednet" or "resnet18"; throws Error on another name. `batch` 0 takes the
/// recipe's own.
Recipe recipe(std::string_view model, int64_t classes = 10, int64_t batch = 0);

/// The training function of a recipe: normalise, augment, network, loss.
TrainFunction train_function(const Recipe& recipe, const std::array<float, 3>& mean, const std::array<float, 3>& std);
/// A forward pass in training mode without coupling, which brings the running statistics of batch norm to what the
/// uncoupled network has; for a coupling of activations that acts in training only.
std::function<std::vector<Tensor>(Graph&)> statistics_function(const Recipe& recipe, const BatchType& type,
                                                               const std::array<float, 3>& mean,
                                                               const std::array<float, 3>& std);
/// Images to logits, with or without test-time augmentation.
EvalFunction eval_function(const Recipe& recipe, const std::array<float, 3>& mean, const std::array<float, 3>& std,
                           bool augmented = false);

}  // namespace ranvier::models
