// `ranvier study`: arms by seeds, tuned alike, paired, resumable; the report says what was found, whichever way.
#include <algorithm>
#include <cmath>
#include <map>

#include "data/batches.h"
#include "data/corruptions.h"
#include "data/files.h"
#include "tools/robustness.h"
#include "tools/study_run.h"

namespace ranvier::cli {
namespace {

struct StudyOptions {
  Common common;
  std::string config, data, out;
  int64_t rehearse = 0;
};

/// A network that has been trained.
struct Trained {
  std::unique_ptr<Session> session;
  models::Recipe recipe;
  double ms_per_step = 0, cpu_ms_per_step = 0, loss = 0;
};

/// Images [first, first + count) of a set.
data::Dataset part_of(const data::Dataset& all, int64_t first, int64_t count) {
  data::Dataset part = all;
  part.images.assign(all.images.begin() + first * all.image_bytes(),
                     all.images.begin() + (first + count) * all.image_bytes());
  part.labels.assign(all.labels.begin() + first, all.labels.begin() + first + count);
  return part;
}

class Study {
 public:
  Study(const StudyOptions& options, StudyConfig config)
      : common_(options.common), options_(options), config_(std::move(config)), progress_(common_) {}

  void run() {
    if (options_.rehearse > 0) return rehearse();
    prepare();
    tune();
    for (int64_t seed : config_.seeds)  // all arms of a seed together: a stopped study has whole pairs
      for (const Arm& arm : config_.arms) {
        const double strength = strength_of(arm);
        once({"main", arm.name, strength, seed}, [&] { return main_run(arm, strength, seed); });
        if (config_.low_data > 0)
          once({"low_data", arm.name, strength, seed}, [&] { return low_data_run(arm, strength, seed); });
      }
    const nlohmann::ordered_json report = write_report(config_, *log_, folder_, source_);
    common_.write(report["text"].get<std::string>());
    common_.say("report: {0}/report.md, {0}/report.json and {0}/primary.svg", folder_.string());
    common_.print(report);
  }

 private:
  void prepare() {
    device_ = common_.start();
    session_options_ = common_.session_options(device_);
    folder_ = options_.out.empty() ? std::filesystem::path("runs") / std::filesystem::path(options_.config).stem()
                                   : std::filesystem::path(options_.out);
    const auto own = folder_ / "study.toml";
    if (std::filesystem::exists(own)) {
      const std::vector<uint8_t> bytes = data::read_file(own.string(), 1 << 20);
      if (std::string(bytes.begin(), bytes.end()) != config_.text)
        throw UsageError(
            fmt::format("{} holds a study of another design; a design does not change once it runs: --out "
                        "names another folder",
                        folder_.string()));
    }
    split_data();
    create({folder_});
    if (!std::filesystem::exists(own)) write_file(own, config_.text);
    log_ = std::make_unique<RunLog>(folder_ / "runs.jsonl");
    watch_for_interruption();
    print_estimate();
  }

  /// Held-out images first, the rest for training, in an order that no seed of the study changes.
  void split_data() {
    const data::Splits splits = open_data(common_, options_.data.empty() ? std::nullopt : std::optional(options_.data));
    source_ = splits.train.name;  // not where it lies: reports are for others
    const data::Dataset shuffled = data::shuffled(splits.train, 0);
    const int64_t rest = shuffled.size() - config_.held_out;
    const int64_t wanted = config_.limit ? config_.limit : rest;
    if (wanted > rest || wanted < config_.batch)
      throw UsageError(fmt::format("limit = {}, held_out = {}, batch = {}: the set has {} training images",
                                   config_.limit, config_.held_out, config_.batch, shuffled.size()));
    held_out_ = part_of(shuffled, 0, config_.held_out);
    train_ = part_of(shuffled, config_.held_out, wanted);
    low_ = part_of(train_, 0, low_count());
    if (config_.low_data > 0 && low_.size() < config_.batch)
      throw UsageError(fmt::format("low_data = {}: {} images are less than a batch of {}", config_.low_data,
                                   low_.size(), config_.batch));
    test_ = splits.test;
  }
  int64_t low_count() const {
    return static_cast<int64_t>(std::llround(config_.low_data * static_cast<double>(train_.size())));
  }

