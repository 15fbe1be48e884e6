// The population view: regimes, the steered currents, and frames with raster, rate, sheet and histograms.
#include "tools/view/population_scene.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "engine/draws.h"
#include "models/neurons/presets.h"

namespace ranvier::view {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;
using neuron::PopulationSpec;

constexpr double low_interval = 1, high_interval = 1000;  // ms
constexpr double dt = 0.5;                                // ms
constexpr double per_synapse = 30;                        // current of scale 1 where every sender's trace is 1

PopulationSpec cells(const std::string& name, const char* preset, int64_t size, const Regime& regime) {
  const neuron::Preset p = neuron::preset(preset);
  PopulationSpec spec;
  spec.name = name, spec.size = size, spec.parameters = p.parameters;
  spec.v0 = p.start_v(), spec.u0 = p.start_u();
  const Draws draws(0, "view/start/" + name);  // all at one potential would fire as one
  auto& v0 = spec.each["v0"];
  for (int64_t i = 0; i < size; ++i)
    v0.push_back(-70 + 25 * static_cast<double>(draws.uniform(0, static_cast<uint64_t>(i))));
  neuron::Process noise;
  noise.deviation = regime.noise, noise.interval = 1;
  if (regime.noise > 0) spec.processes.push_back(noise);
  return spec;
}

/// The field of cells on the sheet that a page draws, row by row. kappa is ours, since it is steered while they run.
neuron::FieldSpec sheet_field(int64_t neurons, int64_t excitatory) {
  constexpr double pitch = 0.04;  // mm
  const auto side = static_cast<int64_t>(std::ceil(std::sqrt(static_cast<double>(neurons))));
  neuron::FieldSpec field;
  field.lambda = 0.05;
  field.cells.resize(2);
  for (int64_t i = 0; i < neurons; ++i) {
    neuron::FieldCells& cells = field.cells[i < excitatory ? 0 : 1];
    for (const double place : {pitch * static_cast<double>(i % side), pitch * static_cast<double>(i / side), 0.0})
      cells.places.push_back(place);
    cells.diameters.push_back(20), cells.g_ratio.push_back(1);
  }
  return field;
}

uint16_t interval_bin(double interval) {
  const double share = std::log(interval / low_interval) / std::log(high_interval / low_interval);
  const double bin = share * static_cast<double>(PopulationScene::histogram_bins);
  return static_cast<uint16_t>(std::clamp(bin, 0.0, static_cast<double>(PopulationScene::histogram_bins - 1)));
}

}  // namespace

const std::vector<Regime>& regimes() {
  static const std::vector<Regime> list = {
      {.name = "uncoupled",
       .words = "Regular-spiking neurons without synapses: each keeps its own time",
       .alike = true},
      {.name = "asynchronous",
       .words = "Excitation and inhibition hold each other: irregular spikes at a nearly steady rate",
       .noise = 7,
       .synapses = 0.4,
       .inhibition = 1.5},
      {.name = "rhythm",
       .words = "Strong excitation calls inhibition, which silences all until it fades: a rhythm",
       .noise = 3,
       .synapses = 4,
       .inhibition = 2.5,
       .decay = 6},
      {.name = "waves",
       .words =
           "No synapses: a spike reaches its neighbours on the sheet through the field alone, and waves run over it",
       .neurons = 2500,
       .input = 2.5,
       .noise = 2,
       .kappa = 0.6,
       .alike = true},
  };
  return list;
}

PopulationScene::PopulationScene() : regime_(regimes().front()) { rebuild(); }

void PopulationScene::rebuild() {
  excitatory_ = regime_.neurons * 4 / 5;
  neuron::NetworkSpec spec;
  spec.solver = neuron::Solver::rk4, spec.mode = neuron::Mode::accurate;
  spec.precision = neuron::Precision::f32, spec.dt = dt;
  spec.populations.push_back(cells("excitatory", "rs2003", excitatory_, regime_));
  const char* fast = regime_.alike ? "rs2003" : "fs2003";
  spec.populations.push_back(cells("inhibitory", fast, regime_.neurons - excitatory_, regime_));
  if (regime_.neurons <= field_limit)
    spec.field = sheet_field(regime_.neurons, excitatory_);
  else
    regime_.kappa = 0;
  network_.emplace(std::move(spec));
  trace_[0] = trace_[1] = 0;
  spikes_ = 0, failure_.clear(), fresh_.clear(), fresh_from_ = 0;
  recent_.clear(), intervals_.clear();
  recent_counts_.assign(static_cast<size_t>(regime_.neurons), 0);
  last_spike_.assign(static_cast<size_t>(regime_.neurons), -1);
  interval_counts_.assign(histogram_bins, 0);
  busy_ = played_ = 0;
}

