// `ranvier train`: a model, its data and its recipe, epoch after epoch, with checkpoints that resume to the bit.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "data/batches.h"
#include "engine/checkpoint.h"
#include "engine/profiler_range.h"
#include "tools/config.h"
#include "tools/evaluate.h"
#include "tools/run.h"
#include "tools/trace.h"

namespace ranvier::cli {
namespace {

struct TrainOptions {
  Common common;
  std::string config, trace;
  std::vector<std::pair<const Key*, std::string>> overrides;  // flags, applied after the file
  int64_t profile_steps = 0;                                  // around which a profiler's range is opened
  bool profile_captured = false;
  bool resume = false, dump_graph = false;
};

/// Where a run stands: batches done in all; the rest follows.
struct Position {
  int64_t step = 0;
};

class Trainer {
 public:
  Trainer(const TrainOptions& options, TrainConfig config) : options_(options), config_(std::move(config)) {}

  void run() {
    prepare();
    Stopwatch watch;
    const int64_t first = position_.step;
    if (!options_.trace.empty() && total_steps_ - first < 7)
      throw UsageError(fmt::format("--trace {}: the run has only {} steps left, 7 are needed", options_.trace,
                                   total_steps_ - first));
    if (options_.profile_steps > 0 && total_steps_ - first - profile_warm_up <= options_.profile_steps)
      throw UsageError(fmt::format("--profile-steps {}: the run has only {} steps left, of which {} warm up",
                                   options_.profile_steps, total_steps_ - first, profile_warm_up));
    while (position_.step < total_steps_) {
      train_until_epoch_end(watch, first);
      end_of_epoch(watch, first);
    }
    finish(watch, first);
  }

 private:
  void prepare() {
    common_ = options_.common;
    common_.device = config_.device;
    common_.precision = config_.precision;
    common_.variant = config_.variant;
    common_.seed = static_cast<uint64_t>(config_.seed);
    common_.threads = static_cast<int>(config_.threads);
    const Device device = common_.start();
    const SessionOptions session = common_.session_options(device);
    run_ = open_run(config_.out, config_.model, options_.resume);
    judge(device, session);
    splits_ = open_data(common_, config_.data.empty() ? std::nullopt : std::optional(config_.data));
    if (config_.limit) splits_.train = data::limited(splits_.train, config_.limit, static_cast<uint64_t>(config_.seed));
    const auto classes = static_cast<int64_t>(splits_.train.classes.size());
    recipe_ = resolved_recipe(config_, classes);
    if (recipe_.batch > splits_.train.size())
      throw UsageError(
          fmt::format("batch = {}: there are only {} training images", recipe_.batch, splits_.train.size()));
    if (session.compute == DType::f16) recipe_.optimizer.loss_scale = optim::LossScale{};
    session_ = std::make_unique<Session>(device, session);
    session_->keep_graphs(options_.dump_graph);
    steps_per_epoch_ = splits_.train.size() / recipe_.batch;
    total_steps_ = steps_per_epoch_ * recipe_.epochs;
    const auto function = models::train_function(recipe_, splits_.train.mean, splits_.train.std);
    const int64_t updates = total_steps_ / recipe_.optimizer.accumulate;
    if (device.backend == Backend::cuda)
      step_ = session_->resident_step(splits_.train, recipe_.batch, function, recipe_.optimizer, updates);
    else  // the host's memory is the device's: a second copy of the images would only take room
      step_ = session_->train_step({recipe_.batch, {splits_.train.height, splits_.train.width, 3}}, function,
                                   recipe_.optimizer, updates);
    const std::string text = session_->last_text(), dot = session_->last_dot();
    session_->keep_graphs(false);
    session_->state().materialise();
    evaluator_ = std::make_unique<Evaluator>(*session_, recipe_, splits_.train, false,
                                             recipe_.optimizer.ema_decay > 0 ? "ema" : "parameters");
    load();
    create(run_);
    if (options_.dump_graph) dump_graph(text, dot);
    common_.say("model: {}, {} trainable parameters; batch {}, {} epoch{} of {} steps", recipe_.name,
                session_->parameter_count(), recipe_.batch, recipe_.epochs, recipe_.epochs == 1 ? "" : "s",
                steps_per_epoch_);
    common_.write(step_.program().plan().bill());
    write_file(run_.config(), to_toml(resolved()));
    metrics_ = std::make_unique<Metrics>(run_.metrics(), position_.step);
    watch_for_interruption();
  }