  /// A few steps of every arm, so that a long study does not find its faults one by one.
  void rehearse() {
    device_ = common_.start();
    session_options_ = common_.session_options(device_);
    split_data();
    watch_for_interruption();
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const Arm& arm : config_.arms) {
      label_ = "rehearsal of " + arm.name;
      const double strength = arm.strengths.empty() ? 0 : arm.strengths.back();
      const Trained trained = train(arm, strength, config_.tuning_seed, train_, 1, options_.rehearse);
      const int64_t count = trained.session->parameter_count();
      progress_.finish(fmt::format("{:<28} {:>10} parameters  loss {:.6f}", arm.name, count, trained.loss));
      rows.push_back({{"arm", arm.name}, {"strength", strength}, {"parameters", count}, {"loss", trained.loss}});
    }
    common_.print({{"steps", options_.rehearse}, {"rows", rows}});
  }

  // ---- How long it will take

  /// Seconds on the wall and of processors.
  struct Cost {
    double wall = 0, processor = 0;
    void add(double times, const Cost& other) { wall += times * other.wall, processor += times * other.processor; }
  };
  /// A run that the log does not have: images it trains on and looks at (at most, in the stronger attacks).
  struct Pending {
    const Arm* arm;
    double strength, trained = 0, seen = 0, strong = 0;
  };

  std::vector<Pending> pending() const {
    std::vector<Pending> left;
    const auto add = [&](const RunKey& key, const Arm& arm, int64_t trained, double seen, double strong) {
      if (!log_->find(key)) left.push_back({&arm, key.strength, static_cast<double>(trained), seen, strong});
    };
    const double sets = static_cast<double>(data::corruptions().size()) * data::severities;
    const auto images = static_cast<double>(config_.images), few = static_cast<double>(config_.strong_images);
    const auto tested = static_cast<double>(test_.size()), held = static_cast<double>(held_out_.size());
    const double tuned = held + (config_.tuning_metric == "accuracy" ? 0 : images * sets);
    // clean, calibrated and damaged images; PGD-20, whose step is worth three forward passes, at two epsilons
    const double measured = images * (sets + 26 + 3 * 20) + few * 3 * 20 + held + tested + 5000;
    for (const Arm& a : config_.arms) {
      if (a.strengths.size() > 1)
        for (double s : a.strengths)
          add({"tuning", a.name, s, config_.tuning_seed}, a, train_.size() * config_.tuning_epochs, tuned, 0);
      for (int64_t seed : config_.seeds) {
        const bool strong = seed == config_.seeds.front() && !config_.strong_attacks.empty();
        add({"main", a.name, strength_of(a), seed}, a, train_.size() * config_.epochs, measured,
            strong ? few * (3 * (500 + 100 + 900) + static_cast<double>(config_.square_queries)) : 0);
        if (config_.low_data > 0)
          add({"low_data", a.name, strength_of(a), seed}, a, low_.size() * config_.epochs, tested, 0);
      }
    }
    return left;
  }

  Cost forward_cost(const Trained& network) const {
    const data::Dataset few = data::limited(test_, 500, 0);
    Evaluator evaluator(*network.session, network.recipe, few, false, "parameters");
    evaluator.accuracy(few);
    const Stopwatch watch;
    evaluator.accuracy(few);
    const auto count = static_cast<double>(few.size());
    return {watch.wall() / count, watch.cpu() / count};
  }

