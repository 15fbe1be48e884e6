// Restores a model from a checkpoint and its metadata.
#include "tools/model_file.h"

#include <cmath>

#include "engine/checkpoint.h"
#include "tools/config.h"

namespace ranvier::cli {

ModelFile open_model(const std::string& path, const Common& common) {
  const checkpoint::Metadata metadata = checkpoint::read_metadata(path);
  const auto field = [&](const char* key) -> const std::string& {
    const auto it = metadata.find(key);
    if (it == metadata.end())
      throw UsageError(fmt::format("{}: no checkpoint of `ranvier train`: its metadata lack '{}'", path, key));
    return it->second;
  };
  ModelFile file{nullptr, {.name = "", .net = nullptr, .optimizer = optim::Sgd{}}, {}, {}};
  file.slab = field("weights");
  if (file.slab != "parameters" && file.slab != "ema")
    throw UsageError(fmt::format("{}: its metadata are damaged: weights '{}'", path, file.slab));
  try {
    file.like.classes = nlohmann::json::parse(field("classes")).get<std::vector<std::string>>();
    file.like.mean = nlohmann::json::parse(field("mean")).get<std::array<float, 3>>();
    file.like.std = nlohmann::json::parse(field("std")).get<std::array<float, 3>>();
  } catch (const nlohmann::json::exception& error) {
    throw UsageError(fmt::format("{}: its metadata are damaged: {}", path, error.what()));
  }
  const size_t classes = file.like.classes.size();
  if (classes < 2 || classes > 65536)
    throw UsageError(fmt::format("{}: its metadata are damaged: {} classes", path, classes));
  for (size_t c = 0; c < 3; ++c)
    if (!std::isfinite(file.like.mean[c]) || !std::isfinite(file.like.std[c]) || file.like.std[c] <= 0)
      throw UsageError(fmt::format("{}: its metadata are damaged: mean {}, std {} of channel {}", path,
                                   file.like.mean[c], file.like.std[c], c));
  try {
    file.recipe = models::recipe(field("model"), static_cast<int64_t>(classes));
    if (const auto config = metadata.find("config"); config != metadata.end()) {  // a coupling may act in evaluation
      TrainConfig trained;
      parse_config(config->second, path, trained);
      file.recipe.coupling = resolved_coupling(trained);
    }
  } catch (const Error& error) {
    throw UsageError(fmt::format("{}: {}", path, error.what()));
  }
  const Device device = common.start();
  file.session = std::make_unique<Session>(device, common.session_options(device));
  // One trace declares parameters and running statistics; weights averaged over the run have a slab of their own.
  file.session->eval_program({1, {file.like.height, file.like.width, file.like.channels}},
                             models::eval_function(file.recipe, file.like.mean, file.like.std));
  checkpoint::LoadOptions options{file.recipe.name, {"parameters", "buffers"}};
  State& state = file.session->state();
  if (file.slab != "parameters") {
    for (uint32_t id : state.slab("parameters")) {
      const Entry entry = state.entry(id);
      state.declare(file.slab, entry.name, entry.type, entry.init, Where::current());
    }
    options.slabs.push_back(file.slab);
  }
  state.materialise();
  checkpoint::load(state, path, options);
  return file;
}

}  // namespace ranvier::cli
