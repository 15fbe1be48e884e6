// The neuron view's simulation: one neuron under two solvers side by side, on the library's own steppers.
#pragma once
#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/neuron_stepper.h"
#include "models/neurons/presets.h"
#include "tools/view/scene.h"

namespace ranvier::view {

/// A point of a trace.
struct Sample {
  double t, v, u;
};

/// The shape of the input over an endless run.
struct Current {
  std::string protocol = "constant";  ///< as the control neuron.protocol has it
  double amplitude = 70, onset = 100, width = 50, period = 200, noise = 5;
  neuron::Stimulus preset;  ///< what I is added to under protocol "preset"

  /// Its pieces for times from `from` on, right up to the returned time at least.
  struct Window {
    neuron::Stimulus stimulus;
    double until;
  };
  Window window(double from) const;
  double at(double t) const { return window(t).stimulus.at(t); }
};

/// The neuron under one solver.
class Lane {
 public:
  /// What a page draws of it since the last frame.
  struct Fresh {
    std::vector<Sample> samples;
    std::vector<double> spikes;
  };

  /// Starts at the preset's initial state. Throws Error on a bad setup.
  Lane(const neuron::Preset& preset, const Current& current, neuron::Solver solver, neuron::Mode mode, double dt);

  /// Parameters and current from the next step on.
  void change(const neuron::Preset& preset, const Current& current);
  /// Steps while they end by `time`; false where it stopped early because `enough` said so.
  bool advance(double time, const std::function<bool()>& enough);
  /// Resolution of what a page draws: one bucket, of which lowest and highest sample are kept, is this long, ms.
  void set_bucket(double width, double window) { bucket_ = width, window_ = window; }
  Fresh take_fresh();

  double time() const { return now_.t; }
  double dt() const { return dt_; }
  const Sample& now() const { return now_; }
  double v_min() const { return v_min_; }
  double v_max() const { return v_max_; }
  uint32_t spikes() const { return spikes_; }
  /// Why it is held; empty while it goes on.
  const std::string& diverged() const { return diverged_; }
  /// The last samples at full resolution, oldest first, and their spikes.
  std::vector<Sample> recorded() const;
  const std::deque<double>& recorded_spikes() const { return recorded_spikes_; }

  static constexpr size_t recorded_limit = 200'000;  ///< samples that an export has at most

 private:
  void step();
  void step_reference();
  void note(const Sample& sample);
  void flush_bucket();
  void draw(const Sample& sample);
  void add_spikes(const std::vector<double>& times);

  neuron::Solver solver_;
  double dt_;
  neuron::Preset preset_;
  Current current_;
  Current::Window window_now_;
  std::optional<neuron::Stepper> stepper_;  // empty: the reference, in runs of one step
  int64_t reference_steps_ = 0;
  Sample now_;
  double v_min_, v_max_;
  uint32_t spikes_ = 0;
  std::string diverged_;
  double bucket_ = 0, window_ = 1000;
  std::optional<Sample> low_, high_;
  double bucket_end_ = 0;
  Fresh fresh_;
  std::vector<Sample> ring_;
  size_t ring_at_ = 0;
  std::deque<double> recorded_spikes_;
};

/// Preset, current and both lanes.
class NeuronScene : public Scene {
 public:
  NeuronScene();
  void apply(const Message& command) override;
  void restart() override;
  void single_step() override;
  void advance(double time, const std::function<bool()>& enough) override;
  double time() const override;
  bool ended() const override;
  Frame frame(FrameHeader header) override;
  nlohmann::ordered_json state() const override;
  double frames_per_second() const override { return 60; }

  const Lane& lane(size_t index) const { return *lanes_[index]; }
  size_t lanes() const { return lanes_[1] ? 2 : 1; }
  /// The recorded trace of both solvers: solver, t_ms, v_mv, u, spike.
  std::string trace_csv() const;

 private:
  struct Choice {
    neuron::Solver solver;
    neuron::Mode mode;
    double dt;
  };
  void take_preset(const std::string& name);
  void set_parameter(std::string_view key, double value);
  void set_lane(size_t index, const Message& command);
  void clamp();
  void rebuild();

  neuron::Preset preset_;
  Current current_;
  std::array<std::optional<Choice>, 2> choices_;
  std::array<std::unique_ptr<Lane>, 2> lanes_;
  double until_ = 0, window_ = 1000, myelin_ = 0.8;
  std::string note_;
};

}  // namespace ranvier::view
