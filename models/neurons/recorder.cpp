// Spikes, traces and rates on their way to the disk.
#include "models/neurons/recorder.h"

#include <algorithm>
#include <filesystem>
#include <optional>

#include "engine/atomic_file.h"
#include "models/neurons/npy.h"
#include "models/neurons/sonata_spikes.h"

namespace ranvier::neuron {
namespace {

constexpr size_t npy_room = 128;
constexpr uint64_t csv_number = 20;      // bytes of a double, its comma included: 17 digits at most, most are shorter
constexpr uint64_t reserve = 64u << 20;  // bytes that stay free for the state and the summary

/// A table of doubles as CSV and NPY; rows wait in memory.
struct Table {
  size_t columns = 0;
  std::optional<AtomicFile> csv, npy;
  std::vector<double> waiting;
  uint64_t rows = 0;

  void open(const std::string& stem, const std::string& heading, size_t count, bool with_csv, bool with_npy) {
    columns = count;
    if (with_csv) csv.emplace(stem + ".csv"), put(*csv, heading);
    if (with_npy) npy.emplace(stem + ".npy"), put(*npy, npy_header("<f8", {0, columns}, npy_room));
  }
  bool is_open() const { return csv || npy; }
  static void put(AtomicFile& file, const std::string& text) { file.write(std::as_bytes(std::span(text)), "a record"); }
  uint64_t bytes_a_row() const { return columns * ((csv ? csv_number : 0) + (npy ? sizeof(double) : 0)); }

  void flush() {
    if (npy) npy->write(std::as_bytes(std::span(waiting)), "a record");
    if (csv) {
      std::string text;
      for (size_t i = 0; i < waiting.size(); ++i)
        fmt::format_to(std::back_inserter(text), "{}{}", waiting[i], (i + 1) % columns ? ',' : '\n');
      put(*csv, text);
    }
    rows += columns ? waiting.size() / columns : 0;
    waiting.clear();
  }
  void finish() {
    flush();
    if (csv) csv->commit();
    if (!npy) return;
    const std::string header = npy_header("<f8", {rows, columns}, npy_room);
    npy->replace_start(std::as_bytes(std::span(header)));
    npy->commit();
  }
};

struct WaitingSpike {
  double time;
  uint32_t population, neuron;
};

}  // namespace

struct PopulationRecorder::Files {
  RecordPlan plan;
  std::optional<AtomicFile> spikes_csv;
  std::optional<SonataSpikes> spikes_h5;
  Table traces, rates;
  std::vector<WaitingSpike> spikes;
  uint64_t written = 0, most_waiting = 0, spike_bytes = 0;
  std::string names;

  std::string path(const char* name) const { return (std::filesystem::path(plan.folder) / name).string(); }
  uint64_t disk_bytes_waiting() const {
    const auto rows = [](const Table& t) { return t.columns ? t.waiting.size() / t.columns * t.bytes_a_row() : 0; };
    return spikes.size() * spike_bytes + rows(traces) + rows(rates);
  }
  uint64_t waiting() const {
    return spikes.size() * sizeof(WaitingSpike) + (traces.waiting.size() + rates.waiting.size()) * sizeof(double);
  }
  /// Bytes that may still be written.
  uint64_t room() const {
    std::error_code error;
    const auto space = std::filesystem::space(plan.folder, error);
    const uint64_t free = error ? UINT64_MAX : space.available > reserve ? space.available - reserve : 0;
    return plan.disk ? std::min(free, plan.disk > written ? plan.disk - written : 0) : free;
  }
  uint64_t count_bytes() const {
    uint64_t neurons = 0;
    for (const RecordedPopulation& p : plan.populations) neurons += static_cast<uint64_t>(p.size);
    return neurons * ((plan.csv ? 30 : 0) + (plan.npy ? 8 : 0));
  }

  void flush() {
    written += disk_bytes_waiting();
    if (spikes_csv) {
      std::string text;
      for (const WaitingSpike& s : spikes) {
        if (plan.named) text += plan.populations[s.population].name + ",";
        fmt::format_to(std::back_inserter(text), "{},{}\n", s.neuron, s.time);
      }
      Table::put(*spikes_csv, text);
    }
    if (spikes_h5) {
      std::vector<uint64_t> ids;
      std::vector<double> times;
      for (size_t p = 0; p < plan.populations.size(); ++p) {
        ids.clear(), times.clear();
        for (const WaitingSpike& s : spikes)
          if (s.population == p) ids.push_back(s.neuron), times.push_back(s.time);
        spikes_h5->append(p, ids, times);
      }
    }
    spikes.clear();
    if (traces.is_open()) traces.flush();
    if (rates.is_open()) rates.flush();
  }