  /// Fails on what the user can mend before any long work, which a download is: the recipe, the step as the device
  /// would run it (layers, patterns of rules, variants), the files that are named.
  void judge(Device device, SessionOptions session) const {
    const models::Recipe recipe = resolved_recipe(config_, 10);
    session.planned = {};
    Session(device, session)
        .plan_step({recipe.batch, {32, 32, 3}}, models::train_function(recipe, {}, {1, 1, 1}), recipe.optimizer, 1);
    if (!config_.weights.empty()) checkpoint::read_metadata(config_.weights);
    if (!config_.name_map.empty()) checkpoint::read_name_map(config_.name_map);
  }

  /// The configuration with the recipe's own values filled in.
  TrainConfig resolved() const {
    TrainConfig config = config_;
    config.epochs = recipe_.epochs;
    config.batch = recipe_.batch;
    config.out = run_.path.string();
    config.data = config_.data;
    return config;
  }

  void load() {
    State& state = session_->state();
    if (options_.resume) {
      const auto metadata = checkpoint::load(state, run_.checkpoint().string(), {recipe_.name, {}});
      for (const auto& [key, value] : {std::pair<std::string, int64_t>{"batch", recipe_.batch},
                                       {"seed", config_.seed},
                                       {"images", splits_.train.size()}})
        if (const auto it = metadata.find(key); it == metadata.end() || it->second != std::to_string(value))
          throw UsageError(fmt::format("{}: its run had {} {}, this one has {}", run_.checkpoint().string(), key,
                                       it == metadata.end() ? "?" : it->second, value));
      position_.step = saved_step(metadata);
      step_.resume_at(position_.step);
      common_.say("resumed at epoch {:.2f}, step {}", epoch(), position_.step);
      return;
    }
    if (recipe_.whiten) {
      // an image folder lists its images by class: the sample must be drawn from all of them
      const data::Dataset sample = data::limited(splits_.train, 5000, static_cast<uint64_t>(config_.seed));
      models::set_whitening(state,
                            models::whitening(sample.images, sample.height, sample.width, sample.mean, sample.std));
    }
    if (config_.weights.empty()) return;
    checkpoint::WeightOptions weights;
    if (!config_.name_map.empty()) weights.names = checkpoint::read_name_map(config_.name_map);
    const auto report = checkpoint::load_weights(state, config_.weights, weights);
    common_.say("weights: {} tensors from {}", report.loaded.size(), config_.weights);
    if (!report.missing.empty())
      common_.say("weights: not in the file, left at their start: {}", fmt::join(report.missing, " "));
    if (!report.unused.empty()) common_.say("weights: in the file, not used: {}", fmt::join(report.unused, " "));
  }

  /// The step that a checkpoint was written at.
  int64_t saved_step(const checkpoint::Metadata& metadata) const {
    const auto it = metadata.find("step");
    const std::string text = it == metadata.end() ? "missing" : it->second;
    int64_t step = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), step);
    if (error != std::errc{} || end != text.data() + text.size() || step < 0 || step > total_steps_)
      throw UsageError(fmt::format("{}: its step is {}; this run has {} steps (epochs = {})",
                                   run_.checkpoint().string(), text, total_steps_, recipe_.epochs));
    return step;
  }

  double epoch() const { return static_cast<double>(position_.step) / static_cast<double>(steps_per_epoch_); }

  data::Batches batches_of(int64_t epoch_index) const {
    return data::Batches::training(splits_.train.size(), recipe_.batch, epoch_index,
                                   static_cast<uint64_t>(config_.seed));
  }

  void train_until_epoch_end(const Stopwatch& watch, int64_t first) {
    const int64_t epoch_index = position_.step / steps_per_epoch_, start = position_.step % steps_per_epoch_;
    const data::Batches batches = batches_of(epoch_index);
    step_.reset();
    if (start == 0 && (recipe_.coupling.learned || epoch_index == 0)) refresh_coupling(epoch_index);
    if (step_.resident()) step_.begin_epoch(batches.order(), epoch_index, start);
    remember_good_state();
    for (int64_t b = start; b < steps_per_epoch_; ++b) {
      if (!options_.trace.empty()) trace_step(position_.step - first);
      if (options_.profile_steps > 0) mark_profile(position_.step - first);
      if (step_.resident()) {
        step_.next();
      } else {
        batches.load(splits_.train, b, batch_);
        step_(batch_, epoch_index);
      }
      ++position_.step;
      const bool report = (b + 1) * reports / steps_per_epoch_ != b * reports / steps_per_epoch_;
      // results on a GPU are fetched now and then, so that its steps follow each other without a pause
      if (report || interrupted()) step_.collect();
      if (!step_.finite()) nan_loss();
      if (!step_.resident() || report) progress().update(line(watch, first));
      if (report && b + 1 < steps_per_epoch_) {
        metrics_->append({{"step", position_.step}, {"epoch", epoch()}, {"train_loss", take_recent_loss()}});
        remember_good_state();
      }
      if (interrupted() && b + 1 < steps_per_epoch_) stop();
    }
  }