/// Input, all-to-all synapses and the field between the neurons, for the next step.
void PopulationScene::steer() {
  const double synaptic = regime_.synapses * per_synapse * (trace_[0] - regime_.inhibition * trace_[1]);
  const auto current = static_cast<float>(regime_.input + synaptic);
  for (int p = 0; p < 2; ++p) {
    const std::span<float> external = network_->external(p);
    std::ranges::fill(external, current);
    if (regime_.kappa == 0) continue;
    for (size_t i = 0; i < external.size(); ++i)
      external[i] += static_cast<float>(regime_.kappa * network_->field(p, static_cast<int64_t>(i)));
  }
  for (double& trace : trace_) trace *= std::exp(-dt / regime_.decay);
}

void PopulationScene::restart() { rebuild(); }

void PopulationScene::single_step() {
  advance(time() + dt, [] { return false; });
}

void PopulationScene::advance(double time, const std::function<bool()>& enough) {
  std::vector<neuron::NetworkSpike> spikes;
  while (failure_.empty() && network_->time() + dt <= time + 1e-9) {
    const auto start = Clock::now();
    const double from = network_->time();
    spikes.clear();
    steer();
    try {
      network_->run(1, &spikes);
    } catch (const Error& error) {
      failure_ = error.what();
    }
    note(spikes);
    busy_ = 0.999 * busy_ + std::chrono::duration<double>(Clock::now() - start).count();
    played_ = 0.999 * played_ + 1e-3 * (network_->time() - from);
    if (enough()) return;
  }
}

void PopulationScene::note(const std::vector<neuron::NetworkSpike>& spikes) {
  for (neuron::NetworkSpike s : spikes) {
    trace_[s.population] += 1 / static_cast<double>(network_->spec().populations[s.population].size);
    if (s.population == 1) s.neuron += static_cast<uint32_t>(excitatory_);
    ++spikes_;
    fresh_.push_back(s);
    recent_.emplace_back(s.time, s.neuron), ++recent_counts_[s.neuron];
    double& last = last_spike_[s.neuron];
    if (last >= 0) {
      const uint16_t bin = interval_bin(s.time - last);
      intervals_.emplace_back(s.time, bin), ++interval_counts_[bin];
    }
    last = s.time;
  }
  forget_old();
}

void PopulationScene::forget_old() {
  const double oldest = network_->time() - 1000;
  for (; !recent_.empty() && recent_.front().first < oldest; recent_.pop_front())
    --recent_counts_[recent_.front().second];
  for (; !intervals_.empty() && intervals_.front().first < oldest; intervals_.pop_front())
    --interval_counts_[intervals_.front().second];
  const double shown = network_->time() - 1.5 * window_;  // what no page can show
  if (fresh_from_ < shown - window_) {
    const auto first = std::find_if(fresh_.begin(), fresh_.end(), [&](const auto& s) { return s.time >= shown; });
    fresh_.erase(fresh_.begin(), first), fresh_from_ = std::floor(shown);
  }
}

void PopulationScene::apply(const Message& command) {
  const std::string& name = command.control->name;
  if (name == "population.preset") {
    const auto found =
        std::find_if(regimes().begin(), regimes().end(), [&](const Regime& r) { return r.name == command.choice; });
    regime_ = *found;
    rebuild();
  } else if (name == "population.neurons") {
    regime_.neurons = static_cast<int64_t>(command.number);
    rebuild();
  } else if (name == "population.input") {
    regime_.input = command.number;
  } else if (name == "population.synapses") {
    regime_.synapses = command.number;
  } else if (name == "population.inhibition") {
    regime_.inhibition = command.number;
  } else if (name == "population.window") {
    window_ = command.number;
  } else if (name == "population.ephaptic") {
    if (command.number > 0 && regime_.neurons > field_limit)
      fail("{}: the field sums over all pairs, and of {} neurons it would not keep up: at most {}", name,
           regime_.neurons, field_limit);
    regime_.kappa = command.number;
  } else {
    fail("{}: nothing follows it", name);
  }
}

