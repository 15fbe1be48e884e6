// The arms of a study: what each changes of a model's recipe, its loss, and its steps.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "models/vision.h"

namespace ranvier::cli {

/// One way to train.
struct Arm {
  std::string name, kind = "none";
  /// Tried by the tuning; one needs none, none for kind "none". Of weight_decay a factor on each rule's own, of cutout
  /// pixels, of free_matrix and extra_parameters what their term is multiplied by.
  std::vector<double> strengths;
  std::vector<std::string> sites;    ///< where dropout or the coupling acts: "block2", of speednet "group2"
  std::string geometry = "fixed";    ///< of a coupling: see geometries()
  std::vector<std::string> factors;  ///< of a coupling: distance, size, myelin; "constant" alone for none of them
  double sign = 1;                   ///< of a coupling's strength
};

/// Names of every kind.
const std::vector<std::string>& arm_kinds();
/// fixed, learned, spectrum (a random matrix of K's eigenvalues), and dealt anew at each step: reshuffled (all), or
/// positions, sizes or myelin alone.
const std::vector<std::string>& geometries();
bool is_coupling(const Arm& arm);
/// Throws UsageError naming the arm, the key and the value.
void check_arm(const Arm& arm, const std::string& model, const std::string& file);

/// An arm at a strength, ready to be trained.
struct ArmTraining {
  models::Recipe recipe;
  TrainFunction function;                              ///< of the recipe, with what the arm adds to the loss
  std::function<void(Session&)> begin;                 ///< once the state has memory
  std::function<void(Session&, int64_t step)> before;  ///< each step; empty where there is nothing to do
  bool refresh_each_epoch = false;                     ///< learned geometry: its norms, by models::refresh_coupling
  bool restatistics = false;  ///< batch norm's running statistics are taken anew without coupling after training
};
ArmTraining arm_training(const Arm& arm, double strength, const std::string& model, int64_t batch, int64_t classes,
                         uint64_t seed, const std::array<float, 3>& mean, const std::array<float, 3>& std);

}  // namespace ranvier::cli
