// `ranvier predict`: what a trained model sees on pictures of any size.
#include <algorithm>
#include <numeric>

#include "data/image.h"
#include "tools/evaluate.h"
#include "tools/model_file.h"

namespace ranvier::cli {
namespace {

struct PredictOptions {
  Common common;
  std::string checkpoint;
  std::vector<std::string> images;
  int64_t top = 3;
};

/// Images at once. Fixed, so that a picture gets the same bits alone and among others.
constexpr int64_t batch = 16;

void run(const PredictOptions& options) {
  if (options.top < 1) throw UsageError(fmt::format("--top {}: must be at least 1", options.top));
  ModelFile model = open_model(options.checkpoint, options.common);
  std::vector<uint8_t> pixels;
  for (const std::string& path : options.images) {
    const data::Image image = data::resize(data::load_image(path), model.like.height, model.like.width);
    pixels.insert(pixels.end(), image.pixels.begin(), image.pixels.end());
  }
  Evaluator evaluator(*model.session, model.recipe, model.like, false, model.slab, batch);
  const std::vector<float> probability = evaluator.probabilities(pixels);
  const size_t classes = model.like.classes.size();
  nlohmann::ordered_json predictions = nlohmann::ordered_json::array();
  for (size_t i = 0; i < options.images.size(); ++i) {
    const auto row = std::span(probability).subspan(i * classes, classes);
    std::vector<size_t> order(classes);
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return row[a] > row[b]; });
    order.resize(std::min(classes, static_cast<size_t>(options.top)));
    nlohmann::ordered_json ranked = nlohmann::ordered_json::array();
    std::string text;
    for (size_t c : order) {
      ranked.push_back({{"name", model.like.classes[c]}, {"probability", row[c]}});
      text += fmt::format("  {} {:.1f} %", model.like.classes[c], 100 * row[c]);
    }
    predictions.push_back({{"file", options.images[i]}, {"classes", ranked}});
    options.common.say("{}:{}", options.images[i], text);
  }
  options.common.print({{"predictions", predictions}});
}

}  // namespace

void add_predict(CLI::App& app) {
  auto options = std::make_shared<PredictOptions>();
  auto* command = subcommand(app, "predict", "Top classes of pictures, with probabilities");
  options->common.add_to(*command);
  options->common.add_network_to(*command);
  command->add_option("images", options->images, "JPEG or PNG files of any size")->required();
  command->add_option("--checkpoint", options->checkpoint, "File written by train")->required();
  command->add_option("--top", options->top, "Classes to show")->capture_default_str();
  command->callback([options] { run(*options); });
}

}  // namespace ranvier::cli
