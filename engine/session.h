// A session: state, device and compiled programs together; what a user holds while a model is trained.
#pragma once
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "engine/optim.h"
#include "engine/program.h"

namespace ranvier {

struct SessionOptions {
  uint64_t seed = 0;
  std::string variants;           ///< "conv2d=native": see PlanOptions
  DType parameters = DType::f32;  ///< f64 for gradient checks and PINNs
  /// Of activations: the parameters' type where it is empty; bf16 or f16 on CUDA. See State::set_compute_type.
  std::optional<DType> compute = {};
  std::function<void(const Plan&)> planned = {};  ///< sees every plan that the session compiles
};

/// The arithmetic of a session by a name that people know.
struct Precision {
  std::string name;  ///< "f32", "tf32", "bf16" or "f16"
  DType compute = DType::f32;
  std::string variants;  ///< what SessionOptions::variants must begin with
};
/// "f32"; "tf32": f32 values, products on tensor cores; "bf16" and "f16": activations and products in 16 bits beside
/// f32 parameters. "" is the device's default: bf16 on CUDA, f32 on the CPU, which has nothing else. Throws Error.
Precision precision_named(const std::string& name, Device device);

/// Shapes of the batches that a step is compiled for.
struct BatchType {
  int64_t size = 0;
  Shape image;  ///< (H, W, C) of one u8 image
};

/// A batch as the traced function sees it.
struct BatchTensors {
  Tensor images;   ///< u8 (N, H, W, C)
  Tensor labels;   ///< i32 (N)
  Tensor indices;  ///< i64 (N), places in the data set: what per-image random draws are keyed by
  Tensor epoch;    ///< i64 scalar
  Tensor valid;    ///< i32 scalar: rows beyond are padding (evaluation)
};

/// What a training function returns: the loss to minimise, and the logits where accuracy is wanted.
struct Objective {
  Tensor loss;
  Tensor logits;                    ///< may be empty
  Objective(Tensor l) : loss(l) {}  // implicit: a loss alone
  Objective(Tensor l, Tensor y) : loss(l), logits(y) {}
};

class Session;

/// A compiled training step: forward, backward and update in one program.
class TrainStep {
 public:
  /// Runs the step on any batch with contiguous `images`, `labels` and `indices`.
  template <class B>
  void operator()(const B& batch, int64_t epoch = 0) {
    run({batch.images.data(), batch.images.size()}, {batch.labels.data(), batch.labels.size()},
        {batch.indices.data(), batch.indices.size()}, epoch);
  }
  void run(std::span<const uint8_t> images, std::span<const int32_t> labels, std::span<const int64_t> indices,
           int64_t epoch);

  /// Loss of the last step that was read back.
  double loss() const { return loss_; }
  /// Mean loss of the steps since the last call.
  double take_recent_loss();
  /// Mean loss and accuracy (in [0, 1]) since the last call of `reset`.
  double mean_loss() const { return steps_ ? loss_sum_ / static_cast<double>(steps_) : 0; }
  double accuracy() const { return samples_ ? hits_ / static_cast<double>(samples_) : 0; }
  /// Runs the step by Program::run_checked: throws at the first node that makes a NaN or infinity of finite operands,
  /// and changes no state then.
  template <class B>
  void run_checked(const B& batch, int64_t epoch = 0) {
    const Checked checked(checked_);
    (*this)(batch, epoch);
  }
  /// Of a step that feeds itself (Session::resident_step): what the next steps see, from batch `first` on. `order`
  /// holds the batches of the epoch one after the other, as many as at the step's making.
  void begin_epoch(std::span<const int64_t> order, int64_t epoch, int64_t first = 0);
  /// `next` by Program::run_checked.
  void next_checked() {
    const Checked checked(checked_);
    next();
  }
  /// Runs the next batch of the epoch. Nothing is read back: losses wait on the device for `collect`.
  void next();
  /// Reads the losses of the steps since the last call.
  void collect();
  bool resident() const { return state_ != nullptr; }

  /// While `times` is set, steps run node by node and add the time of each node.
  void profile(std::vector<StepTime>* times) { times_ = times; }
  /// While on, steps run by Program::run_nodes, so that a profiler sees which op each kernel belongs to.
  void node_by_node(bool on) { nodes_ = on; }
  /// Batches that ran before, in the run that a checkpoint continues: gradient accumulation goes on in mid-update.
  void resume_at(int64_t batches) { micro_ = batches; }
  void reset() { loss_sum_ = hits_ = 0, steps_ = samples_ = 0; }
  /// False once any loss since the last reset was NaN or infinite.
  bool finite() const { return std::isfinite(loss_sum_); }

  /// The program that updates (and, with accumulation, the one that only adds gradients).
  Program& program() { return update_; }
  const Program& program() const { return update_; }

 private:
  friend class Session;
  struct Checked {  // until the step ends or throws
    bool& on;
    explicit Checked(bool& flag) : on(flag) { on = true; }
    ~Checked() { on = false; }
  };
  Program& advance();
  void execute(Program& program);
  void count(double loss, double hits);