  /// The norms of the coupling: fixed ones once, learned ones at the start of each epoch.
  void refresh_coupling(int64_t epoch_index) {
    models::refresh_coupling(*session_, recipe_.coupling);
    if (epoch_index > 0) return;
    for (const models::CouplingNorms& site : models::coupling_norms(*session_))
      common_.say("coupling: {} ({}), {} units, strength {}; spectral norm |K| {:.4g}, Z {:.4g}", site.scope,
                  models::name_of(recipe_.coupling.form), site.units, recipe_.coupling.strength, site.norm, site.scale);
  }

  /// Activations were coupled in training and are not in evaluation: batch norm's running statistics are taken anew
  /// without coupling. Returns the accuracy before that.
  double reestimate_statistics(int64_t epoch_index) {
    const double before = evaluator_->accuracy(splits_.test);
    const data::Dataset& train = splits_.train;
    const BatchType type{recipe_.batch, {train.height, train.width, train.channels}};
    if (!statistics_)
      statistics_ = session_->compile(models::statistics_function(recipe_, type, train.mean, train.std), true);
    const data::Batches batches = batches_of(epoch_index);
    constexpr int64_t most = 100;  // with a momentum of 0.1 nothing is left of the old ones
    for (int64_t b = 0; b < std::min(batches.size(), most); ++b) {
      batches.load(train, b, batch_);
      statistics_->set<uint8_t>("images", batch_.images);
      statistics_->run();
    }
    return before;
  }
  bool coupled_in_training_only() const {
    const models::CouplingOptions& coupling = recipe_.coupling;
    return models::changes_activations(coupling.form) && coupling.strength != 0 && !coupling.always;
  }

  /// Times the nodes of one step, after some that warm up, and writes them as a Chrome trace.
  void trace_step(int64_t done) {
    constexpr int64_t warm_up = 5;
    if (done == warm_up) step_.profile(&times_);
    if (done != warm_up + 1) return;
    step_.profile(nullptr);
    write_file(options_.trace, chrome_trace(times_));
    common_.say("trace: {} (open it in chrome://tracing or ui.perfetto.dev)", options_.trace);
  }

  /// Opens and closes the range that tools/profile records. Its steps run node by node, each op in a range of its own,
  /// unless they are to be seen as they train.
  void mark_profile(int64_t done) {
    const bool opens = done == profile_warm_up, closes = done == profile_warm_up + options_.profile_steps;
    if (!opens && !closes) return;
    step_.collect();  // the steps are over when their losses are here
    step_.node_by_node(opens && !options_.profile_captured);
    profile_ = opens ? std::make_unique<ProfilerRange>("profile") : nullptr;
  }

  /// Mean loss of an image in the steps since the last report, and in those of the epoch so far.
  double take_recent_loss() { return step_.take_recent_loss() * loss_scale(); }
  double epoch_loss() const { return step_.mean_loss() * loss_scale(); }
  double loss_scale() const { return recipe_.summed_loss ? 1.0 / static_cast<double>(recipe_.batch) : 1.0; }

  static constexpr int64_t profile_warm_up = 10;  // steps
  static constexpr int64_t reports = 20;          // an epoch, evenly spaced, the last one being the epoch's own line

  std::string line(const Stopwatch& watch, int64_t first) {
    const auto done = static_cast<double>(position_.step - first);
    const double seconds = watch.wall() - evaluation_seconds_;
    const double rate = done / seconds;
    return fmt::format("epoch {:5.2f}/{}  step {}/{}  loss {:.4f}  accuracy {:5.2f} %  {:6.0f} images/s  {} left",
                       epoch(), recipe_.epochs, position_.step, total_steps_, epoch_loss(), 100 * step_.accuracy(),
                       rate * static_cast<double>(recipe_.batch),
                       duration(static_cast<double>(total_steps_ - position_.step) / std::max(rate, 1e-9)));
  }