  /// Times a few steps of every kind of arm that has runs left, and an evaluation, and multiplies. Attacks are counted
  /// as if no image broke early.
  void print_estimate() {
    const std::vector<Pending> left = pending();
    common_.say("study: {} arms, {} seeds, {} comparison{}; {} runs left of {}", config_.arms.size(),
                config_.seeds.size(), config_.comparisons(), config_.comparisons() == 1 ? "" : "s", left.size(),
                left.size() + log_->runs().size());
    if (left.empty()) return;
    std::map<std::string, Cost> steps;  // by kind and geometry
    Cost forward, total, strong;
    double least = INFINITY, most = 0;
    for (const Pending& run : left) {
      const auto [step, is_new] = steps.try_emplace(run.arm->kind + " " + run.arm->geometry);
      if (is_new) {
        const Trained probe = train(*run.arm, run.strength, 0, train_, 1, 25);
        step->second = {probe.ms_per_step / 1000, probe.cpu_ms_per_step / 1000};
        if (steps.size() == 1) forward = forward_cost(probe);
        least = std::min(least, probe.ms_per_step), most = std::max(most, probe.ms_per_step);
      }
      total.add(run.trained / static_cast<double>(config_.batch), step->second), total.add(run.seen, forward);
      strong.add(run.strong, forward);
    }
    common_.say(
        "estimate: {} ({:.2f} to {:.2f} ms a step, {:.3f} ms an image forward), and up to {} for the stronger attacks "
        "if no image broke early",
        duration(total.wall), least, most, 1000 * forward.wall, duration(strong.wall));
    common_.say("  of processor time {}, and up to {}: what a machine that does nothing else takes on one thread",
                duration(total.processor), duration(strong.processor));
  }

  // ---- Runs

  /// Does a run unless the log has it.
  template <class Body>
  void once(const RunKey& key, Body&& body) {
    if (log_->find(key)) return;
    const Stopwatch watch;
    label_ = fmt::format("{} {} {} seed {}", key.stage, key.arm, key.strength, key.seed);
    FinishedRun run{key, body()};
    run.metrics["seconds"] = watch.wall();
    log_->append(run);
    progress_.finish(fmt::format("{}: {} ({})", label_, summary(run.metrics), duration(watch.wall())));
  }

  static std::string summary(const nlohmann::ordered_json& metrics) {
    std::string text;
    for (const char* name : {"score", "test_accuracy", "corruption_accuracy"})
      if (metrics.contains(name)) text += fmt::format("{} {:.2f} %  ", name, 100 * metrics[name].get<double>());
    return text;
  }

  void check_interruption() {
    if (!interrupted()) return;
    progress_.finish(fmt::format("interrupted during {}; {} finished runs are kept, the same command goes on", label_,
                                 log_->runs().size()));
    throw Exit{130};
  }

  /// Trains; `most` steps where it is not 0.
  Trained train(const Arm& arm, double strength, int64_t seed, const data::Dataset& data, int64_t epochs,
                int64_t most = 0) {
    const auto classes = static_cast<int64_t>(data.classes.size());
    const ArmTraining way = arm_training(arm, strength, config_.model, config_.batch, classes,
                                         static_cast<uint64_t>(seed), data.mean, data.std);
    Trained trained{nullptr, way.recipe};
    const models::Recipe& recipe = trained.recipe;
    SessionOptions options = session_options_;
    options.seed = static_cast<uint64_t>(seed);
    trained.session = std::make_unique<Session>(device_, options);
    Session& session = *trained.session;
    const BatchType type{recipe.batch, {data.height, data.width, 3}};
    const int64_t batches = data.size() / recipe.batch, total = batches * epochs;
    TrainStep step = session.train_step(type, way.function, recipe.optimizer, total);
    session.state().materialise();
    if (recipe.whiten) {
      const data::Dataset sample = data::limited(data, 5000, 0);
      models::set_whitening(session.state(),
                            models::whitening(sample.images, sample.height, sample.width, sample.mean, sample.std));
    }
    if (way.begin) way.begin(session);
    data::Batch batch;
    double seconds = 0, processor = 0;
    int64_t done = 0;
    for (int64_t epoch = 0; epoch < epochs; ++epoch) {
      const data::Batches order = data::Batches::training(data.size(), recipe.batch, epoch, options.seed);
      if (epoch > 0 && way.refresh_each_epoch) models::refresh_coupling(session, recipe.coupling);
      for (int64_t b = 0; b < batches && (most == 0 || done < most); ++b, ++done) {
        order.load(data, b, batch);
        const Stopwatch watch;
        if (way.before) way.before(session, done);
        step(batch, epoch);
        if (done >= 5) seconds += watch.wall(), processor += watch.cpu();  // the first ones warm up
        if (!step.finite()) throw std::runtime_error(fmt::format("{}: the loss is {}", label_, step.loss()));
        progress_.update(fmt::format("{}: step {}/{}  loss {:.4f}", label_, done + 1, total, step.mean_loss()));
        check_interruption();
      }
    }
    trained.loss = step.mean_loss();
    if (way.restatistics) restatistics(session, recipe, type, data, epochs - 1);
    const auto timed = static_cast<double>(std::max<int64_t>(done - 5, 1));
    trained.ms_per_step = 1000 * seconds / timed, trained.cpu_ms_per_step = 1000 * processor / timed;
    return trained;
  }

