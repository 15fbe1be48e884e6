// A checkpoint opened for use: the session, the recipe and the classes that its metadata name.
#pragma once
#include <memory>

#include "data/dataset.h"
#include "models/vision.h"
#include "tools/cli.h"

namespace ranvier::cli {

/// A model restored from a checkpoint of `train`.
struct ModelFile {
  std::unique_ptr<Session> session;
  models::Recipe recipe;
  data::Dataset like;  ///< no images: size, classes, mean and standard deviation of what it was trained on
  std::string slab;    ///< the weights to evaluate: "parameters" or "ema"
};

/// Opens one; throws a line that names the file and what is wrong with it.
ModelFile open_model(const std::string& path, const Common& common);

}  // namespace ranvier::cli
