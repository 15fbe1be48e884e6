// One neuron's way through time, segment by segment, whoever fits them.
#pragma once
#include <optional>
#include <random>
#include <string>

#include "models/pinn_segment.h"

namespace ranvier::pinn {

/// Window after window as an initial value problem, the event found on the network, the spike's segment polished with
/// its length as a parameter, the exact jump, and on.
class March {
 public:
  March(const Neuron&, const Current&, double duration_ms, const Options&);

  /// Whether a segment waits to be fitted.
  bool running() const;
  Segment& pending() { return *pending_; }
  /// Goes on from the fitted segment; true where it became part of the solution.
  bool fitted();
  void end(const std::string& failure);
  /// Ends it for want of time; the pending segment is kept as far as it got.
  void out_of_time();

  SegmentSolver& solver() { return solver_; }
  std::mt19937_64& random() { return random_; }
  const Solution& solution() const { return solution_; }
  double t_ms() const { return t_; }

 private:
  void next_window();
  void reset();
  bool meets(const Segment&, double wanted) const;
  Segment segment(double length) const;
  void shorten(Segment failed);
  void keep_best(const Segment& tried);
  void accept();
  bool accept_spike();
  void fail_at_window(const Segment&, const std::string& why);

  Options options_;
  SegmentSolver solver_;
  std::mt19937_64 random_;
  Solution solution_;
  double t_ = 0, phi_ = 0, u_ = 0, window_ = 0, edge_ = 0, expected_ = 0;
  Segment window_fit_;                     // the window in which a spike was seen
  std::optional<Segment> pending_, best_;  // the latter of the tries since the last accepted segment
};

}  // namespace ranvier::pinn
