// References, scores, files and pictures of PINN runs.
#include "tools/pinn_run.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>

#include "data/files.h"
#include "data/process.h"
#include "models/neurons/npy.h"

namespace ranvier::cli {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> cells(const std::string& line) {
  std::vector<std::string> parts(1);
  for (char c : line) {
    if (c == ',')
      parts.emplace_back();
    else if (c != ' ' && c != '\r' && c != '\t')
      parts.back() += c;
  }
  return parts;
}

/// The curves of a run as one gnuplot script.
std::string script_of(const fs::path& folder, const Curves& curves, bool reference) {
  const auto at = [&](const char* name) { return "'" + (folder / name).string() + "'"; };
  std::string s = "set datafile separator ','; set grid; set terminal pngcairo size 1000,520 font 'Helvetica,11'\n";
  const auto begin = [&](const char* name, const char* x, const char* y, const char* more = "") {
    s += fmt::format(
        "reset; set datafile separator ','; set grid; set output {}; set xlabel '{}'; set ylabel '{}'; {}\n", at(name),
        x, y, more);
  };
  const std::string data = at("solution.csv"), truth = at("reference.csv");
  const std::string line = "with lines lw 1.6 lc rgb '#1f6f8b' title 'network'";
  const auto compared = [&](const char* column) {
    const std::string beside =
        reference ? fmt::format(", {} using 1:{} every ::1 with lines dt 2 lw 1.2 lc rgb '#d1495b' title 'reference'",
                                truth, column)
                  : "";
    return fmt::format("plot {} using 1:{} every ::1 {}{}\n", data, column, line, beside);
  };
  // the key stands above the plot, where no spike runs through it
  begin("voltage.png", "t (ms)", "v (mV)", "set key above");
  s += compared("2");
  const std::string u = fmt::format("u ({})", curves.unit_of_u);
  begin("recovery.png", "t (ms)", u.c_str(), "set key above");
  s += compared("3");
  begin("phase.png", "v (mV)", u.c_str(), "set key above");
  s += fmt::format(
      "plot {} using 2:3 every ::1 with lines lw 1.6 lc rgb '#1f6f8b' title 'network (straight: the reset)'", data);
  if (reference)  // its samples alone: lines between them would cut corners
    s += fmt::format(", {} using 2:3 every ::1 with points pt 7 ps 0.35 lc rgb '#d1495b' title 'reference'", truth);
  s += "\n";
  const std::string left =
      fmt::format("|residual| of v (mV/ms), of u ({})", curves.unit_of_u == "pA" ? "pA/ms" : "mV/ms^2");
  begin("residual.png", "t (ms)", left.c_str(),
        "set logscale y; set format y '%.0e'; set key above; set yrange [1e-14:*]");
  s += fmt::format(
      "plot {0} using 1:(abs($4)+1e-16) every ::1 with lines lw 1 lc rgb '#1f6f8b' title 'dv/dt - f', {0} using "
      "1:(abs($5)+1e-16) every ::1 with lines lw 1 lc rgb '#edae49' title 'du/dt - g'\n",
      data);
  begin("loss.png", curves.loss_x.c_str(), curves.loss_y.c_str(),
        "set logscale y; set format y '%.0e'; unset key; set xtics format '%.0s%c'");
  const std::string names = curves.loss_csv.substr(0, curves.loss_csv.find('\n'));
  s += fmt::format("plot {} using 1:{} every ::1 with points pt 7 ps 0.2 lc rgb '#1f6f8b'\n", at("loss.csv"),
                   1 + std::count(names.begin(), names.end(), ','));
  if (reference) {
    begin("error.png", "t (ms)", "|error| of v (mV)",
          "set logscale y; set format y '%.0e'; unset key; set yrange [1e-12:*]");
    s += fmt::format("plot {} using 1:(abs($2)+1e-16) every ::1 with lines lw 1 lc rgb '#d1495b'\n", at("error.csv"));
  }
  return s;
}

}  // namespace