  /// Activations were coupled in training and are not in evaluation: batch norm's running statistics are taken anew.
  static void restatistics(Session& session, const models::Recipe& recipe, const BatchType& type,
                           const data::Dataset& data, int64_t epoch) {
    Program statistics = session.compile(models::statistics_function(recipe, type, data.mean, data.std), true);
    const data::Batches order = data::Batches::training(data.size(), recipe.batch, epoch, session.options().seed);
    data::Batch batch;
    constexpr int64_t enough = 100;  // with a momentum of 0.1 nothing is left of the old ones
    for (int64_t b = 0; b < std::min(order.size(), enough); ++b) {
      order.load(data, b, batch);
      statistics.set<uint8_t>("images", batch.images);
      statistics.run();
    }
  }

  RobustnessOptions robustness(std::vector<std::string> attacks) const {
    return {.images = config_.images,
            .strong_images = config_.strong_images,
            .square_queries = config_.square_queries,
            .attacks = std::move(attacks)};
  }

  void tune() {
    for (const Arm& arm : config_.arms) {
      if (arm.strengths.size() < 2) continue;
      for (double strength : arm.strengths)
        once({"tuning", arm.name, strength, config_.tuning_seed}, [&]() -> nlohmann::ordered_json {
          const Trained trained = train(arm, strength, config_.tuning_seed, train_, config_.tuning_epochs);
          Robustness measure(common_, *trained.session, trained.recipe, held_out_, "parameters", robustness({}));
          Evaluator evaluator(*trained.session, trained.recipe, held_out_, false, "parameters");
          const double accuracy = evaluator.accuracy(held_out_);
          if (config_.tuning_metric == "accuracy") return {{"score", accuracy}};
          return {{"score", measure.corruptions()["accuracy"]}, {"held_out_accuracy", accuracy}};
        });
    }
  }

  /// The strength that the tuning chose; the first of equals.
  double strength_of(const Arm& arm) const {
    if (arm.strengths.empty()) return 0;
    double best = arm.strengths.front(), score = -1;
    for (double s : arm.strengths)
      if (const FinishedRun* run = log_->find({"tuning", arm.name, s, config_.tuning_seed}))
        if (const double found = run->metrics.at("score"); found > score) best = s, score = found;
    return best;
  }

