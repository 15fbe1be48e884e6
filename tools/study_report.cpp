// The report of a study: tables, intervals, the sentence about the falsifier, and one picture.
#include <algorithm>
#include <cmath>
#include <map>

#include "models/robust/paired.h"
#include "tools/plot.h"
#include "tools/run.h"
#include "tools/study_run.h"

namespace ranvier::cli {
namespace {

/// Treatment against one arm in one metric.
struct Comparison {
  std::string arm;
  std::vector<double> differences;  // treatment - arm, by seed
  robust::Interval t, bca;
  double sign_flip = 1, t_p = 1, holm_flip = 1, holm_t = 1;
  bool better() const { return holm_flip <= 0.05 && holm_t <= 0.05 && bca.low > 0; }
  bool worse() const { return holm_flip <= 0.05 && holm_t <= 0.05 && bca.high < 0; }
};

class Report {
 public:
  Report(const StudyConfig& config, const RunLog& log) : c_(config), log_(log) {}

  nlohmann::ordered_json write(const std::filesystem::path& folder, const std::string& source) {
    compare_primary();
    text_ = fmt::format("# Study: {} against {} other arm{}\n\n", c_.treatment, c_.comparisons(),
                        c_.comparisons() == 1 ? "" : "s");
    if (!c_.claim.empty()) text_ += fmt::format("Claim under test: {}\n\n", c_.claim);
    text_ += fmt::format(
        "`{}`, {} epochs at batch {}, {} seeds, data: {}. Corruptions are \"CIFAR-10-C-style, seed 0\"; {} fixed test "
        "images, {} for the stronger attacks. Times are what the clock said: other work on the machine is in them.\n\n",
        c_.model, c_.epochs, c_.batch, c_.seeds.size(), source, c_.images, c_.strong_images);
    tuning();
    primary();
    text_ += "## What follows\n\n" + verdict() + "\n\n" + what_is_left_open();
    secondary();
    strong();
    draw_primary(folder);
    json_["text"] = text_;
    write_file(folder / "report.md", text_);
    write_file(folder / "report.json", json_.dump(1) + "\n");
    return json_;
  }

 private:
  /// Values of a metric for an arm, in the order of the seeds. "low_data" is a run of its own.
  std::vector<double> values(const std::string& arm, const std::string& metric) const {
    const bool low = metric == "low_data_accuracy";
    std::vector<double> found;
    for (int64_t seed : c_.seeds)
      for (const FinishedRun& run : log_.runs())
        if (run.key.stage == (low ? "low_data" : "main") && run.key.arm == arm && run.key.seed == seed)
          found.push_back(run.metrics.at(low ? "test_accuracy" : metric).get<double>());
    return found;
  }

  Comparison compare(const std::string& arm, const std::string& metric) const {
    const std::vector<double> ours = values(c_.treatment, metric), theirs = values(arm, metric);
    Comparison result{.arm = arm};
    for (size_t i = 0; i < ours.size(); ++i) result.differences.push_back(ours[i] - theirs[i]);
    result.t = robust::t_interval(result.differences);
    result.bca = robust::bca_interval(result.differences);
    return result;
  }

  void compare_primary() {
    std::vector<double> flips, ts;
    for (const Arm& arm : c_.arms) {
      if (arm.name == c_.treatment) continue;
      Comparison result = compare(arm.name, c_.primary);
      flips.push_back(result.sign_flip = robust::sign_flip_p(result.differences));
      ts.push_back(result.t_p = robust::paired_t_p(result.differences));
      primary_.push_back(std::move(result));
    }
    const std::vector<double> adjusted = robust::holm(flips), adjusted_t = robust::holm(ts);
    for (size_t i = 0; i < primary_.size(); ++i)
      primary_[i].holm_flip = adjusted[i], primary_[i].holm_t = adjusted_t[i];
  }

  /// The strength that the runs of an arm have; NaN where the arm has none.
  double strength_of(const std::string& arm) const {
    for (const FinishedRun& run : log_.runs())
      if (run.key.stage == "main" && run.key.arm == arm && !c_.arm(arm).strengths.empty()) return run.key.strength;
    return NAN;
  }
  std::string strength_text(const std::string& arm) const {
    const double strength = strength_of(arm);
    return std::isnan(strength) ? "" : fmt::format("{}", strength);
  }