Frame PopulationScene::frame(FrameHeader header) {
  const int64_t n = regime_.neurons;
  header.kind = population_frame, header.parts = 1, header.current = regime_.input;
  const size_t every = fresh_.size() / listed_limit + 1;
  const double to = network_->time(), first_bin = std::floor(fresh_from_ / bin);
  std::vector<float> rate(static_cast<size_t>(std::max(0.0, std::floor(to / bin) - first_bin)));
  std::vector<float> offsets;
  std::vector<uint32_t> who;
  // Spikes of a bin that is not over wait for the next frame: a bin is told once, and whole.
  const double told = (first_bin + static_cast<double>(rate.size())) * bin;
  size_t index = 0;
  const auto later = std::stable_partition(fresh_.begin(), fresh_.end(), [&](const auto& s) { return s.time < told; });
  for (auto s = fresh_.begin(); s != later; ++s) {
    const auto at = static_cast<int64_t>(s->time / bin - first_bin);
    if (at >= 0 && at < static_cast<int64_t>(rate.size())) rate[static_cast<size_t>(at)] += 1;
    if (index++ % every == 0)
      offsets.push_back(static_cast<float>(s->time - first_bin * bin)), who.push_back(s->neuron);
  }
  const auto fired = static_cast<uint32_t>(later - fresh_.begin());
  fresh_.erase(fresh_.begin(), later);
  for (float& r : rate) r *= static_cast<float>(1e3 / (bin * static_cast<double>(n)));

  // Rates of the last second are whole numbers: so are the widths of their bins.
  const double seconds = std::clamp(1e-3 * to, 1e-3, 1.0);
  const auto most = static_cast<double>(*std::max_element(recent_counts_.begin(), recent_counts_.end()));
  const double width = std::max(1.0, std::ceil((most + 1) / static_cast<double>(histogram_bins))) / seconds;
  const double high_rate = width * static_cast<double>(histogram_bins);
  std::vector<uint32_t> rates(histogram_bins);
  for (const uint32_t count : recent_counts_)
    ++rates[std::min(histogram_bins - 1, static_cast<size_t>(static_cast<double>(count) / seconds / width + 1e-9))];

  FrameWriter writer(200 + 4 * rate.size() + 8 * histogram_bins + 8 * who.size() + static_cast<size_t>(n));
  header.write(writer);
  writer.put(first_bin * bin);
  writer.put(static_cast<uint32_t>(n)), writer.put(static_cast<uint32_t>(who.size())), writer.put(fired);
  writer.put(static_cast<uint32_t>(n)), writer.put(static_cast<uint32_t>(rate.size()));
  writer.put(static_cast<uint32_t>(histogram_bins)), writer.put(bin);
  writer.put(to > 0 ? 1e3 * static_cast<double>(spikes_) / to / static_cast<double>(n) : 0.0), writer.put(high_rate);
  writer.put(low_interval), writer.put(high_interval), writer.put(static_cast<double>(spikes_));
  writer.put(played_ > 0 ? busy_ / played_ : 0.0);
  writer.put(static_cast<uint32_t>(excitatory_)), writer.put(uint32_t{0}), writer.put(0.0);
  writer.column(std::span<const float>(rate)), writer.column(std::span<const uint32_t>(rates));
  writer.column(std::span<const uint32_t>(interval_counts_));
  writer.column(std::span<const float>(offsets)), writer.column(std::span<const uint32_t>(who));
  std::vector<uint8_t> sheet(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const double v = i < excitatory_ ? network_->v(0, i) : network_->v(1, i - excitatory_);
    sheet[static_cast<size_t>(i)] = static_cast<uint8_t>(std::clamp((v + 90) / 130 * 255, 0.0, 255.0));
  }
  writer.column(std::span<const uint8_t>(sheet));
  writer.align();
  fresh_from_ = told;
  return writer.finish();
}

Json PopulationScene::state() const {
  return {{"values",
           {{"population.preset", regime_.name},
            {"population.neurons", regime_.neurons},
            {"population.input", regime_.input},
            {"population.synapses", regime_.synapses},
            {"population.inhibition", regime_.inhibition},
            {"population.ephaptic", regime_.kappa},
            {"population.window", window_}}},
          {"words", regime_.words},
          {"failure", failure_},
          {"dt", dt},
          {"noise", regime_.noise},
          {"decay", regime_.decay}};
}

}  // namespace ranvier::view