  Program update_, gather_;  // gather_: a micro-batch without an update
  int accumulate_ = 1;
  int64_t micro_ = 0;
  bool has_logits_ = false, checked_ = false, nodes_ = false;
  std::vector<StepTime>* times_ = nullptr;
  int64_t batch_ = 0;
  double loss_ = 0, loss_sum_ = 0, hits_ = 0, recent_loss_ = 0;
  int64_t steps_ = 0, samples_ = 0, recent_ = 0;
  State* state_ = nullptr;       // of a step that feeds itself
  int64_t done_ = 0, read_ = 0;  // batches of the epoch that have run, and whose losses were read
};

using TrainFunction = std::function<Objective(const BatchTensors&)>;
using EvalFunction = std::function<Tensor(Tensor images)>;

class Session {
 public:
  explicit Session(Device device = Device::best(), SessionOptions options = {});

  State& state() { return *state_; }
  Device device() const { return state_->device(); }
  const SessionOptions& options() const { return options_; }

  /// Compiles a training step. `updates` is the number of updates of the whole run, which schedules refer to.
  TrainStep train_step(const BatchType& type, const TrainFunction& function, const optim::Optimizer& optimizer,
                       int64_t updates = 1);
  /// The same for a data set that is kept on the device: the step takes its images, labels and order from there and
  /// leaves its losses there, so that nothing passes between host and device while it runs. D has images, labels and
  /// height, width, channels; its elements are copied when the step is made. On CUDA the step is captured into a graph.
  template <class D>
  TrainStep resident_step(const D& data, int64_t batch, const TrainFunction& function,
                          const optim::Optimizer& optimizer, int64_t updates = 1) {
    return resident_step({batch, {data.height, data.width, data.channels}}, {data.images.data(), data.images.size()},
                         {data.labels.data(), data.labels.size()}, function, optimizer, updates);
  }
  TrainStep resident_step(const BatchType& type, std::span<const uint8_t> images, std::span<const int32_t> labels,
                          const TrainFunction& function, const optim::Optimizer& optimizer, int64_t updates);
  /// Traces and plans a training step without preparing or running it (what `bench plan` times).
  struct Planned {
    Plan plan;
    size_t nodes;
  };
  Planned plan_step(const BatchType& type, const TrainFunction& function, const optim::Optimizer& optimizer,
                    int64_t updates = 1);
  /// Compiles images -> logits in evaluation mode; `bindings` swaps slabs ({"parameters", "ema"}).
  Program eval_program(const BatchType& type, const EvalFunction& function,
                       std::map<std::string, std::string> bindings = {});
  /// Compiles any trace.
  Program compile(const std::function<std::vector<Tensor>(Graph&)>& trace, bool training = false,
                  std::map<std::string, std::string> bindings = {});

  /// Logits (N, classes), row-major, of n images given as u8 (n, H, W, C), in batches whose last one is padded.
  std::vector<float> logits(Program& program, std::span<const uint8_t> images);
  /// Share of images whose label has the greatest logit. D has images, labels and height, width, channels.
  template <class D>
  double accuracy(const EvalFunction& function, const D& data, int64_t batch = 500) {
    return accuracy(function, {batch, {data.height, data.width, data.channels}},
                    {data.images.data(), data.images.size()}, {data.labels.data(), data.labels.size()});
  }
  double accuracy(const EvalFunction& function, const BatchType& type, std::span<const uint8_t> images,
                  std::span<const int32_t> labels);

  /// Trainable elements: those of slab "parameters".
  int64_t parameter_count() const;
  /// Updates done so far (restored by a checkpoint).
  int64_t updates();
  /// Text and DOT of the last trace that was compiled.
  const std::string& last_text() const { return text_; }
  const std::string& last_dot() const { return dot_; }
  /// Keep the text and DOT of every trace from here on.
  void keep_graphs(bool keep) { keep_graphs_ = keep; }

 private:
  /// Traces a step into `graph`; returns its outputs. `update` false: a micro-batch that only adds its gradients.
  std::vector<Tensor> trace_step(Graph& graph, const BatchTensors& batch, const TrainFunction& function,
                                 const optim::Optimizer& optimizer, int64_t updates, bool update);
  /// Compiles the step, and with accumulation the micro-batch too. `trace` emits one and returns its outputs.
  TrainStep build_step(const optim::Optimizer& optimizer, int64_t batch,
                       const std::function<std::vector<Tensor>(Graph&, bool update)>& trace);
  PlanOptions plan_options(std::map<std::string, std::string> bindings = {}) const;
  Program compile_traced(Graph&, std::span<const Tensor> outputs, std::map<std::string, std::string> bindings = {});
  void remember(const Graph&);

  SessionOptions options_;
  std::shared_ptr<State> state_;
  std::shared_ptr<Scratch> scratch_ = std::make_shared<Scratch>();
  bool keep_graphs_ = false;
  std::string text_, dot_;
};

}  // namespace ranvier