  void tuning() {
    std::string rows;
    for (const FinishedRun& run : log_.runs())
      if (run.key.stage == "tuning")
        rows += fmt::format("| {} | {} | {:.3f} | {} |\n", run.key.arm, run.key.strength,
                            100 * run.metrics.at("score").get<double>(),
                            run.key.strength == strength_of(run.key.arm) ? "taken" : "");
    if (rows.empty()) return;
    text_ += fmt::format(
        "## Tuning\n\n{} epochs, seed {}, {} on {} held-out training images; the best strength of each arm was taken. "
        "Each arm was tuned by itself, on one seed; strengths were not matched between arms. So a difference between "
        "two arms is one of their strengths too.\n\n| arm | strength | score, % | |\n| --- | --- | --- | --- |\n{}\n",
        c_.tuning_epochs, c_.tuning_seed, c_.tuning_metric, c_.held_out, rows);
  }

  static std::string interval(const robust::Interval& i, double scale) {
    return fmt::format("{:+.2f} ... {:+.2f}", scale * i.low, scale * i.high);
  }

  void row(const std::string& arm, const std::string& metric, const std::vector<double>& own,
           const Comparison* against) {
    nlohmann::ordered_json entry = {
        {"arm", arm},       {"strength", strength_of(arm)}, {"seeds", own.size()},
        {"metric", metric}, {"mean", robust::mean_of(own)}, {"sd", robust::deviation_of(own)},
        {"values", own}};
    if (against) {
      entry["diff"] = robust::mean_of(against->differences);
      entry["ci_low"] = against->t.low, entry["ci_high"] = against->t.high;
      entry["bca_low"] = against->bca.low, entry["bca_high"] = against->bca.high;
      if (metric == c_.primary) {
        entry["p"] = against->holm_flip;  // adjusted
        entry["p_sign_flip"] = against->sign_flip, entry["p_t"] = against->t_p, entry["p_t_holm"] = against->holm_t;
      }
    }
    json_["rows"].push_back(std::move(entry));
  }

  void primary() {
    const std::vector<double> own = values(c_.treatment, c_.primary);
    text_ += fmt::format(
        "## Primary endpoint: {}\n\nDifferences are {} - arm, paired by seed, in points. Called better or worse only "
        "where the Holm-adjusted exact sign-flip p, the Holm-adjusted paired t and the BCa interval agree.\n\n| arm | "
        "strength | mean (sd), % | difference | 95 % t | 95 % BCa | p sign-flip | Holm | p t, Holm | {} is |\n| --- | "
        "--- | --- | --- | --- | --- | --- | --- | --- | --- |\n| {} | {} | {:.2f} ({:.2f}) | | | | | | | |\n",
        c_.primary, c_.treatment, c_.treatment, c_.treatment, strength_text(c_.treatment), 100 * robust::mean_of(own),
        100 * robust::deviation_of(own));
    row(c_.treatment, c_.primary, own, nullptr);
    for (const Comparison& p : primary_) {
      const std::vector<double> theirs = values(p.arm, c_.primary);
      text_ += fmt::format("| {} | {} | {:.2f} ({:.2f}) | {:+.2f} | {} | {} | {:.4f} | {:.4f} | {:.4f} | {} |\n", p.arm,
                           strength_text(p.arm), 100 * robust::mean_of(theirs), 100 * robust::deviation_of(theirs),
                           100 * robust::mean_of(p.differences), interval(p.t, 100), interval(p.bca, 100), p.sign_flip,
                           p.holm_flip, p.holm_t,
                           p.better()  ? "better"
                           : p.worse() ? "worse"
                                       : "not told apart");
      row(p.arm, c_.primary, theirs, &p);
    }
    text_ += "\n![Differences by seed](primary.svg)\n\n";
  }

  /// The falsifier, as the design fixed it.
  std::string verdict() {
    std::vector<std::string> unbeaten;
    for (const std::string& name : c_.falsifier)
      for (const Comparison& p : primary_)
        if (p.arm == name && !p.better()) unbeaten.push_back(name);
    json_["falsifier"] = c_.falsifier;
    json_["not_beaten"] = unbeaten;
    json_["claim_stands"] = unbeaten.empty();
    const std::string all = fmt::format("{}", fmt::join(c_.falsifier, " and "));
    if (unbeaten.empty())
      return fmt::format("The design's falsifier: {} must beat {}. It does, in {}.", c_.treatment, all, c_.primary);
    return fmt::format(
        "The design's falsifier: {} must beat {}. **It was not shown to beat {} in {}: the claim is "
        "dropped**, and whatever {} does is reported as a generic effect.",
        c_.treatment, all, fmt::join(unbeaten, " and "), c_.primary, c_.treatment);
  }

