// The population view's simulation: excitatory and inhibitory neurons on the library's own network, steered while they
// run.
#pragma once
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "engine/neuron_network.h"
#include "tools/view/scene.h"

namespace ranvier::view {

/// A regime: what a preset of the view sets.
struct Regime {
  std::string name, words;
  int64_t neurons = 10'000;
  double input = 6, noise = 4;  ///< mean and deviation of each neuron's current, form of 2003
  double synapses = 0;          ///< scale of all synapses
  double inhibition = 1;        ///< of the inhibitory ones, over the excitatory
  double decay = 5;             ///< ms, of synaptic currents
};
const std::vector<Regime>& regimes();

/// Four fifths excitatory, one fifth inhibitory, all to all: with one weight for each pair of populations the current
/// of a synapse is that weight times the mean of the senders' filtered spikes, which costs one sum for all receivers.
class PopulationScene : public Scene {
 public:
  PopulationScene();
  void apply(const Message& command) override;
  void restart() override;
  void single_step() override;
  void advance(double time, const std::function<bool()>& enough) override;
  double time() const override { return network_->time(); }
  bool ended() const override { return !failure_.empty(); }
  Frame frame(FrameHeader header) override;
  nlohmann::ordered_json state() const override;
  double frames_per_second() const override { return 30; }

  int64_t neurons() const { return regime_.neurons; }
  int64_t spikes() const { return spikes_; }

  static constexpr double bin = 1;  ///< ms, of the rate
  static constexpr size_t histogram_bins = 40;
  static constexpr size_t listed_limit = 12'000;  ///< spikes of a frame; of more, every n-th is listed

 private:
  void rebuild();
  void steer();
  void note(const std::vector<neuron::NetworkSpike>& spikes);
  void forget_old();

  Regime regime_;
  double window_ = 1000;
  std::optional<neuron::Network> network_;
  double trace_[2] = {0, 0};  ///< spikes of each population, decaying, a neuron
  int64_t excitatory_ = 0, spikes_ = 0;
  std::string failure_;
  // Since the last frame.
  std::vector<neuron::NetworkSpike> fresh_;
  double fresh_from_ = 0;
  // Of the window that the histograms show.
  std::deque<std::pair<double, uint32_t>> recent_;  ///< time, neuron
  std::vector<uint32_t> recent_counts_;
  std::vector<double> last_spike_;
  std::deque<std::pair<double, uint16_t>> intervals_;  ///< when an interval ended, its bin
  std::vector<uint32_t> interval_counts_;
  double busy_ = 0, played_ = 0;  ///< seconds of work, seconds of the model, decaying
};

}  // namespace ranvier::view