  void end_of_epoch(const Stopwatch& watch, int64_t first) {
    const int64_t epoch_index = position_.step / steps_per_epoch_;
    nlohmann::ordered_json metrics = {{"step", position_.step},
                                      {"epoch", epoch_index},
                                      {"train_loss", take_recent_loss()},
                                      {"train_loss_of_epoch", epoch_loss()},
                                      {"train_accuracy", step_.accuracy()},
                                      {"learning_steps", session_->updates()}};
    std::string text = line(watch, first);
    const bool last = position_.step == total_steps_;
    const double before = watch.wall();
    if (last || (config_.eval_every && epoch_index % config_.eval_every == 0)) {
      if (coupled_in_training_only()) {
        const double before = reestimate_statistics(epoch_index - 1);
        metrics["test_accuracy_training_statistics"] = before;
        text += fmt::format("  ({:.2f} % with the statistics of training)", 100 * before);
      }
      const Evaluation evaluation = evaluator_->evaluate(splits_.test);
      write_evaluation(run_.path / "evaluation.json", evaluation, splits_.test);
      test_accuracy_ = evaluation.accuracy;
      metrics["test_accuracy"] = test_accuracy_;
      text += fmt::format("  test {:.2f} %", 100 * test_accuracy_);
    }
    evaluation_seconds_ += watch.wall() - before;
    train_loss_ = epoch_loss();
    metrics["seconds"] = watch.wall() - evaluation_seconds_;
    metrics["images_per_second"] =
        static_cast<double>((position_.step - first) * recipe_.batch) / (watch.wall() - evaluation_seconds_);
    progress().finish(text);
    metrics_->append(metrics);
    if (last || (config_.checkpoint_every && epoch_index % config_.checkpoint_every == 0)) save();
    if (interrupted() && !last) stop();
  }

  void save() {
    checkpoint::save(session_->state(), run_.checkpoint().string(),
                     {{"model", recipe_.name},
                      {"step", std::to_string(position_.step)},
                      {"epoch", fmt::format("{}", epoch())},
                      {"batch", std::to_string(recipe_.batch)},
                      {"seed", std::to_string(config_.seed)},
                      {"images", std::to_string(splits_.train.size())},
                      {"classes", nlohmann::json(splits_.train.classes).dump()},
                      {"mean", nlohmann::json(splits_.train.mean).dump()},
                      {"std", nlohmann::json(splits_.train.std).dump()},
                      {"weights", recipe_.optimizer.ema_decay > 0 ? "ema" : "parameters"},
                      {"config", to_toml(resolved())}});
  }

  [[noreturn]] void stop() {
    save();
    progress().finish(fmt::format("interrupted at epoch {:.2f}, step {}: {} resumes with --resume --out {}", epoch(),
                                  position_.step, run_.checkpoint().string(), run_.path.string()));
    throw Exit{130};
  }

  /// Runs the steps since the last snapshot again, node by node, to find where the first NaN or infinity came from. The
  /// draws and the order of images are in the state and the seed, so it comes again.
  std::string origin_of_nan() {
    session_->state().restore(good_);
    step_.resume_at(good_step_);
    try {
      for (int64_t step = good_step_; step < position_.step; ++step) {
        const int64_t epoch_index = step / steps_per_epoch_, b = step % steps_per_epoch_;
        const data::Batches batches = batches_of(epoch_index);
        if (step_.resident()) {
          step_.begin_epoch(batches.order(), epoch_index, b);
          step_.next_checked();
        } else {
          batches.load(splits_.train, b, batch_);
          step_.run_checked(batch_, epoch_index);
        }
      }
    } catch (const Error& error) {
      return error.what();
    }
    return "no node made it of finite operands";
  }

  [[noreturn]] void nan_loss() {
    const double loss = step_.loss();
    const std::string origin = origin_of_nan();
    const bool saved = std::filesystem::exists(run_.checkpoint());
    throw std::runtime_error(
        fmt::format("the loss is {} at epoch {:.2f}, step {} ({}); {}", loss, epoch(), position_.step, origin,
                    saved ? "the last checkpoint, " + run_.checkpoint().string() + ", is from before"
                          : "no checkpoint was written yet"));
  }

  /// What origin_of_nan goes back to: the snapshot before the last one, since the update of a step whose loss was
  /// finite may already have spoilt the last.
  void remember_good_state() {
    std::swap(good_, last_);
    good_step_ = last_step_;
    session_->state().snapshot(last_);
    last_step_ = position_.step;
    if (good_.empty()) session_->state().snapshot(good_), good_step_ = last_step_;
  }