  /// Not told apart is not equal: how far the intervals of such arms reach.
  std::string what_is_left_open() const {
    double low = 0, high = 0;
    std::vector<std::string> arms;
    for (const Comparison& p : primary_)
      if (!p.better() && !p.worse())
        low = std::min(low, p.t.low), high = std::max(high, p.t.high), arms.push_back(p.arm);
    if (arms.empty()) return "";
    return fmt::format(
        "Not told apart is not equal. Against {}, the 95 % t intervals leave room for {} to be worse by up to {:.2f} "
        "points, and better by up to {:.2f}.\n\n",
        fmt::join(arms, ", "), c_.treatment, -100 * low, 100 * high);
  }

  /// The secondary intervals without 0, all of them, by what they say of the treatment.
  std::string told_apart() const {
    std::map<int, std::string> lists;  // 1: in favour, -1: against, 0: neither
    int64_t all = 0, found = 0;
    for (const Metric& metric : study_metrics()) {
      if (!is_secondary(metric)) continue;
      for (const Arm& arm : c_.arms) {
        if (arm.name == c_.treatment) continue;
        const Comparison against = compare(arm.name, metric.name);
        ++all;
        if (against.t.low <= 0 && against.t.high >= 0) continue;
        ++found;
        lists[against.t.low > 0 ? metric.good : -metric.good] +=
            fmt::format("- {}, against {}: {:+.3f} ({:+.3f} ... {:+.3f})\n", metric.label, arm.name,
                        metric.scale * robust::mean_of(against.differences), metric.scale * against.t.low,
                        metric.scale * against.t.high);
      }
    }
    std::string text = fmt::format(
        "Of {} intervals, {} do not hold 0; about {:.0f} would not if nothing differed from anything. They are, as "
        "{} - arm:\n",
        all, found, 0.05 * static_cast<double>(all), c_.treatment);
    for (const auto& [good, heading] : {std::pair{1, "In favour of"}, {-1, "Against"}, {0, "Neither for nor against"}})
      text += fmt::format("\n{} {}:\n{}", heading, c_.treatment, lists[good].empty() ? "none\n" : "\n" + lists[good]);
    return text;
  }
  bool is_secondary(const Metric& metric) const {
    return metric.name != c_.primary && (metric.name != std::string("low_data_accuracy") || c_.low_data > 0);
  }

  void secondary() {
    text_ +=
        "## Everything else: intervals, no tests\n\nMean of each arm, and the difference to it with its 95 % t "
        "interval (not adjusted). " +
        told_apart();
    for (const Metric& metric : study_metrics()) {
      if (!is_secondary(metric)) continue;
      text_ += fmt::format("\n| {} | mean (sd) | {} - arm | 95 % |\n| --- | --- | --- | --- |\n", metric.label,
                           c_.treatment);
      for (const Arm& arm : c_.arms) {
        const std::vector<double> own = values(arm.name, metric.name);
        const double mean = metric.scale * robust::mean_of(own), sd = metric.scale * robust::deviation_of(own);
        if (arm.name == c_.treatment) {
          text_ += fmt::format("| {} | {:.3f} ({:.3f}) | | |\n", arm.name, mean, sd);
          row(arm.name, metric.name, own, nullptr);
          continue;
        }
        const Comparison against = compare(arm.name, metric.name);
        text_ += fmt::format("| {} | {:.3f} ({:.3f}) | {:+.3f} | {:+.3f} ... {:+.3f} |\n", arm.name, mean, sd,
                             metric.scale * robust::mean_of(against.differences), metric.scale * against.t.low,
                             metric.scale * against.t.high);
        row(arm.name, metric.name, own, &against);
      }
    }
    text_ += "\n";
  }

