// Samples, files and pictures of populations and networks.
#include "tools/neuron_record.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "tools/run.h"

namespace ranvier::cli {
namespace {

constexpr size_t most_dots = 60000, most_rows = 6000;
constexpr const char* colours[] = {"#1f6f8b", "#d1495b", "#6a4c93", "#2a9d8f", "#e9a23b"};

int64_t index_of(std::string_view text, const std::string& whole) {
  int64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() || value < 0)
    throw UsageError(fmt::format("--record {}: '{}' is not a neuron's number", whole, text));
  return value;
}

/// Drops every second element, once there are too many.
void thin(std::vector<double>& values) {
  for (size_t i = 0; 2 * i < values.size(); ++i) values[i] = values[2 * i];
  values.resize((values.size() + 1) / 2);
}

}  // namespace

void RecordOptions::add_to(CLI::App& command) {
  command.add_option("--record", neurons, "Neurons whose v and u are recorded: 0,5..9; in a network exc:0..3,inh:2");
  command.add_option("--record-dt-ms", interval, "Time between samples of v and u (default: every step)")
      ->check(above_zero);
  command.add_flag("--record-means", means, "Mean v and u of each population beside its rate");
  command.add_option("--record-memory-mb", memory_mb, "What waits in memory before it goes to the disk")
      ->capture_default_str()
      ->check(above_zero);
  command
      .add_option("--record-limit-mb", disk_mb,
                  "Most that the record may take; the run stops there (default: the disk)")
      ->check(above_zero);
  command.add_option("--formats", formats, "Which of csv, npy, h5 are written")->capture_default_str();
}

std::vector<neuron::ChosenNeuron> chosen_neurons(const std::string& text,
                                                 const std::vector<neuron::RecordedPopulation>& populations) {
  std::vector<neuron::ChosenNeuron> chosen;
  for (std::string_view rest = text; !rest.empty();) {
    const auto comma = rest.find(',');
    std::string_view item = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    uint32_t population = 0;
    if (const auto colon = item.find(':'); colon != std::string_view::npos) {
      const std::string_view name = item.substr(0, colon);
      while (population < populations.size() && populations[population].name != name) ++population;
      if (population == populations.size())
        throw UsageError(fmt::format("--record {}: no population is called '{}'", text, name));
      item = item.substr(colon + 1);
    } else if (populations.size() > 1) {
      throw UsageError(fmt::format("--record {}: '{}' needs its population: NAME:{}", text, item, item));
    }
    const auto dots = item.find("..");
    const int64_t first = index_of(item.substr(0, dots), text);
    const int64_t last = dots == std::string_view::npos ? first : index_of(item.substr(dots + 2), text);
    if (last < first) throw UsageError(fmt::format("--record {}: '{}' ends before it begins", text, item));
    if (last >= populations[population].size)
      throw UsageError(fmt::format("--record {}: there is no neuron {}: {} has {}", text, last,
                                   populations[population].name, populations[population].size));
    if (last - first > 10000) throw UsageError(fmt::format("--record {}: more than 10000 neurons", text));
    for (int64_t i = first; i <= last; ++i) {
      for (const neuron::ChosenNeuron& c : chosen)
        if (c.population == population && c.neuron == i)
          throw UsageError(fmt::format("--record {}: neuron {} comes twice", text, i));
      chosen.push_back({population, i});
    }
  }
  return chosen;
}

Recording::Recording(const RecordOptions& options, const std::string& folder, RecordedRun run)
    : run_(std::move(run)), folder_(folder), step_(run_.first_step), means_(options.means) {
  chosen_ = chosen_neurons(options.neurons, run_.populations);
  trace_steps_ = options.interval ? whole_steps("--record-dt-ms", *options.interval, run_.dt) : 1;
  rate_steps_ = std::max<int64_t>(1, std::llround(1 / run_.dt));
  const auto populations = run_.populations.size();
  in_bin_.resize(populations), rate_hz_.resize(populations), dots_.resize(populations);
  shown_v_.resize(chosen_.size()), shown_u_.resize(chosen_.size());
  for (const auto& p : run_.populations) counts_.emplace_back(folder.empty() ? 0 : static_cast<size_t>(p.size));
  if (folder.empty()) {
    if (!chosen_.empty()) throw UsageError("--record: there is no --out to write to");
    return;
  }
  neuron::RecordPlan plan;
  plan.folder = folder, plan.populations = run_.populations, plan.named = run_.named, plan.chosen = chosen_;
  plan.csv = plan.npy = plan.hdf5 = false;
  for (std::string_view rest = options.formats; !rest.empty();) {
    const auto comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    if (item != "csv" && item != "npy" && item != "h5")
      throw UsageError(fmt::format("--formats {}: '{}' is not one of csv, npy, h5", options.formats, item));
    (item == "csv" ? plan.csv : item == "npy" ? plan.npy : plan.hdf5) = true;
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
  }
  plan.means = means_;
  plan.attributes = method_attributes(run_.mode, run_.solver, run_.dt);
  plan.trace_interval = static_cast<double>(trace_steps_) * run_.dt;
  plan.rate_interval = static_cast<double>(rate_steps_) * run_.dt;
  plan.duration = static_cast<double>(run_.last_step - run_.first_step) * run_.dt;
  plan.memory = static_cast<uint64_t>(options.memory_mb * 1e6),
  plan.disk = static_cast<uint64_t>(options.disk_mb * 1e6);
  recorder_.emplace(std::move(plan));
  if (run_.first_step == 0 && !chosen_.empty()) recorder_->trace(0, states());
}

