// `ranvier eval`: accuracy of a checkpoint on the test images, per class, with the confusion matrix.
#include "data/batches.h"
#include "tools/evaluate.h"
#include "tools/model_file.h"

namespace ranvier::cli {
namespace {

struct EvalOptions {
  Common common;
  std::string checkpoint, data, split = "test";
  bool augmented = true;
};

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
  ModelFile model = open_model(options.checkpoint, options.common);
  const data::Splits splits =
      open_data(options.common, options.data.empty() ? std::nullopt : std::optional(options.data), false);
  const data::Dataset& data = splits[options.split == "train" ? data::Split::train : data::Split::test];
  if (data.classes != model.like.classes)
    throw UsageError(fmt::format("{} was trained on the classes {}; the data have {}", options.checkpoint,
                                 fmt::join(model.like.classes, " "), fmt::join(data.classes, " ")));
  Evaluator plain(*model.session, model.recipe, model.like, false, model.slab);
  const Evaluation e = plain.evaluate(data);
  print_confusion(options.common, data, e);
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
  options.common.print(result);
}

}  // namespace

void add_eval(CLI::App& app) {
  auto options = std::make_shared<EvalOptions>();
  auto* command = app.add_subcommand("eval", "Accuracy of a checkpoint, per class, with the confusion matrix");
  options->common.add_to(*command);
  options->common.add_precision_to(*command);
  command->add_option("--checkpoint", options->checkpoint, "File written by train")->required();
  command->add_option("--data", options->data, "Image folder, binary batches or the official archive");
  command->add_option("--split", options->split, "test or train")
      ->check(CLI::IsMember({"test", "train"}))
      ->capture_default_str();
  command->add_flag("!--no-tta", options->augmented, "Leave out the evaluation with six views");
  command->callback([options] { run(*options); });
}

}  // namespace ranvier::cli