Reference read_reference(const std::string& path) {
  std::ifstream file(path);
  std::error_code ignored;
  if (!file || fs::is_directory(path, ignored)) throw UsageError(fmt::format("{}: cannot be read", path));
  Reference reference{path, {}, {}, {}, {}};
  std::string line;
  if (!std::getline(file, line)) throw UsageError(fmt::format("{}: is empty", path));
  const std::vector<std::string> names = cells(line);
  std::vector<std::vector<double>*> into;
  for (const std::string& name : names)
    into.push_back(name == "t_ms"       ? &reference.t_ms
                   : name == "v_mv"     ? &reference.v_mv
                   : name == "u"        ? &reference.u
                   : name == "spike_ms" ? &reference.spike_times_ms
                                        : nullptr);
  if (std::all_of(into.begin(), into.end(), [](const auto* v) { return !v; }))
    throw UsageError(fmt::format("{}: line 1 names none of the columns t_ms, v_mv, u, spike_ms", path));
  for (int64_t number = 2; std::getline(file, line); ++number) {
    const std::vector<std::string> parts = cells(line);
    if (parts.size() == 1 && parts[0].empty()) continue;
    if (parts.size() != names.size())
      throw UsageError(
          fmt::format("{}: line {} has {} columns, line 1 names {}", path, number, parts.size(), names.size()));
    for (size_t k = 0; k < parts.size(); ++k) {
      if (!into[k]) continue;
      double value = 0;
      const auto [end, error] = std::from_chars(parts[k].data(), parts[k].data() + parts[k].size(), value);
      if (error != std::errc() || end != parts[k].data() + parts[k].size() || !std::isfinite(value))
        throw UsageError(fmt::format("{}: line {}: '{}' is not a number", path, number, parts[k]));
      if ((into[k] == &reference.t_ms || into[k] == &reference.spike_times_ms) && !into[k]->empty() &&
          !(value > into[k]->back()))
        throw UsageError(
            fmt::format("{}: line {}: time {} ms does not follow {} ms", path, number, value, into[k]->back()));
      into[k]->push_back(value);
    }
  }
  if (!reference.v_mv.empty() && reference.t_ms.empty())
    throw UsageError(fmt::format("{}: there is no column t_ms", path));
  return reference;
}

neuron::Protocol protocol_of(const pinn::Neuron& n, const pinn::Current& current, double duration) {
  neuron::Protocol protocol;
  protocol.parameters = {.C = n.C, .q2 = n.q2, .q1 = n.q1, .q0 = n.q0, .a = n.a, .b = n.b, .v_b = n.v_b};
  protocol.parameters.c = n.c, protocol.parameters.d = n.d, protocol.parameters.v_peak = n.v_peak;
  protocol.v0 = n.v0, protocol.u0 = n.u0, protocol.duration = duration;
  std::vector<neuron::Stimulus::Piece> pieces;
  for (const pinn::Current::Step& s : current.steps) pieces.push_back({.begin = s.t_ms, .value = s.value});
  protocol.current = neuron::Stimulus(pieces);
  protocol.trace = true;
  return protocol;
}

Reference reference_solution(const pinn::Neuron& n, const pinn::Current& current, double duration, double step) {
  neuron::Protocol protocol = protocol_of(n, current, duration);
  protocol.solver = neuron::Solver::reference;
  for (int64_t i = 1; static_cast<double>(i) * step <= duration; ++i)
    protocol.samples.push_back(static_cast<double>(i) * step);
  const neuron::Result run = neuron::simulate(protocol, n.name);
  return {"reference solver", run.spikes, run.trace.t, run.trace.v, run.trace.u};
}

std::string unit_of_u(const pinn::Neuron& n) { return n.C == 1 ? "mV/ms" : "pA"; }

Curves curves_of(const pinn::Solution& solution) {
  std::string loss = "iteration,window,start_ms,loss\n";
  int64_t iteration = 0;
  for (size_t k = 0; k < solution.segments.size(); ++k)
    for (double value : solution.segments[k].history)
      loss += fmt::format("{},{},{},{:.5e}\n", iteration++, k + 1, solution.segments[k].start_ms, value);
  return {[&](double t) { return solution.at(t); },
          [&](double t) { return solution.residual(t); },
          solution.spike_times_ms,
          solution.reached_ms,
          loss,
          "optimizer iteration (accepted windows)",
          "mean squared residual of the window",
          unit_of_u(solution.neuron)};
}

void check_samples(double sample_ms, double duration_ms) {
  constexpr double most = 1e7;
  if (!(sample_ms > 0 && std::isfinite(sample_ms)))
    throw UsageError(fmt::format("--sample-ms {}: must be positive", sample_ms));
  if (duration_ms / sample_ms > most)
    throw UsageError(fmt::format("--sample-ms {}: more than {:.0e} samples of {} ms", sample_ms, most, duration_ms));
}

Trajectory sample(const Curves& curves, double step) {
  Trajectory result;
  std::vector<double> times;
  for (int64_t i = 0; static_cast<double>(i) * step <= curves.reached_ms * (1 + 1e-15); ++i)
    times.push_back(static_cast<double>(i) * step);
  for (double t : curves.spike_times_ms) {
    // the upstroke, which a regular step would miss, the peak, and the state after the reset
    for (double before : {0.1, 0.05, 0.02, 0.01, 0.0})
      if (t > before) times.push_back(t - before);
    times.push_back(std::nextafter(t, std::numeric_limits<double>::infinity()));
  }
  std::sort(times.begin(), times.end());
  times.erase(std::unique(times.begin(), times.end()), times.end());
  for (double t : times) {
    const pinn::Point p = curves.at(t), r = curves.residual(t);
    result.t_ms.push_back(t), result.v_mv.push_back(p.v), result.u.push_back(p.u);
    result.residual_v.push_back(r.v), result.residual_u.push_back(r.u);
  }
  return result;
}