int64_t Recording::next(int64_t step, int64_t most) const {
  most = std::min(most, rate_steps_ - step % rate_steps_);
  return chosen_.empty() ? most : std::min(most, trace_steps_ - step % trace_steps_);
}

std::vector<std::pair<double, double>> Recording::states() const {
  std::vector<std::pair<double, double>> states;
  for (const neuron::ChosenNeuron& c : chosen_) states.push_back(run_.state(c.population, c.neuron));
  return states;
}

void Recording::spike(uint32_t population, uint32_t neuron, double time) {
  ++in_bin_[population];
  if (!counts_[population].empty()) ++counts_[population][neuron];
  const bool first = chosen_.empty() ? population == 0 && neuron == 0
                                     : population == chosen_[0].population && neuron == chosen_[0].neuron;
  if (first && first_times_.size() < 100000) first_times_.push_back(time);
  if (!recorder_) return;
  recorder_->spike(population, neuron, time);
  Dots& d = dots_[population];
  if (neuron >= 2000 || d.seen++ % d.stride) return;
  d.t.push_back(time), d.id.push_back(neuron);
  if (d.t.size() > most_dots) thin(d.t), thin(d.id), d.stride *= 2;
}

bool Recording::after(int64_t step) {
  step_ = step;
  const double t = static_cast<double>(step) * run_.dt;
  if (!chosen_.empty() && step % trace_steps_ == 0) {
    const auto now = states();
    recorder_->trace(t, now);
    if (shown_seen_++ % shown_stride_ == 0) {
      shown_t_.push_back(t);
      for (size_t i = 0; i < now.size(); ++i) shown_v_[i].push_back(now[i].first), shown_u_[i].push_back(now[i].second);
      if (shown_t_.size() > most_rows) {
        thin(shown_t_), shown_stride_ *= 2;
        for (size_t i = 0; i < now.size(); ++i) thin(shown_v_[i]), thin(shown_u_[i]);
      }
    }
  }
  if (step % rate_steps_ == 0) {
    const double length = static_cast<double>(rate_steps_) * run_.dt;
    std::vector<double> hz;
    std::vector<std::pair<double, double>> means;
    double all = 0;
    for (uint32_t p = 0; p < in_bin_.size(); ++p) {
      all += static_cast<double>(in_bin_[p]);
      hz.push_back(1e3 * static_cast<double>(std::exchange(in_bin_[p], 0)) / length /
                   static_cast<double>(run_.populations[p].size));
      rate_hz_[p].push_back(hz.back());
      if (recorder_ && means_) means.push_back(run_.mean_state(p));
    }
    bins_.push_back(all), rate_t_.push_back(t - length / 2);
    if (recorder_) recorder_->rates(t, hz, means);
  }
  if (recorder_ && !full_) full_ = !recorder_->settle();
  return !full_;
}

std::string Recording::name_of(const neuron::ChosenNeuron& c) const {
  return run_.named ? fmt::format("{}:{}", run_.populations[c.population].name, c.neuron) : fmt::format("{}", c.neuron);
}