  void finish(const Stopwatch& watch, int64_t first) {
    const double seconds = watch.wall() - evaluation_seconds_;
    const auto images = static_cast<double>((position_.step - first) * recipe_.batch);
    nlohmann::ordered_json result = {{"model", recipe_.name},
                                     {"parameters", session_->parameter_count()},
                                     {"epochs", recipe_.epochs},
                                     {"seconds", seconds},
                                     {"images_per_second", seconds > 0 ? images / seconds : 0},
                                     {"cpu_over_wall", watch.cpu() / std::max(watch.wall(), 1e-9)},
                                     {"train_loss", train_loss_},
                                     {"test_accuracy", test_accuracy_}};
    if (position_.step == first) result["test_accuracy"] = test_accuracy_ = evaluator_->accuracy(splits_.test);
    Evaluator six(*session_, recipe_, splits_.train, true, recipe_.optimizer.ema_decay > 0 ? "ema" : "parameters");
    const double tta = six.accuracy(splits_.test);
    result["test_accuracy_tta"] = tta;
    result["data"] = splits_.source;
    result["checkpoint"] = run_.checkpoint().string();
    common_.say("test accuracy {:.2f} %, with six views {:.2f} %; trained {} ({:.0f} images/s, {:.2f} cores busy)",
                100 * test_accuracy_, 100 * tta, duration(seconds), seconds > 0 ? images / seconds : 0,
                watch.cpu() / std::max(watch.wall(), 1e-9));
    common_.say("checkpoint: {}", run_.checkpoint().string());
    common_.say("{}", draw_curves(run_));
    common_.print(result);
  }

  void dump_graph(const std::string& text, const std::string& dot) {
    write_file(run_.path / "graph.txt", text);
    write_file(run_.path / "graph.dot", dot);
    write_file(run_.path / "plan.txt", step_.program().plan().text());
    common_.say("graph: {0}/graph.txt, {0}/graph.dot and {0}/plan.txt", run_.path.string());
  }

  Progress& progress() {
    if (!progress_) progress_ = std::make_unique<Progress>(common_);
    return *progress_;
  }

  const TrainOptions& options_;
  TrainConfig config_;
  Common common_;
  data::Splits splits_;
  models::Recipe recipe_{.name = "", .net = nullptr, .optimizer = optim::Sgd{}};
  RunFolder run_;
  std::unique_ptr<Session> session_;
  TrainStep step_;
  std::unique_ptr<Evaluator> evaluator_;
  std::optional<Program> statistics_;  // batch norm's running statistics without coupling
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Progress> progress_;
  data::Batch batch_;
  Position position_;
  int64_t steps_per_epoch_ = 0, total_steps_ = 0;
  std::vector<StepTime> times_;
  std::unique_ptr<ProfilerRange> profile_;
  State::Snapshot good_, last_;
  int64_t good_step_ = 0, last_step_ = 0;
  double train_loss_ = 0, test_accuracy_ = 0, evaluation_seconds_ = 0;
};

}  // namespace

void add_train(CLI::App& app) {
  auto options = std::make_shared<TrainOptions>();
  auto* command = subcommand(app, "train", "Train a model: a TOML file, flags that override it, a run folder");
  command->add_option("config", options->config, "TOML file");
  command->add_flag("--json", options->common.json,
                    "One JSON object on standard output, everything else on standard error");
  command->add_flag("--resume", options->resume, "Continue the run in --out");
  command->add_option("--trace", options->trace, "Write the times of one step's nodes as a Chrome trace (JSON)");
  command
      ->add_option("--profile-steps", options->profile_steps, "Steps after a warm-up that tools/profile is to record")
      ->check(not_below_zero);
  command->add_flag("--dump-graph", options->dump_graph, "Write the traced step as text and DOT, and its plan");
  command->add_flag(
      "--profile-captured", options->profile_captured,
      "Leave the steps of --profile-steps in their CUDA graph, where a profiler cannot tell which op a kernel is of");
  for (const Key& key : train_keys()) {
    const auto keep = [options, &key](const std::string& text) { options->overrides.emplace_back(&key, text); };
    command->add_option_function<std::string>(flag_of(key), keep, key.help)->take_last();
  }
  command->callback([options] {
    TrainConfig config;
    if (options->resume && options->config.empty()) {  // the run's own file is the default
      for (const auto& [key, text] : options->overrides) set_from_flag(*key, text, config);
      const auto own = std::filesystem::path(config.out) / "config.toml";
      if (!config.out.empty() && std::filesystem::exists(own)) read_config(own.string(), config);
    }
    if (!options->config.empty()) read_config(options->config, config);
    for (const auto& [key, text] : options->overrides) set_from_flag(*key, text, config);
    Trainer(*options, config).run();
  });
}

}  // namespace ranvier::cli