void refuse_run_in(const std::string& folder) {
  std::error_code ignored;
  for (const char* name : {"model.safetensors", "model-1.safetensors"})
    if (fs::exists(fs::path(folder) / name, ignored))
      throw UsageError(fmt::format("{} holds a run already; --out names another folder", folder));
}

Score score(const Reference& reference, const std::vector<double>& spikes, const std::function<pinn::Point(double)>& at,
            double until, double guard) {
  Score result;
  std::vector<double> wanted;
  for (double t : reference.spike_times_ms)
    if (t <= until) wanted.push_back(t);
  result.spikes = static_cast<int64_t>(spikes.size());
  result.reference_spikes = static_cast<int64_t>(wanted.size());
  if (!wanted.empty() && spikes.size() == wanted.size()) {
    double worst = 0;
    for (size_t i = 0; i < wanted.size(); ++i) worst = std::max(worst, std::abs(spikes[i] - wanted[i]));
    result.spike_error_ms = worst;
  }
  double v = 0, u = 0, total = 0, most = 0;
  int64_t count = 0;
  for (size_t i = 0; i < reference.v_mv.size(); ++i) {
    const double t = reference.t_ms[i];
    const bool near = std::any_of(reference.spike_times_ms.begin(), reference.spike_times_ms.end(),
                                  [&](double spike) { return std::abs(spike - t) <= guard; });
    if (t > until || near) continue;
    const pinn::Point p = at(t);
    const double dv = p.v - reference.v_mv[i], du = i < reference.u.size() ? p.u - reference.u[i] : 0;
    v += dv * dv, u += du * du, total += std::abs(dv), most = std::max(most, std::abs(dv)), ++count;
  }
  if (count) {
    result.v_rmse_mv = std::sqrt(v / static_cast<double>(count)), result.v_max_mv = most;
    result.v_mae_mv = total / static_cast<double>(count);
    if (!reference.u.empty()) result.u_rmse = std::sqrt(u / static_cast<double>(count));
  }
  return result;
}

void write_npy(const fs::path& path, const std::vector<double>& values, int64_t columns) {
  const auto wide = static_cast<uint64_t>(columns);
  std::string bytes = neuron::npy_header("<f8", {values.size() / wide, wide});
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double));
  write_file(path, bytes);
}

std::string draw(const fs::path& script, const std::string& text) {
  write_file(script, text);
  try {
    if (data::run_program({"gnuplot", script.string()}, false).status == 0) return "";
  } catch (const std::runtime_error&) {
  }
  return fmt::format("gnuplot is missing or failed; draw the pictures later with `gnuplot {}`", script.string());
}

std::string write_run(const fs::path& folder, const Curves& curves, double sample_ms,
                      const std::optional<Reference>& reference) {
  const Trajectory trajectory = sample(curves, sample_ms);
  std::string text = "t_ms,v_mv,u,residual_v,residual_u\n";
  std::vector<double> matrix;
  for (size_t i = 0; i < trajectory.t_ms.size(); ++i) {
    text += fmt::format("{},{},{},{:.4e},{:.4e}\n", trajectory.t_ms[i], trajectory.v_mv[i], trajectory.u[i],
                        trajectory.residual_v[i], trajectory.residual_u[i]);
    matrix.insert(matrix.end(), {trajectory.t_ms[i], trajectory.v_mv[i], trajectory.u[i]});
  }
  write_file(folder / "solution.csv", text);
  write_npy(folder / "solution.npy", matrix, 3);
  text = "spike_ms\n";
  for (double t : curves.spike_times_ms) text += fmt::format("{}\n", t);
  write_file(folder / "spikes.csv", text);
  write_file(folder / "loss.csv", curves.loss_csv);
  const bool samples = reference && !reference->v_mv.empty();
  if (samples) {
    std::string truth = "t_ms,v_mv,u\n", error = "t_ms,v_error_mv\n";
    for (size_t i = 0; i < reference->v_mv.size() && reference->t_ms[i] <= curves.reached_ms; ++i) {
      const double u = i < reference->u.size() ? reference->u[i] : std::numeric_limits<double>::quiet_NaN();
      truth += fmt::format("{},{},{}\n", reference->t_ms[i], reference->v_mv[i], u);
      error += fmt::format("{},{:.6e}\n", reference->t_ms[i], curves.at(reference->t_ms[i]).v - reference->v_mv[i]);
    }
    write_file(folder / "reference.csv", truth);
    write_file(folder / "error.csv", error);
  }
  const std::string trouble = draw(folder / "plots.gnuplot", script_of(folder, curves, samples));
  return trouble.empty() ? fmt::format("pictures: {}/voltage.png, recovery, phase, residual, loss{}", folder.string(),
                                       samples ? ", error" : "")
                         : trouble;
}

}  // namespace ranvier::cli
