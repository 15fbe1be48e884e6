// What the arms of a study do.
#include "tools/study_arms.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>

#include "engine/ops.h"
#include "models/coupling_controls.h"
#include "tools/cli.h"

namespace ranvier::cli {
namespace {

bool holds(const std::vector<std::string>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

/// True of kinds that change activations at their sites, by an AtSite.
bool at_sites(const std::string& kind) {
  return holds({"dropout", "dropblock", "free_matrix", "extra_parameters"}, kind);
}

/// "block2" of tiny has its norm in "block2.norm", "group2" of speednet its second one in "group2.norm2".
std::string norm_of(const std::string& model, const std::string& site) {
  return site + (model == "speednet" ? ".norm2" : ".norm");
}

models::Classifier net_with(const std::string& model, int64_t classes, models::AtSite at_site) {
  if (model == "speednet") return models::Speednet{.classes = classes, .at_site = std::move(at_site)};
  return models::Tiny{.classes = classes, .at_site = std::move(at_site)};
}

models::CouplingOptions coupling_of(const Arm& arm, double strength, const std::string& model) {
  models::CouplingOptions o{.form = models::coupling_form(arm.kind), .strength = arm.sign * strength};
  for (const std::string& site : arm.sites) o.sites.push_back(norm_of(model, site));
  o.learned = arm.geometry == "learned";
  if (!arm.factors.empty())
    o.distance = holds(arm.factors, "distance"), o.size = holds(arm.factors, "size"),
    o.myelin = holds(arm.factors, "myelin");
  return o;
}

/// The energy penalty by a random matrix of K's spectrum, kept in "buffers/<site>.spectrum".
void add_spectrum(ArmTraining& training, const Arm& arm, double strength, const std::string& model, int64_t classes,
                  uint64_t seed, const std::array<float, 3>& mean, const std::array<float, 3>& std) {
  const auto penalties = std::make_shared<std::vector<Tensor>>();
  const auto widths = std::make_shared<std::map<std::string, int64_t>>();
  training.recipe.net = net_with(model, classes, [=, sites = arm.sites](Tensor x, std::string_view site) {
    Graph& graph = *x.graph;
    if (!graph.training() || !holds(sites, site)) return x;
    const int64_t n = x.shape()[-1];
    (*widths)[std::string(site)] = n;
    const Tensor k = read(graph, "buffers", graph.path("spectrum"), {DType::f32, {n, n}}, init::constant(0));
    penalties->push_back(models::dense_energy(reshape(x, {-1, n}), k));
    return x;
  });
  const double scale = arm.sign * strength;
  training.function = [=, inner = models::train_function(training.recipe, mean, std),
                       summed = training.recipe.summed_loss](const BatchTensors& batch) {
    penalties->clear();
    Objective objective = inner(batch);
    // as large a share of a summed loss as of a mean
    const double share = scale * (summed ? static_cast<double>(objective.logits.shape()[0]) : 1.0);
    for (const Tensor& penalty : *penalties) objective.loss = objective.loss + penalty * share;
    return objective;
  };
  training.begin = [=, options = coupling_of(arm, strength, model)](Session& session) {
    for (const auto& [site, n] : *widths) {  // from the geometry that the full arm has with this seed
      const std::vector<double> k = models::same_spectrum(
          models::coupling_matrix(session, norm_of(model, site) + ".coupling", n, options), n, seed);
      session.state().set<float>("buffers", site + ".spectrum", std::vector<float>(k.begin(), k.end()));
    }
  };
}

}  // namespace

const std::vector<std::string>& arm_kinds() {
  static const std::vector<std::string> kinds = {"none",     "dropout",         "dropblock",         "weight_decay",
                                                 "cutout",   "label_smoothing", "free_matrix",       "extra_parameters",
                                                 "energy",   "covariance",      "epistatic-penalty", "ephaptic",
                                                 "epistatic"};
  return kinds;
}

const std::vector<std::string>& geometries() {
  static const std::vector<std::string> known = {
      "fixed", "learned", "spectrum", "reshuffled", "reshuffled_positions", "reshuffled_sizes", "reshuffled_myelin"};
  return known;
}

bool is_coupling(const Arm& arm) {
  return holds({"energy", "covariance", "epistatic-penalty", "ephaptic", "epistatic"}, arm.kind);
}

void check_arm(const Arm& arm, const std::string& model, const std::string& file) {
  const auto require = [&](bool good, const std::string& message) {
    if (!good) throw UsageError(fmt::format("{}: arm '{}': {}", file, arm.name, message));
  };
  require(!arm.name.empty(), "an arm has no name");
  require(holds(arm_kinds(), arm.kind),
          fmt::format("no kind '{}'; known are {}", arm.kind, fmt::join(arm_kinds(), ", ")));
  const bool coupled = is_coupling(arm), sited = coupled || at_sites(arm.kind);
  require(arm.kind == "none" || !arm.strengths.empty(), "strengths is empty");
  require(arm.kind != "none" || arm.strengths.empty(), "kind none has no strengths");
  for (double s : arm.strengths) {
    const bool whole = arm.kind == "cutout";
    const double limit = whole ? 33 : arm.kind == "weight_decay" || (coupled && arm.kind != "ephaptic") ? 1e3 : 1;
    require(std::isfinite(s) && s > 0 && s < limit && (!whole || s == std::floor(s)),
            fmt::format("strength {} must be a {}number above 0 and below {}", s, whole ? "whole " : "", limit));
  }
  const std::string prefix = model == "speednet" ? "group" : "block";
  for (const std::string& site : arm.sites)
    require(site == prefix + "1" || site == prefix + "2" || site == prefix + "3",
            fmt::format("{0} has no site '{1}'; it has {2}1, {2}2 and {2}3", model, site, prefix));
  for (const std::string& site : arm.sites)
    require(std::count(arm.sites.begin(), arm.sites.end(), site) == 1, fmt::format("site '{}' comes twice", site));
  require(sited == !arm.sites.empty(), sited ? "sites is empty" : "sites mean nothing to kind " + arm.kind);
  require(holds(geometries(), arm.geometry),
          fmt::format("geometry '{}' is none of {}", arm.geometry, fmt::join(geometries(), ", ")));
  require(arm.geometry == "fixed" || coupled, fmt::format("geometry means nothing to kind {}", arm.kind));
  require(arm.geometry != "spectrum" || arm.kind == "energy", "geometry spectrum needs kind energy");
  for (const std::string& factor : arm.factors)
    require(holds({"distance", "size", "myelin"}, factor) || (factor == "constant" && arm.factors.size() == 1),
            fmt::format("factor '{}' is none of distance, size, myelin, or constant alone", factor));
  require(arm.factors.empty() || coupled, fmt::format("factors mean nothing to kind {}", arm.kind));
  require(arm.sign == 1 || (arm.sign == -1 && coupled),
          fmt::format("sign = {}: must be 1, or -1 of a coupling", arm.sign));
}

ArmTraining arm_training(const Arm& arm, double strength, const std::string& model, int64_t batch, int64_t classes,
                         uint64_t seed, const std::array<float, 3>& mean, const std::array<float, 3>& std) {
  ArmTraining training{models::recipe(model, classes, batch), {}, {}, {}};
  models::Recipe& recipe = training.recipe;
  if (at_sites(arm.kind))
    recipe.net =
        net_with(model, classes, [sites = arm.sites, kind = arm.kind, strength](Tensor x, std::string_view at) {
          if (!holds(sites, at)) return x;
          if (kind == "dropout") return dropout(x, strength);
          if (kind == "dropblock") return models::drop_block(x, strength);
          return kind == "free_matrix" ? models::free_matrix(x, strength) : models::extra_parameters(x, strength);
        });
  if (arm.kind == "free_matrix" || arm.kind == "extra_parameters") models::add_coupling_rule(recipe.optimizer);
  if (arm.kind == "cutout") recipe.cutout = static_cast<int64_t>(strength);
  if (arm.kind == "label_smoothing") recipe.label_smoothing = strength;
  if (arm.kind == "weight_decay")  // rules differ in what they decay, and by how much: a factor keeps that
    for (optim::Rule& rule : recipe.optimizer.rules)
      std::visit(
          [&](auto& method) {
            if constexpr (requires { method.weight_decay; }) method.weight_decay *= strength;
          },
          rule.method);
  if (is_coupling(arm) && arm.geometry != "spectrum") {
    recipe = models::with_coupling(std::move(recipe), coupling_of(arm, strength, model));
    training.begin = [options = recipe.coupling](Session& session) { models::refresh_coupling(session, options); };
    training.refresh_each_epoch = recipe.coupling.learned;
    training.restatistics = models::changes_activations(recipe.coupling.form);
  }
  if (arm.geometry.starts_with("reshuffled")) {
    const auto dealer = std::make_shared<std::optional<models::GeometryDealer>>();
    const std::string part = arm.geometry == "reshuffled_positions" ? "positions"
                             : arm.geometry == "reshuffled_sizes"   ? "log_size"
                             : arm.geometry == "reshuffled_myelin"  ? "logit_myelin"
                                                                    : "";
    training.before = [dealer, seed, part](Session& session, int64_t step) {
      if (!*dealer) dealer->emplace(session, seed, part);
      (*dealer)->deal(step);
    };
  }
  if (arm.geometry == "spectrum") {
    add_spectrum(training, arm, strength, model, classes, seed, mean, std);
    return training;
  }
  training.function = models::train_function(recipe, mean, std);
  return training;
}

}  // namespace ranvier::cli