/// Raster above, rates of the populations below.
Plot Recording::raster(const std::string& title) const {
  Plot plot{"raster", 900, 720};
  const double begin = static_cast<double>(run_.first_step) * run_.dt, end = static_cast<double>(step_) * run_.dt;
  // The rate in about 200 bins, of 1 ms and more.
  const size_t together = std::max<size_t>(1, rate_t_.size() / 200);
  std::string dots, lines;
  double first = 0;
  for (size_t p = 0; p < dots_.size(); ++p) {
    std::vector<double> id = dots_[p].id, t, hz;
    for (double& i : id) i += first;
    for (size_t b = 0; b + together <= rate_t_.size(); b += together) {
      double sum = 0;
      for (size_t k = b; k < b + together; ++k) sum += rate_hz_[p][k] / static_cast<double>(together);
      t.push_back((rate_t_[b] + rate_t_[b + together - 1]) / 2), hz.push_back(sum);
    }
    plot.add(fmt::format("p{}", p), {dots_[p].t, id}), plot.add(fmt::format("r{}", p), {t, hz});
    dots +=
        fmt::format("{}$p{} using 1:2 with points pt 7 ps 0.25 lc rgb '{}' notitle", p ? ", " : "", p, colours[p % 5]);
    lines += fmt::format("{}$r{} using 1:2 with lines lw 1.4 lc rgb '{}' title {} noenhanced", p ? ", " : "", p,
                         colours[p % 5], quoted(run_.populations[p].name));
    first += static_cast<double>(std::min<int64_t>(run_.populations[p].size, 2000));
  }
  plot.body = fmt::format(
      "set multiplot layout 2,1 title {} noenhanced\nset lmargin 10; set rmargin 3\nset xrange [{}:{}]\n"
      "unset key; unset xlabel; set ylabel 'neuron'; set yrange [0:{}]\nset size 1,0.62; set origin 0,0.33\nplot {}\n"
      "set key top right; set ylabel 'rate (Hz)'; set xlabel 'time (ms)'; set yrange [0:*]\n"
      "set size 1,0.34; set origin 0,0\nplot {}\nunset multiplot",
      quoted(title), begin, end, first, dots, lines);
  return plot;
}

/// v of the first chosen neurons, one above the other, and u of the first.
Plot Recording::traces(const std::string& title) const {
  const size_t rows = std::min<size_t>(chosen_.size(), 5);
  Plot plot{"traces", 900, static_cast<int>(170 * (rows + 1) + 80)};
  plot.body = fmt::format(
      "set multiplot layout {},1 title {} noenhanced\nset lmargin 10; set rmargin 3; unset key; unset xlabel\n"
      "set xrange [{}:{}]\nset offsets graph 0, 0, 0.06, 0.06\n",
      rows + 1, quoted(title), shown_t_.empty() ? 0 : shown_t_.front(), shown_t_.empty() ? 1 : shown_t_.back());
  for (size_t i = 0; i < rows; ++i) {
    plot.add(fmt::format("v{}", i), {shown_t_, shown_v_[i], shown_u_[i]});
    plot.body += fmt::format("set ylabel {} noenhanced\nplot $v{} using 1:2 with lines lw 1.1 lc rgb '{}'\n",
                             quoted(fmt::format("v of {} (mV)", name_of(chosen_[i]))), i, colours[i % 5]);
  }
  plot.body += fmt::format(
      "set xlabel 'time (ms)'; set ylabel {} noenhanced\n"
      "plot $v0 using 1:3 with lines lw 1.1 lc rgb '{}'\nunset multiplot",
      quoted(fmt::format("u of {}", name_of(chosen_[0]))), colours[0]);
  return plot;
}

void Recording::finish(const Common& common, const std::string& title) {
  if (!recorder_) return;
  recorder_->finish(counts_, static_cast<double>(step_ - run_.first_step) * run_.dt);
  common.say("{}", draw(folder_, raster(title)));
  if (!chosen_.empty()) common.say("{}", draw(folder_, traces(title)));
  common.say("recorded in {}: {}{}", folder_, recorder_->files(),
             run_.first_step > 0 ? fmt::format("; they hold what came after {:g} ms, the earlier part is where the "
                                               "resumed run wrote it",
                                               static_cast<double>(run_.first_step) * run_.dt)
                                 : "");
  if (full_)
    common.say("the disk takes no more of the record: stopped at {:g} ms, all until then is kept",
               static_cast<double>(step_) * run_.dt);
}

nlohmann::ordered_json Recording::summary() const {
  return {{"recorded_from_ms", static_cast<double>(run_.first_step) * run_.dt},
          {"record_files", recorder_ ? recorder_->files() : ""},
          {"record_full", full_},
          {"record_peak_memory_bytes", recorder_ ? recorder_->most_waiting() : 0}};
}

}  // namespace ranvier::cli