  void strong() {
    std::string rows, flags;
    for (const Arm& arm : c_.arms)
      for (const FinishedRun& run : log_.runs()) {
        if (run.key.stage != "main" || run.key.arm != arm.name || !run.metrics.contains("strong")) continue;
        for (const auto& attack : run.metrics["strong"])
          rows += fmt::format("| {} | {} | {:.0f}/255 | {:.2f} % |\n", arm.name, attack["attack"].get<std::string>(),
                              255 * attack["epsilon"].get<double>(), 100 * attack["robust_accuracy"].get<double>());
        for (const auto& flag : run.metrics["red_flags"])
          if (flag["state"] == "raised")
            flags += fmt::format("- {}: {} ({})\n", arm.name, flag["flag"].get<std::string>(),
                                 flag["detail"].get<std::string>());
        json_["strong"][arm.name] = run.metrics["strong"];
        json_["red_flags"][arm.name] = run.metrics["red_flags"];
      }
    if (rows.empty()) return;
    text_ += fmt::format(
        "## Attacks on {} images, seed {}\n\n| arm | attack | epsilon | robust accuracy |\n| --- | --- "
        "| --- | --- |\n{}\n",
        c_.strong_images, c_.seeds.front(), rows);
    text_ +=
        flags.empty() ? "No red flag of gradient masking was raised.\n" : "Red flags of gradient masking:\n" + flags;
  }

  void draw_primary(const std::filesystem::path& folder) const {
    Plot plot{.name = "primary"};
    std::string tics;
    std::vector<double> x, y, place, mean, low, high;
    for (size_t k = 0; k < primary_.size(); ++k) {
      const Comparison& p = primary_[k];
      for (double d : p.differences) x.push_back(static_cast<double>(k) + 0.85), y.push_back(100 * d);
      place.push_back(static_cast<double>(k) + 1.1);
      mean.push_back(100 * robust::mean_of(p.differences));
      low.push_back(100 * p.t.low), high.push_back(100 * p.t.high);
      tics += fmt::format("{}{} {}", k ? ", " : "", quoted(p.arm), k + 1);
    }
    plot.add("seeds", {x, y});
    plot.add("means", {place, mean, low, high});
    plot.body = fmt::format(
        "set xrange [0.5:{}]; set xtics ({}); set xlabel 'arm'; set key top left\n"
        "set ylabel {}\nset offsets 0, 0, graph 0.15, graph 0.05\n"
        "plot 0 with lines lw 1 lc rgb '#111111' notitle, $seeds using 1:2 with points pt 7 ps 0.8 lt 1 title 'one "
        "seed', "
        "$means using 1:2:3:4 with yerrorbars pt 5 ps 1 lw 2 lt 2 title 'mean and 95 % t interval'",
        static_cast<double>(primary_.size()) + 0.5, tics,
        quoted(fmt::format("{}: {} - arm (points)", escaped(c_.primary), escaped(c_.treatment))));
    draw(folder, plot);
  }

  /// Underscores as they are: gnuplot's enhanced text would lower what follows.
  static std::string escaped(const std::string& text) {
    std::string result;
    for (char c : text) result += c == '_' ? ' ' : c;
    return result;
  }

  const StudyConfig& c_;
  const RunLog& log_;
  std::vector<Comparison> primary_;
  std::string text_;
  nlohmann::ordered_json json_;
};

}  // namespace

const std::vector<Metric>& study_metrics() {
  static const std::vector<Metric> metrics = {
      {"corruption_accuracy", "corruption accuracy, %", 100, 1},
      {"test_accuracy", "test accuracy, %", 100, 1},
      {"train_accuracy", "accuracy on at most 5,000 training images, %", 100, 0},
      {"generalisation_gap", "training less test accuracy, points", 100, -1},
      {"low_data_accuracy", "test accuracy with little data, %", 100, 1},
      {"pgd20", "robust accuracy, PGD-20, %", 100, 1},
      {"nll", "NLL, nats", 1, -1},
      {"brier", "Brier score", 1, -1},
      {"ece", "ECE, %", 100, -1},
      {"temperature", "temperature", 1, 0},
      {"nll_scaled", "NLL after temperature scaling, nats", 1, -1},
      {"ece_scaled", "ECE after temperature scaling, %", 100, -1},
      {"weight_noise", "accuracy with weight noise, mean of four levels, %", 100, 1},
      {"unit_ablation", "accuracy without 5 to 40 % of the units, mean, %", 100, 1},
      {"ms_per_step", "time of a training step by the clock, ms", 1, -1},
  };
  return metrics;
}

nlohmann::ordered_json write_report(const StudyConfig& config, const RunLog& log, const std::filesystem::path& folder,
                                    const std::string& data_source) {
  return Report(config, log).write(folder, data_source);
}

}  // namespace ranvier::cli
