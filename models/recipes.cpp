// How each network is trained: optimizer, schedule, batch and augmentation.
#include <cmath>

#include "models/coupling_controls.h"
#include "models/vision.h"

namespace ranvier::models {
namespace {

/// SGD with Nesterov momentum .9 and decay 5e-4, rate up to .1 (per 128 images) over a fifth of the run, then to 0.
Recipe tiny(int64_t classes, int64_t batch) {
  Recipe recipe{.name = "tiny", .net = Tiny{classes}, .optimizer = optim::Sgd{}, .batch = batch ? batch : 64};
  const double peak = 0.1 * static_cast<double>(recipe.batch) / 128;
  recipe.optimizer =
      optim::Sgd{.lr = optim::triangle(peak, 0.2), .momentum = 0.9, .nesterov = true, .weight_decay = 5e-4};
  recipe.epochs = 6;
  return recipe;
}

/// K. Jordan's airbench94_muon (2024). Losses are summed, so rates of SGD do not change with the batch; Muon's step
/// does not depend on the size of the gradient and takes the square root of the batch.
Recipe speednet(int64_t classes, int64_t batch) {
  Recipe recipe{.name = "speednet", .net = Speednet{classes}, .optimizer = optim::Sgd{}, .batch = batch ? batch : 2000};
  const double decay = 2e-6 * static_cast<double>(recipe.batch);
  const auto sgd = [&](double rate, double until) {
    return optim::Sgd{
        .lr = optim::linear(rate, 0, until), .momentum = 0.85, .nesterov = true, .weight_decay = decay / rate};
  };
  const double muon = 0.24 * std::sqrt(static_cast<double>(recipe.batch) / 2000);
  recipe.optimizer = std::vector<optim::Rule>{
      {"^whiten\\.bias$", sgd(0.053, 0.375)},
      {"norm\\d\\.bias$", sgd(0.053, 1)},
      {"^head\\.weight$", sgd(0.67, 1)},
      {"conv\\d\\.weight$",
       optim::Muon{.lr = optim::linear(muon), .momentum = 0.6, .iterations = 3, .renormalize = true}},
  };
  recipe.epochs = 8;
  recipe.label_smoothing = 0.2;
  recipe.summed_loss = true;
  recipe.flip = false;
  recipe.alternating_flip = true;
  recipe.translate = 2;
  recipe.reflect = true;
  recipe.whiten = true;
  return recipe;
}

Recipe resnet18(int64_t classes, int64_t batch) {
  Recipe recipe{.name = "resnet18", .net = Resnet18{classes}, .optimizer = optim::Sgd{}, .batch = batch ? batch : 128};
  const double peak = 0.1 * static_cast<double>(recipe.batch) / 128;
  recipe.optimizer =
      optim::Sgd{.lr = optim::cosine(peak, 0.1), .momentum = 0.9, .nesterov = true, .weight_decay = 5e-4};
  recipe.epochs = 30;
  recipe.translate = 4;
  return recipe;
}

}  // namespace

Recipe recipe(std::string_view model, int64_t classes, int64_t batch) {
  if (model == "tiny") return tiny(classes, batch);
  if (model == "speednet") return speednet(classes, batch);
  if (model == "resnet18") return resnet18(classes, batch);
  fail("unknown model '{}'; known are tiny, speednet and resnet18", model);
}

TrainFunction train_function(const Recipe& recipe, const std::array<float, 3>& mean, const std::array<float, 3>& std) {
  return [=](const BatchTensors& batch) -> Objective {
    Tensor x = batch.images;
    if (recipe.flip) x = random_flip(x, "flip");
    if (recipe.alternating_flip) x = alternating_flip(x, batch.indices, batch.epoch, "flip");
    if (recipe.translate > 0)
      x = random_translate(x, recipe.translate, recipe.reflect ? Border::reflect : Border::zero, "translate");
    x = normalize(x, {mean.begin(), mean.end()}, {std.begin(), std.end()});
    if (recipe.cutout > 0) x = random_cutout(x, recipe.cutout, "cutout");
    Coupling coupling(recipe.coupling);
    const Tensor logits = recipe.net(x);
    const Tensor losses = softmax_cross_entropy(logits, batch.labels, {recipe.label_smoothing});
    Tensor loss = recipe.summed_loss ? sum(losses) : ranvier::mean(losses);
    if (const std::optional<Tensor> penalty = coupling.penalty()) {  // as large a share of a summed loss as of a mean
      const double scale = recipe.summed_loss ? static_cast<double>(logits.shape()[0]) : 1.0;
      loss = loss + *penalty * scale;
    }
    return {loss, logits};
  };
}

Recipe with_coupling(Recipe recipe, CouplingOptions coupling) {
  coupling.check();
  if (coupling.form == CouplingForm::none || coupling.strength == 0) return recipe;
  if (coupling.learned)  // geometry has a scale of its own, and decay would pull it to equal sizes and m = 1/2
    add_coupling_rule(recipe.optimizer);
  recipe.coupling = std::move(coupling);
  return recipe;
}

std::function<std::vector<Tensor>(Graph&)> statistics_function(const Recipe& recipe, const BatchType& type,
                                                               const std::array<float, 3>& mean,
                                                               const std::array<float, 3>& std) {
  return [=](Graph& graph) {
    Shape shape = {type.size};
    for (int axis = 0; axis < type.image.rank(); ++axis) shape.push_back(type.image[axis]);
    const Tensor images = input(graph, "images", {DType::u8, shape});
    return std::vector{recipe.net(normalize(images, {mean.begin(), mean.end()}, {std.begin(), std.end()}))};
  };
}

EvalFunction eval_function(const Recipe& recipe, const std::array<float, 3>& mean, const std::array<float, 3>& std,
                           bool augmented) {
  return [=](Tensor images) {
    const Tensor x = normalize(images, {mean.begin(), mean.end()}, {std.begin(), std.end()});
    const bool coupled = recipe.coupling.always && changes_activations(recipe.coupling.form);
    const Classifier net = [&](Tensor images_of_view) {
      const Coupling coupling(coupled ? recipe.coupling : CouplingOptions{});
      return recipe.net(images_of_view);
    };
    return augmented ? six_views(net, x) : net(x);
  };
}

}  // namespace ranvier::models
