// `ranvier eval`: accuracy of a checkpoint on the test images, per class, with the confusion matrix; with --robust also
// under attacks, corruptions and damage.
#include <algorithm>
#include <cmath>

#include "data/batches.h"
#include "tools/evaluate.h"
#include "tools/model_file.h"
#include "tools/robustness.h"

namespace ranvier::cli {
namespace {

struct EvalOptions {
  Common common;
  std::string checkpoint, data, split = "test", out;
  bool augmented = true, robust = false;
  std::string epsilon = "8/255";
  RobustnessOptions robustness;
};

/// "8/255" or "0.03".
double epsilon_of(const std::string& text) {
  double value = 0, divisor = 1;
  char rest = 0;
  const int read = std::sscanf(text.c_str(), "%lf / %lf %c", &value, &divisor, &rest);
  if ((read == 1 && text.find('/') == std::string::npos) || read == 2)
    if (const double epsilon = value / divisor; std::isfinite(epsilon) && epsilon > 0 && epsilon <= 1) return epsilon;
  throw UsageError(fmt::format("--epsilon {}: must be a number in (0, 1], like 0.03 or 8/255", text));
}

/// What --robust is to do; throws naming the flag.
RobustnessOptions robustness_of(const EvalOptions& options, const models::Recipe& recipe, int64_t classes) {
  RobustnessOptions o = options.robustness;
  o.epsilon = epsilon_of(options.epsilon);
  o.seed = options.common.seed.value_or(0);
  if (o.attacks.empty()) {
    o.attacks = attack_names();
    if (classes < 4) std::erase(o.attacks, "apgd-t");
  }
  if (o.attacks == std::vector<std::string>{"none"}) o.attacks.clear();
  for (const std::string& name : o.attacks) {
    if (std::find(attack_names().begin(), attack_names().end(), name) == attack_names().end())
      throw UsageError(
          fmt::format("--attacks {}: no such attack; known are {}, none", name, fmt::join(attack_names(), ", ")));
    if (name == "apgd-t" && classes < 4)
      throw UsageError(fmt::format("--attacks apgd-t: its loss needs four classes, {} has {}", recipe.name, classes));
  }
  return o;
}

void print_confusion(const Common& common, const data::Dataset& data, const Evaluation& e) {
  common.say("{:<12}{:>9}   taken for", "class", "accuracy");
  std::string heads;
  for (const std::string& name : data.classes) heads += fmt::format("{:>7}", name.substr(0, 6));
  common.say("{:<12}{:>9}  {}", "", "", heads);
  for (size_t c = 0; c < data.classes.size(); ++c) {
    std::string row;
    for (int64_t n : e.confusion[c]) row += fmt::format("{:>7}", n);
    common.say("{:<12}{:>7.2f} %  {}", data.classes[c], 100 * e.per_class[c], row);
  }
}

void run(const EvalOptions& options) {
  Common common = options.common;
  if (options.robust) {  // gradients that vanish in 16 bits would look like robustness
    if (!common.precision.empty() && common.precision != "f32")
      throw UsageError(fmt::format("--precision {}: --robust computes in f32", common.precision));
    common.precision = "f32";
    epsilon_of(options.epsilon);
  }
  ModelFile model = open_model(options.checkpoint, common);
  const data::Splits splits =
      open_data(options.common, options.data.empty() ? std::nullopt : std::optional(options.data), false);
  const data::Dataset& data = splits[options.split == "train" ? data::Split::train : data::Split::test];
  if (data.classes != model.like.classes)
    throw UsageError(fmt::format("{} was trained on the classes {}; the data have {}", options.checkpoint,
                                 fmt::join(model.like.classes, " "), fmt::join(data.classes, " ")));
  const RobustnessOptions robustness =
      robustness_of(options, model.recipe, static_cast<int64_t>(model.like.classes.size()));
  Evaluator plain(*model.session, model.recipe, model.like, false, model.slab);
  const Evaluation e = plain.evaluate(data);
  print_confusion(options.common, data, e);
  if (!options.out.empty()) write_evaluation(options.out, e, data);
  nlohmann::ordered_json result = {
      {"model", model.recipe.name}, {"images", data.size()},    {"test_accuracy", e.accuracy}, {"test_loss", e.loss},
      {"per_class", e.per_class},   {"confusion", e.confusion}, {"classes", data.classes},     {"data", splits.source}};
  std::string tta;
  if (options.augmented) {
    Evaluator six(*model.session, model.recipe, model.like, true, model.slab);
    const double accuracy = six.accuracy(data);
    result["test_accuracy_tta"] = accuracy;
    tta = fmt::format(", with six views {:.2f} %", 100 * accuracy);
  }
  options.common.say("{} on {} {} images: accuracy {:.2f} %{}, loss {:.4f}", model.recipe.name, data.size(),
                     options.split, 100 * e.accuracy, tta, e.loss);
  if (options.robust) {
    watch_for_interruption();
    data::Dataset images = data;
    images.mean = model.like.mean, images.std = model.like.std;
    result["robustness"] =
        Robustness(options.common, *model.session, model.recipe, images, model.slab, robustness).run();
    print_robustness(options.common, result["robustness"]);
  }
  options.common.print(result);
}

}  // namespace

void add_eval(CLI::App& app) {
  auto options = std::make_shared<EvalOptions>();
  auto* command = subcommand(app, "eval", "Accuracy of a checkpoint, per class, with the confusion matrix");
  options->common.add_to(*command);
  options->common.add_network_to(*command);
  command->add_option("--checkpoint", options->checkpoint, "File written by train")->required();
  command->add_option("--data", options->data, "Image folder, binary batches or the official archive");
  command->add_option("--split", options->split, "test or train")
      ->check(CLI::IsMember({"test", "train"}))
      ->capture_default_str();
  command->add_option("--out", options->out, "Write evaluation.json, which `ranvier view` shows in a run's folder");
  command->add_flag("!--no-tta", options->augmented, "Leave out the evaluation with six views");
  CLI::Option* robust = command->add_flag(
      "--robust", options->robust, "Also attacks, CIFAR-10-C-style corruptions, damaged weights and calibration");
  RobustnessOptions& robustness = options->robustness;
  const auto of_robust = [&](const char* name, auto& value, const char* help) {
    return command->add_option(name, value, help)->capture_default_str()->needs(robust)->group("With --robust");
  };
  constexpr int most_images = 1'000'000;
  of_robust("--epsilon", options->epsilon, "Largest change of a pixel in [0, 1], as 8/255 or a number");
  of_robust("--images", robustness.images, "Fixed images for FGSM, PGD-20, corruptions, damage and calibration")
      ->check(CLI::Range(1, most_images));
  of_robust("--strong-images", robustness.strong_images, "The first so many of them, for the stronger attacks")
      ->check(CLI::Range(1, most_images));
  of_robust("--subset-seed", robustness.subset_seed, "Seed of the shuffle whose first images are taken");
  of_robust("--square-queries", robustness.square_queries, "Queries of Square for each image")
      ->check(CLI::Range(1, 1'000'000));
  of_robust("--attacks", robustness.attacks, "fgsm,pgd20,pgd50x10,apgd-ce,apgd-t,square (all), or none")
      ->delimiter(',');
  const auto without = [&](const char* name, bool& value, const char* help) {
    command->add_flag(name, value, help)->needs(robust)->group("With --robust");
  };
  without("!--no-corruptions", robustness.corruptions, "Leave out the corruptions");
  without("!--no-damage", robustness.damage, "Leave out weight noise and unit ablation");
  command->callback([options] { run(*options); });
}

}  // namespace ranvier::cli