  nlohmann::ordered_json main_run(const Arm& arm, double strength, int64_t seed) {
    const Trained trained = train(arm, strength, seed, train_, config_.epochs);
    Evaluator evaluator(*trained.session, trained.recipe, test_, false, "parameters");
    const double test = evaluator.accuracy(test_);
    const double fitted = evaluator.accuracy(part_of(train_, 0, std::min<int64_t>(train_.size(), 5000)));
    Robustness measure(common_, *trained.session, trained.recipe, test_, "parameters", robustness({"pgd20"}));
    const nlohmann::ordered_json r = measure.run(&held_out_);
    const auto mean = [](const nlohmann::ordered_json& rows) {
      double sum = 0;
      for (const auto& row : rows) sum += row["accuracy"].get<double>();
      return sum / static_cast<double>(rows.size());
    };
    const auto& c = r["calibration"];
    nlohmann::ordered_json metrics = {{"test_accuracy", test},
                                      {"train_accuracy", fitted},
                                      {"generalisation_gap", fitted - test},
                                      {"corruption_accuracy", r["corruptions"]["accuracy"]},
                                      {"pgd20", r["attacks"][0]["robust_accuracy"]},
                                      {"nll", c["nll"]},
                                      {"brier", c["brier"]},
                                      {"ece", c["ece"]},
                                      {"temperature", c["temperature"]},
                                      {"nll_scaled", c["nll_scaled"]},
                                      {"ece_scaled", c["ece_scaled"]},
                                      {"weight_noise", mean(r["weight_noise"])},
                                      {"unit_ablation", mean(r["unit_ablation"])},
                                      {"ms_per_step", trained.ms_per_step},
                                      {"corruptions", r["corruptions"]["rows"]}};
    for (const models::CouplingNorms& site : models::coupling_norms(*trained.session))
      metrics["coupling"].push_back({{"scope", site.scope}, {"norm", site.norm}, {"scale", site.scale}});
    if (seed == config_.seeds.front() && !config_.strong_attacks.empty()) {
      RobustnessOptions strong = robustness(config_.strong_attacks);
      for (const char* name : {"pgd20", "fgsm"}) strong.attacks.insert(strong.attacks.begin(), name);
      strong.corruptions = strong.damage = strong.calibration = false;
      strong.images = config_.strong_images;
      const nlohmann::ordered_json found =
          Robustness(common_, *trained.session, trained.recipe, test_, "parameters", strong).run();
      metrics["strong"] = found["attacks"];
      metrics["red_flags"] = found["red_flags"];
    }
    return metrics;
  }

  nlohmann::ordered_json low_data_run(const Arm& arm, double strength, int64_t seed) {
    const Trained trained = train(arm, strength, seed, low_, config_.epochs);
    Evaluator evaluator(*trained.session, trained.recipe, test_, false, "parameters");
    return {{"test_accuracy", evaluator.accuracy(test_)}};
  }

  Common common_;
  const StudyOptions& options_;
  StudyConfig config_;
  Progress progress_;
  Device device_ = Device::cpu();
  SessionOptions session_options_;
  std::filesystem::path folder_;
  std::unique_ptr<RunLog> log_;
  std::string source_, label_ = "estimate";
  data::Dataset train_, held_out_, low_, test_;
};

void run(const StudyOptions& options) {
  if (!options.common.precision.empty() && options.common.precision != "f32")
    throw UsageError(fmt::format("--precision {}: studies compute in f32", options.common.precision));
  StudyOptions own = options;
  own.common.precision = "f32";  // as the attacks need it
  Study(own, read_study(own.config)).run();
}

}  // namespace

void add_study(CLI::App& app) {
  auto* study = subcommand(app, "study", "Compares ways to train: arms by seeds, paired, with a report");
  study->require_subcommand(1);
  auto options = std::make_shared<StudyOptions>();
  auto* command = subcommand(*study, "coupling",
                             "Arms by seeds from a TOML design; finished runs are kept, the same command goes on");
  options->common.add_to(*command);
  options->common.add_network_to(*command);
  command->add_option("config", options->config, "TOML file")->required();
  command->add_option("--data", options->data, "Image folder, binary batches or the official archive");
  command->add_option("--out", options->out, "Folder of the runs and the report (default: runs/NAME of the file)");
  command->add_option("--rehearse", options->rehearse, "Only so many steps of every arm; nothing is kept");
  command->callback([options] { run(*options); });
}

}  // namespace ranvier::cli
