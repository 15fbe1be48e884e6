// The designs that the window solver is compared with: one network for the whole time, as others have trained it.
#pragma once
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "engine/session.h"
#include "models/pinn.h"

namespace ranvier::pinn {

/// A trajectory given as data: what the guided designs are fitted to.
struct Trace {
  std::vector<double> t_ms, v_mv, u;
};

/// One stage of first-order training.
struct Phase {
  double lr = 1e-3;
  int64_t steps = 1000;
  double weight_decay = 0;  ///< added to the gradient, as torch.optim.Adam does
  double clip = 0;          ///< largest gradient norm; 0 does not clip
  // ReduceLROnPlateau: the rate times `factor` after `patience` steps without a loss better by 1e-4 of itself.
  int64_t patience = 0;
  double factor = 0.8;
};

/// A design of one network over the whole duration: architecture, points, loss by name, schedule.
struct Baseline {
  std::string name;
  std::vector<int64_t> hidden;
  int64_t fourier = 0;  ///< sine and cosine pairs of the scaled time beside itself
  bool needs_data = false;
  std::vector<double> points;  ///< collocation times (ms)
  std::vector<Phase> phases;
  int64_t lbfgs_steps = 0;  ///< of 20 iterations each, after the phases
  /// "global": residuals of the whole time at uniform points, initial state built in; "causal": the same under causal
  /// weights over 32 parts of the time; "pure": MohamedBadawy19's own loss (bounds, spike and continuity terms, Fourier
  /// inputs, two Adam phases); "guided": his fit to solver data; "curriculum": Hakeem-Taha-06's fit with the residual
  /// masked near the peak, from 20 to 5 mV below it. `effort` scales the published numbers of steps.
  static Baseline named(std::string_view name, double duration_ms, double effort = 1);
};

struct BaselineProgress {
  int64_t step, steps;
  double loss, lr;
};

/// A baseline's network being trained.
class BaselineTraining {
 public:
  /// `data` may be empty for designs that need none. Computes in f32 or f64.
  BaselineTraining(Baseline, const Neuron&, const Current&, double duration_ms, const Trace& data, DType,
                   uint64_t seed);
  /// Runs every phase; `progress` false stops.
  void train(const std::function<bool(const BaselineProgress&)>& progress = {});
  /// One Adam step; returns its loss.
  double step(double lr);
  Point at(double t_ms) const;
  /// Writes the network with its architecture to a safetensors file.
  void save(const std::string& path) const;
  const std::vector<double>& history() const { return history_; }
  int64_t parameters() const { return shape_.parameters(); }

 private:
  struct Loss;
  /// Loss of a trace; `margin` and `progress` are inputs.
  Tensor loss_of(Graph&, Tensor theta) const;
  void set_inputs(Program&) const;
  void refresh();

  Baseline design_;
  Neuron neuron_;
  Current current_;
  double duration_ms_;
  Trace data_;
  DType dtype_;
  MlpShape shape_;
  double v_scale_, v_shift_, u_scale_, u_shift_;
  std::unique_ptr<State> state_;
  std::vector<Program> updates_;  // one a phase: weight decay and clipping are attributes
  size_t phase_ = 0;
  int64_t done_ = 0, total_ = 0;
  std::vector<double> history_, theta_;
};

/// Times of local maxima above 0 mV at least 10 ms apart, on a grid of 1 ms: how the published designs count spikes.
std::vector<double> peaks(const std::function<Point(double)>& at, double duration_ms);

/// Explicit Euler at 1 ms with the reset on the grid, the peak written over the last sample: the data of the published
/// guided design (its own "ground truth", which is 2 to 4 ms off). 1,001 samples for 1,000 ms.
Trace published_training_data(const Neuron&, const Current&, double duration_ms);

}  // namespace ranvier::pinn
