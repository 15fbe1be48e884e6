// Attacks, corruptions, damage and calibration of one network, with a progress line.
#include "tools/robustness.h"

#include <algorithm>

#include "data/batches.h"
#include "data/corruptions.h"
#include "models/robust/calibration.h"
#include "models/robust/damage.h"

namespace ranvier::cli {
namespace {

std::map<std::string, std::string> bindings_of(const std::string& slab) {
  if (slab == "parameters") return {};
  return {{"parameters", slab}};
}

bool needs_few(const std::string& attack) { return attack != "fgsm" && attack != "pgd20"; }

constexpr double large_epsilon = 128.0 / 255;
constexpr int damage_draws = 3;  // of noise or units, averaged

}  // namespace

const std::vector<std::string>& attack_names() {
  static const std::vector<std::string> names = {"fgsm", "pgd20", "pgd50x10", "apgd-ce", "apgd-t", "square"};
  return names;
}

Robustness::Robustness(const Common& common, Session& session, const models::Recipe& recipe, const data::Dataset& data,
                       const std::string& slab, RobustnessOptions options)
    : common_(common),
      session_(session),
      recipe_(recipe),
      options_(std::move(options)),
      slab_(slab),
      subset_(data::limited(data, options_.images, options_.subset_seed)),
      evaluator_(session, recipe, data, false, slab, std::min<int64_t>(250, subset_.size())),
      model_(session, recipe.net, data.mean, data.std, data.height, data.width,
             static_cast<int64_t>(data.classes.size()), bindings_of(slab)),
      progress_(common) {
  options_.images = subset_.size();
  options_.strong_images = std::min(options_.strong_images, options_.images);
}

robust::Images Robustness::pixels(int64_t count) const {
  robust::Images images{subset_.height, subset_.width, {}, {}};
  images.labels.assign(subset_.labels.begin(), subset_.labels.begin() + count);
  images.pixels.reserve(static_cast<size_t>(count * subset_.image_bytes()));
  for (int64_t e = 0; e < count * subset_.image_bytes(); ++e)
    images.pixels.push_back(static_cast<float>(subset_.images[static_cast<size_t>(e)]) / 255.0f);
  return images;
}

robust::AttackResult Robustness::attack(const std::string& name, double epsilon, const robust::Images& images) {
  const robust::Tick tick = [&](double share) {
    progress_.update(
        fmt::format("{} at {:.0f}/255 on {} images: {:.0f} %", name, 255 * epsilon, images.size(), 100 * share));
    if (interrupted()) throw Exit{130};
  };
  const uint64_t seed = options_.seed;
  if (name == "fgsm") return robust::fgsm(model_, images, epsilon);
  if (name == "pgd20")
    return robust::pgd(model_, images, {.epsilon = epsilon, .step = epsilon / 4, .iterations = 20, .seed = seed}, tick);
  if (name == "pgd50x10")
    return robust::pgd(model_, images,
                       {.epsilon = epsilon, .step = epsilon / 4, .iterations = 50, .restarts = 10, .seed = seed + 1},
                       tick);
  if (name == "apgd-ce") return robust::apgd(model_, images, {.epsilon = epsilon, .seed = seed}, tick);
  if (name == "apgd-t")
    return robust::apgd(model_, images, {.epsilon = epsilon, .goal = robust::Goal::targeted_dlr, .seed = seed}, tick);
  if (name == "square")
    return robust::square(
        model_, images, {.epsilon = epsilon, .queries = static_cast<int>(options_.square_queries), .seed = seed}, tick);
  throw UsageError(fmt::format("unknown attack '{}'; known are {}", name, fmt::join(attack_names(), ", ")));
}

/// Keeps what the red flags compare, on the strong images.
void Robustness::collect(const std::string& name, const robust::AttackResult& result) {
  std::vector<uint8_t> few(result.broken.begin(), result.broken.begin() + options_.strong_images);
  const double accuracy = 1 - static_cast<double>(std::count(few.begin(), few.end(), uint8_t{1})) /
                                  static_cast<double>(std::max<size_t>(few.size(), 1));
  if (name == "fgsm") {
    evidence_.fgsm = accuracy;
    evidence_.zero_gradients =
        static_cast<double>(result.zero_gradients) / static_cast<double>(std::max<int64_t>(result.gradients, 1));
  }
  if (name == "pgd20") evidence_.pgd = accuracy;
  if (name == "pgd50x10") evidence_.pgd_restarts = accuracy;
  if (name == "apgd-ce") evidence_.apgd_ce = accuracy;
  if (name == "apgd-t") evidence_.apgd_t = accuracy;
  if (name == "square") evidence_.square = accuracy;
  broken_[name] = std::move(few);
}

nlohmann::ordered_json Robustness::attack_row(const std::string& name, double epsilon, const robust::Images& images,
                                              robust::AttackResult& result) {
  const Stopwatch watch;
  result = attack(name, epsilon, images);
  return {{"attack", name},
          {"epsilon", epsilon},
          {"images", images.size()},
          {"robust_accuracy", result.robust_accuracy()},
          {"gradients", result.gradients},
          {"queries", result.queries},
          {"seconds", watch.wall()}};
}

nlohmann::ordered_json Robustness::attacks() {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  const robust::Images all = pixels(options_.images), few = pixels(options_.strong_images);
  evidence_ = {.epsilon = options_.epsilon};
  robust::AttackResult result;
  for (const std::string& name : options_.attacks) {
    if (name == "fgsm")  // the smaller ones show the fall
      for (double part : {0.25, 0.5}) rows.push_back(attack_row(name, part * options_.epsilon, all, result));
    rows.push_back(attack_row(name, options_.epsilon, needs_few(name) ? few : all, result));
    collect(name, result);
    if (name != "pgd20") continue;
    rows.push_back(attack_row(name, large_epsilon, few, result));
    evidence_.large_epsilon = result.robust_accuracy();
  }
  std::vector<std::string> climbers;
  for (const char* name : {"pgd20", "pgd50x10", "apgd-ce"})
    if (broken_.contains(name)) climbers.emplace_back(name);
  if (broken_.contains("square") && !climbers.empty()) {
    int64_t alone = 0;
    for (size_t i = 0; i < broken_["square"].size(); ++i)
      alone += broken_["square"][i] &&
               std::none_of(climbers.begin(), climbers.end(), [&](const auto& name) { return broken_[name][i]; });
    evidence_.square_alone = static_cast<double>(alone) / static_cast<double>(options_.strong_images);
  }
  return rows;
}

double Robustness::accuracy(const std::vector<uint8_t>& images) {
  const std::vector<float> p = evaluator_.probabilities(images);
  const size_t classes = subset_.classes.size();
  int64_t hits = 0;
  for (size_t i = 0; i < subset_.labels.size(); ++i) {
    const auto row = p.begin() + static_cast<int64_t>(i * classes);
    hits += std::max_element(row, row + static_cast<int64_t>(classes)) - row == subset_.labels[i];
  }
  return static_cast<double>(hits) / static_cast<double>(subset_.labels.size());
}

nlohmann::ordered_json Robustness::corruptions() {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  double sum = 0;
  int64_t counted = 0;
  for (const data::Corruption& type : data::corruptions()) {
    std::vector<double> by_severity;
    double mean = 0;
    for (int severity = 1; severity <= data::severities; ++severity) {
      progress_.update(fmt::format("{} severity {} on {} images", type.name, severity, subset_.size()));
      if (interrupted()) throw Exit{130};
      by_severity.push_back(
          accuracy(data::corrupt(type.name, severity, options_.seed, subset_.images, subset_.height, subset_.width)));
      mean += by_severity.back() / data::severities;
    }
    if (type.counted) sum += mean, ++counted;
    rows.push_back(
        {{"corruption", type.name}, {"counted", type.counted}, {"accuracy", mean}, {"by_severity", by_severity}});
  }
  return {{"name", fmt::format("CIFAR-10-C-style, seed {}", options_.seed)},
          {"images", subset_.size()},
          {"types_counted", counted},
          {"accuracy", sum / static_cast<double>(counted)},
          {"rows", rows}};
}

std::vector<float> Robustness::logits(const data::Dataset& data) {
  std::vector<float> scaled(data.images.size());
  std::transform(data.images.begin(), data.images.end(), scaled.begin(),
                 [](uint8_t v) { return static_cast<float>(v) / 255.0f; });
  return model_.logits(scaled);
}

nlohmann::ordered_json Robustness::calibration(const data::Dataset* held_out) {
  const auto classes = static_cast<int64_t>(subset_.classes.size());
  const std::vector<float> values = logits(subset_);
  const robust::Calibration raw = robust::calibration(values, subset_.labels, classes);
  double nll = 0, brier = 0, ece = 0, temperature = 0;
  if (held_out) {
    temperature = robust::fit_temperature(logits(*held_out), held_out->labels, classes);
    const robust::Calibration after = robust::calibration(values, subset_.labels, classes, temperature);
    nll = after.nll, brier = after.brier, ece = after.ece;
  } else {
    const size_t half = subset_.labels.size() / 2, rest = subset_.labels.size() - half;
    const auto part = [&](bool second) {
      const std::span labels(subset_.labels);
      const auto width = static_cast<size_t>(classes);
      return std::pair{std::span(values).subspan(second ? half * width : 0, (second ? rest : half) * width),
                       labels.subspan(second ? half : 0, second ? rest : half)};
    };
    if (half == 0) throw UsageError("--images 1: calibration needs at least two");
    for (bool second : {false, true}) {
      const auto [fit_on, fit_labels] = part(!second);
      const auto [score_on, score_labels] = part(second);
      const double t = robust::fit_temperature(fit_on, fit_labels, classes);
      const robust::Calibration after = robust::calibration(score_on, score_labels, classes, t);
      const double weight = static_cast<double>(score_labels.size()) / static_cast<double>(subset_.labels.size());
      nll += weight * after.nll, brier += weight * after.brier, ece += weight * after.ece, temperature += t / 2;
    }
  }
  return {{"images", subset_.size()},
          {"nll", raw.nll},
          {"brier", raw.brier},
          {"ece", raw.ece},
          {"temperature", temperature},
          {"temperature_fitted_on", held_out ? "held-out training images" : "the other half of the images"},
          {"nll_scaled", nll},
          {"brier_scaled", brier},
          {"ece_scaled", ece}};
}

nlohmann::ordered_json Robustness::damage() {
  nlohmann::ordered_json noise = nlohmann::ordered_json::array(), units = nlohmann::ordered_json::array();
  const auto mean_accuracy = [&](auto&& harm) {
    double sum = 0;
    for (int draw = 0; draw < damage_draws; ++draw) {
      if (interrupted()) throw Exit{130};
      const robust::Undo undo(session_.state());
      harm(static_cast<uint64_t>(draw));
      sum += accuracy(subset_.images);
    }
    return sum / damage_draws;
  };
  for (double level : {0.05, 0.1, 0.2, 0.3}) {
    progress_.update(fmt::format("weight noise {:.2f}", level));
    const auto harm = [&](uint64_t draw) {
      robust::add_weight_noise(session_.state(), slab_, level, options_.seed, draw);
    };
    noise.push_back({{"level", level}, {"draws", damage_draws}, {"accuracy", mean_accuracy(harm)}});
  }
  for (double share : {0.05, 0.1, 0.2, 0.4}) {
    progress_.update(fmt::format("ablation of {:.0f} % of the units", 100 * share));
    const auto harm = [&](uint64_t draw) { robust::ablate_units(session_.state(), slab_, share, options_.seed, draw); };
    units.push_back({{"share", share}, {"draws", damage_draws}, {"accuracy", mean_accuracy(harm)}});
  }
  return {{"weight_noise", noise}, {"unit_ablation", units}};
}

nlohmann::ordered_json Robustness::run(const data::Dataset* held_out) {
  const Stopwatch watch;
  nlohmann::ordered_json result = {{"images", options_.images},           {"strong_images", options_.strong_images},
                                   {"subset_seed", options_.subset_seed}, {"seed", options_.seed},
                                   {"epsilon", options_.epsilon},         {"clean_accuracy", accuracy(subset_.images)}};
  if (!options_.attacks.empty()) {
    result["attacks"] = attacks();
    const char* names[] = {"clear", "raised", "not checked"};
    for (const robust::RedFlag& flag : robust::red_flags(evidence_))
      result["red_flags"].push_back(
          {{"flag", flag.name}, {"state", names[static_cast<int>(flag.state)]}, {"detail", flag.detail}});
  }
  if (options_.corruptions) result["corruptions"] = corruptions();
  if (options_.calibration) result["calibration"] = calibration(held_out);
  if (options_.damage) result.update(damage());
  result["seconds"] = watch.wall();
  return result;
}

void print_robustness(const Common& common, const nlohmann::ordered_json& r) {
  const auto percent = [](const nlohmann::ordered_json& v) { return 100 * v.get<double>(); };
  common.say("{} fixed images (shuffle of seed {}): accuracy {:.2f} %", r["images"].get<int64_t>(),
             r["subset_seed"].get<uint64_t>(), percent(r["clean_accuracy"]));
  if (r.contains("attacks")) {
    common.say("\n{:<10}{:>9}{:>8}{:>18}{:>12}{:>12}{:>10}", "attack", "epsilon", "images", "robust accuracy",
               "gradients", "queries", "seconds");
    for (const auto& row : r["attacks"])
      common.say("{:<10}{:>5.0f}/255{:>8}{:>16.2f} %{:>12}{:>12}{:>10.1f}", row["attack"].get<std::string>(),
                 255 * row["epsilon"].get<double>(), row["images"].get<int64_t>(), percent(row["robust_accuracy"]),
                 row["gradients"].get<int64_t>(), row["queries"].get<int64_t>(), row["seconds"].get<double>());
    common.say("\nred flags of gradient masking");
    for (const auto& flag : r["red_flags"])
      common.say("  {:<12}{}: {}", flag["state"].get<std::string>(), flag["flag"].get<std::string>(),
                 flag["detail"].get<std::string>());
  }
  if (r.contains("corruptions")) {
    const auto& c = r["corruptions"];
    common.say("\n{} ({} types that count): mean accuracy {:.2f} %", c["name"].get<std::string>(),
               c["types_counted"].get<int64_t>(), percent(c["accuracy"]));
    common.say("{:<18}{:>9}   at severity 1 ... 5", "corruption", "mean");
    for (const auto& row : c["rows"]) {
      std::string line;
      for (const auto& v : row["by_severity"]) line += fmt::format("{:>8.2f}", percent(v));
      common.say("{:<18}{:>7.2f} % {}{}", row["corruption"].get<std::string>(), percent(row["accuracy"]), line,
                 row["counted"].get<bool>() ? "" : "   (not in the mean)");
    }
  }
  if (r.contains("weight_noise")) {
    std::string noise, units;
    for (const auto& row : r["weight_noise"])
      noise += fmt::format("  {:.2f}: {:.2f} %", row["level"].get<double>(), percent(row["accuracy"]));
    for (const auto& row : r["unit_ablation"])
      units += fmt::format("  {:.0f} %: {:.2f} %", 100 * row["share"].get<double>(), percent(row["accuracy"]));
    common.say("\naccuracy with weight noise (share of each tensor's rms){}", noise);
    common.say("accuracy without a share of the units             {}", units);
  }
  if (r.contains("calibration")) {
    const auto& c = r["calibration"];
    common.say("\ncalibration     NLL     Brier     ECE (15 bins)");
    common.say("as it is    {:>7.4f}  {:>8.4f}  {:>7.2f} %", c["nll"].get<double>(), c["brier"].get<double>(),
               percent(c["ece"]));
    common.say("T = {:<7.3f} {:>7.4f}  {:>8.4f}  {:>7.2f} %   (T fitted on {})", c["temperature"].get<double>(),
               c["nll_scaled"].get<double>(), c["brier_scaled"].get<double>(), percent(c["ece_scaled"]),
               c["temperature_fitted_on"].get<std::string>());
  }
  common.say("\nmeasured in {}", duration(r["seconds"].get<double>()));
}

}  // namespace ranvier::cli
