// `ranvier data`: what a data set holds, fetching the official one, importing a folder of pictures.
#include "data/batches.h"
#include "data/cifar10.h"
#include "data/fetch.h"
#include "data/locate.h"
#include "data/png.h"
#include "tools/cli.h"

namespace ranvier::cli {
namespace {

struct DataOptions {
  Common common;
  std::string path, from, out;
  int64_t index = 0;
  bool fetch = false;
};

nlohmann::ordered_json summary(const data::Splits& splits) {
  nlohmann::ordered_json images, classes;
  images["train"] = splits.train.size();
  images["test"] = splits.test.size();
  const auto train = splits.train.counts(), test = splits.test.counts();
  for (size_t c = 0; c < splits.train.classes.size(); ++c)
    classes.push_back({{"name", splits.train.classes[c]}, {"train", train[c]}, {"test", test[c]}});
  return {{"source", splits.source},
          {"images", images},
          {"classes", classes},
          {"mean", splits.train.mean},
          {"std", splits.train.std}};
}

void report(const Common& common, const data::Splits& splits) {
  const auto train = splits.train.counts(), test = splits.test.counts();
  common.say("{:<14}{:>8}{:>8}", "class", "train", "test");
  for (size_t c = 0; c < splits.train.classes.size(); ++c)
    common.say("{:<14}{:>8}{:>8}", splits.train.classes[c], train[c], test[c]);
  common.say("{:<14}{:>8}{:>8}", "all", splits.train.size(), splits.test.size());
  common.say("mean of the training pixels in [0, 1]: {:.4f} (R, G, B)", fmt::join(splits.train.mean, " "));
  common.say("standard deviation:                    {:.4f}", fmt::join(splits.train.std, " "));
  common.print(summary(splits));
}

void info(const DataOptions& options) {
  report(options.common,
         open_data(options.common, options.path.empty() ? std::nullopt : std::optional(options.path), false));
}

void fetch(const DataOptions& options) {
  data::FetchOptions fetch;
  if (!options.from.empty()) fetch.from = options.from;
  fetch.log = [](const std::string& line) { fmt::print(stderr, "{}\n", line); };
  const auto path = data::fetch(fetch);
  options.common.say("fetched: {}", path.string());
  report(options.common, data::open(path));
}

void import(const DataOptions& options) {
  const std::filesystem::path to =
      options.out.empty() ? data::cache_folder() / data::cifar10_folder_name : std::filesystem::path(options.out);
  const data::Splits splits = data::import_image_folder(options.path, to);
  options.common.say("imported {} into {}", options.path, to.string());
  report(options.common, splits);
}

void sample(const DataOptions& options) {
  const data::Splits splits =
      open_data(options.common, options.path.empty() ? std::nullopt : std::optional(options.path), false);
  const data::Dataset& test = splits.test;
  if (options.index < 0 || options.index >= test.size())
    throw UsageError(fmt::format("--index {}: the test set has images 0 to {}", options.index, test.size() - 1));
  data::write_png(options.out, test.image(options.index), test.height, test.width);
  const std::string& name = test.classes[static_cast<size_t>(test.labels[static_cast<size_t>(options.index)])];
  options.common.say("wrote test image {} ({}) to {}", options.index, name, options.out);
  options.common.print({{"file", options.out}, {"index", options.index}, {"class", name}});
}

}  // namespace

void add_data(CLI::App& app) {
  auto* data = subcommand(app, "data", "Data sets: what they hold, fetching, importing");
  data->require_subcommand(1);
  const auto add = [&](const char* name, const char* help, auto run) {
    auto options = std::make_shared<DataOptions>();
    auto* command = subcommand(*data, name, help);
    options->common.add_to(*command);
    command->callback([options, run] { run(*options); });
    return std::pair{command, options};
  };
  {
    auto [command, options] = add("info", "Counts per class, mean and standard deviation", info);
    command->add_option("--data", options->path, "Image folder, binary batches or the official archive");
  }
  {
    auto [command, options] = add("fetch", "Download CIFAR-10 into the cache, or take it from somewhere else", fetch);
    command->add_option("--from", options->from, "A file, a folder or a URL instead of the official address");
  }
  {
    auto [command, options] = add("import", "Turn an image folder into the official binary layout", import);
    command->add_option("folder", options->path, "Folder with train/<class>/* and test/<class>/*")->required();
    command->add_option("--out", options->out, "Where to write (default: the cache folder)");
  }
  {
    auto [command, options] = add("sample", "Write one test image as a PNG", sample);
    command->add_option("file", options->out, "The PNG to write")->required();
    command->add_option("--data", options->path, "Image folder, binary batches or the official archive");
    command->add_option("--index", options->index, "Which test image")->capture_default_str();
  }
}

}  // namespace ranvier::cli