  void open();
  void write_counts(const std::vector<std::vector<int64_t>>& counts, double time);
};

void PopulationRecorder::Files::open() {
  std::vector<std::string> population_names;
  for (const RecordedPopulation& p : plan.populations) population_names.push_back(p.name);
  const auto say = [&](const char* name) { names += (names.empty() ? "" : ", ") + std::string(name); };
  if (plan.csv) {
    spikes_csv.emplace(path("spikes.csv")), say("spikes.csv");
    Table::put(*spikes_csv, plan.named ? "population,neuron,time_ms\n" : "neuron,time_ms\n");
    spike_bytes += 28;
  }
  if (plan.hdf5 && has_hdf5()) {
    // A column grows by whole chunks: where little room is given they are small against it.
    const uint64_t columns = 16 * 16 * population_names.size();
    const uint64_t chunk = plan.disk ? std::clamp<uint64_t>(plan.disk / columns, 64, 16384) : 16384;
    spikes_h5.emplace(path("spikes.h5"), population_names, plan.attributes, chunk);
    written += 2048 + population_names.size() * (4096 + 16 * chunk);
    spike_bytes += 16, say("spikes.h5");
  }
  std::string heading = "t_ms";
  for (const ChosenNeuron& c : plan.chosen) {
    const std::string who = (plan.named ? plan.populations[c.population].name + ":" : "") + std::to_string(c.neuron);
    heading += fmt::format(",v_mv:{0},u:{0}", who);
  }
  if (!plan.chosen.empty() && (plan.csv || plan.npy))
    traces.open(path("traces"), heading + "\n", 1 + 2 * plan.chosen.size(), plan.csv, plan.npy), say("traces");
  heading = "t_ms";
  for (const RecordedPopulation& p : plan.populations) {
    const std::string who = plan.named ? ":" + p.name : "";
    heading += fmt::format(",rate_hz{}", who);
    if (plan.means) heading += fmt::format(",v_mv{0},u{0}", who);
  }
  if (plan.csv || plan.npy) {
    rates.open(path("rates"), heading + "\n", 1 + plan.populations.size() * (plan.means ? 3 : 1), plan.csv, plan.npy);
    say("rates"), say("counts");
  }
}

void PopulationRecorder::Files::write_counts(const std::vector<std::vector<int64_t>>& counts, double time) {
  std::optional<AtomicFile> csv, npy;
  uint64_t neurons = 0;
  for (const auto& population : counts) neurons += population.size();
  if (plan.csv) {
    csv.emplace(path("counts.csv"));
    Table::put(*csv, plan.named ? "population,neuron,spikes,rate_hz\n" : "neuron,spikes,rate_hz\n");
  }
  if (plan.npy) npy.emplace(path("counts.npy")), Table::put(*npy, npy_header("<i8", {neurons}));
  std::string text;
  for (size_t p = 0; p < counts.size(); ++p) {
    const std::string who = plan.named ? plan.populations[p].name + "," : "";
    for (size_t i = 0; csv && i < counts[p].size(); ++i) {
      fmt::format_to(std::back_inserter(text), "{}{},{},{:.6g}\n", who, i, counts[p][i],
                     1e3 * static_cast<double>(counts[p][i]) / time);
      if (text.size() > 1 << 20) Table::put(*csv, text), text.clear();
    }
    if (npy) npy->write(std::as_bytes(std::span(counts[p])), "the counts");
  }
  if (csv) Table::put(*csv, text), csv->commit();
  if (npy) npy->commit();
}

PopulationRecorder::PopulationRecorder(RecordPlan plan) : files_(std::make_unique<Files>()) {
  files_->plan = std::move(plan);
  files_->open();
}
PopulationRecorder::~PopulationRecorder() = default;

uint64_t PopulationRecorder::planned() const {
  const RecordPlan& plan = files_->plan;
  const auto rows = [&](double interval) { return static_cast<uint64_t>(plan.duration / interval) + 1; };
  return rows(plan.trace_interval) * files_->traces.bytes_a_row() +
         rows(plan.rate_interval) * files_->rates.bytes_a_row() + files_->count_bytes();
}

std::string PopulationRecorder::bill() const {
  const RecordPlan& plan = files_->plan;
  const uint64_t room = files_->room();
  return fmt::format(
      "recording: {:.3g} MB of traces, rates and counts, {} bytes a spike; at most {:.3g} MB in memory; "
      "room for {:.4g} MB in {}{}",
      1e-6 * static_cast<double>(planned()), files_->spike_bytes, 1e-6 * static_cast<double>(plan.memory),
      1e-6 * static_cast<double>(room), plan.folder, planned() > room ? ": it will not hold the whole run" : "");
}

void PopulationRecorder::spike(uint32_t population, uint32_t neuron, double time) {
  files_->spikes.push_back({time, population, neuron});
}

void PopulationRecorder::trace(double t, const std::vector<std::pair<double, double>>& states) {
  if (!files_->traces.is_open()) return;
  auto& row = files_->traces.waiting;
  row.push_back(t);
  for (const auto& [v, u] : states) row.push_back(v), row.push_back(u);
}

void PopulationRecorder::rates(double t, const std::vector<double>& hz,
                               const std::vector<std::pair<double, double>>& means) {
  if (!files_->rates.is_open()) return;
  auto& row = files_->rates.waiting;
  row.push_back(t);
  for (size_t p = 0; p < hz.size(); ++p) {
    row.push_back(hz[p]);
    if (files_->plan.means) row.push_back(means[p].first), row.push_back(means[p].second);
  }
}

bool PopulationRecorder::settle() {
  Files& f = *files_;
  f.most_waiting = std::max(f.most_waiting, f.waiting());
  if (f.disk_bytes_waiting() + f.count_bytes() > f.room()) return false;
  if (f.waiting() > f.plan.memory) f.flush();
  return true;
}

uint64_t PopulationRecorder::waiting() const { return files_->waiting(); }
uint64_t PopulationRecorder::most_waiting() const { return files_->most_waiting; }
uint64_t PopulationRecorder::written() const { return files_->written; }
std::string PopulationRecorder::files() const { return files_->names; }

void PopulationRecorder::finish(const std::vector<std::vector<int64_t>>& counts, double time) {
  Files& f = *files_;
  f.flush();
  if (f.spikes_csv) f.spikes_csv->commit();
  if (f.spikes_h5) f.spikes_h5->finish();
  if (f.traces.is_open()) f.traces.finish();
  if (f.rates.is_open()) f.rates.finish(), f.write_counts(counts, time);
}

}  // namespace ranvier::neuron
