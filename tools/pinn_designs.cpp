// Training, scores and files of the whole-time designs.
#include "tools/pinn_designs.h"

#include <random>

#include "models/collocation.h"
#include "models/pinn_baseline.h"

namespace ranvier::cli {
namespace {

using Json = nlohmann::ordered_json;

/// Draws that share of the data without the first sample; the rest stays in `data`.
pinn::Trace hold_out(pinn::Trace& data, double share, uint64_t seed) {
  pinn::Trace kept, held;
  std::mt19937_64 random(seed);
  for (size_t i = 0; i < data.t_ms.size(); ++i) {
    pinn::Trace& to = i > 0 && pinn::uniform(random) < share ? held : kept;
    to.t_ms.push_back(data.t_ms[i]), to.v_mv.push_back(data.v_mv[i]), to.u.push_back(data.u[i]);
  }
  data = std::move(kept);
  return held;
}

/// Files and pictures of a design, as a run of the window solver has them.
std::string write_design(const std::filesystem::path& folder, const PinnOptions& o, const PinnProblem& p,
                         const pinn::BaselineTraining& training, const DesignResult& r) {
  const auto at = [&](double t) { return training.at(t); };
  const auto residual = [&](double t) {  // slopes by central differences
    constexpr double h = 1e-3;
    const double low = std::max(t - h, 0.0), high = std::min(t + h, o.duration_ms);
    const pinn::Point here = at(t), before = at(low), after = at(high);
    return pinn::Point{(after.v - before.v) / (high - low) - p.neuron.dv(here.v, here.u, p.current.at(t)),
                       (after.u - before.u) / (high - low) - p.neuron.du(here.v, here.u)};
  };
  std::string loss = "step,loss\n";
  for (size_t i = 0; i < training.history().size(); ++i) loss += fmt::format("{},{:.6e}\n", i, training.history()[i]);
  training.save((folder / "model.safetensors").string());
  return write_run(folder,
                   {at, residual, r.peaks_ms, o.duration_ms, loss, "optimizer step", "loss", unit_of_u(p.neuron)},
                   o.sample_ms, p.reference);
}

}  // namespace

DesignResult run_design(const PinnOptions& o, const PinnProblem& p, const std::string& design,
                        const std::filesystem::path* folder) {
  const pinn::Baseline baseline = pinn::Baseline::named(design, o.duration_ms, o.effort);
  pinn::Trace data = pinn::published_training_data(p.neuron, p.current, o.duration_ms);
  std::vector<double> data_spikes;
  for (size_t i = 0; i < data.t_ms.size(); ++i)
    if (data.v_mv[i] >= p.neuron.v_peak) data_spikes.push_back(data.t_ms[i]);
  const pinn::Trace unseen = hold_out(data, o.held_out, o.common.seed.value_or(0));
  pinn::BaselineTraining training(baseline, p.neuron, p.current, o.duration_ms, data, DType::f64,
                                  o.common.seed.value_or(0));
  Progress progress(o.common);
  const Stopwatch watch;
  training.train([&](const pinn::BaselineProgress& at) {
    progress.update(fmt::format("{:<10} step {:>6}/{}  loss {:.3e}  lr {:.1e}  {} left", design, at.step, at.steps,
                                at.loss, at.lr,
                                duration(watch.wall() * static_cast<double>(at.steps - at.step) /
                                         static_cast<double>(std::max<int64_t>(at.step, 1)))));
    return !interrupted();
  });
  const auto at = [&](double t) { return training.at(t); };
  DesignResult r;
  r.seconds = watch.wall(), r.cpu = watch.cpu(), r.loss = training.history().back();
  r.parameters = training.parameters();
  r.peaks_ms = pinn::peaks(at, o.duration_ms);
  if (p.reference) r.score = score(*p.reference, r.peaks_ms, at, o.duration_ms);
  if (baseline.needs_data)  // how the published runs were scored: on their own training points
    r.against_data = score({"training data", {}, data.t_ms, data.v_mv, data.u}, r.peaks_ms, at, o.duration_ms);
  if (baseline.needs_data && !unseen.t_ms.empty()) {
    r.held_out = score({"held-out data", {}, unseen.t_ms, unseen.v_mv, unseen.u}, r.peaks_ms, at, o.duration_ms);
    r.held_out_away =
        score({"held-out data", data_spikes, unseen.t_ms, unseen.v_mv, unseen.u}, r.peaks_ms, at, o.duration_ms);
  }
  progress.finish(fmt::format("{}: {} spikes, loss {:.3e}, {:.1f} s ({:.1f} s of processor time){}", design,
                              r.peaks_ms.size(), r.loss, r.seconds, r.cpu,
                              r.against_data.v_rmse_mv
                                  ? fmt::format(", v on its own training points: MAE {:.3f}, RMSE {:.3f} mV",
                                                *r.against_data.v_mae_mv, *r.against_data.v_rmse_mv)
                                  : ""));
  if (r.held_out.v_rmse_mv)
    o.common.say("v on {} held-out points: MAE {:.3f}, RMSE {:.3f} mV; more than 2 ms from a spike: {}",
                 unseen.t_ms.size(), *r.held_out.v_mae_mv, *r.held_out.v_rmse_mv,
                 r.held_out_away.v_rmse_mv
                     ? fmt::format("MAE {:.3f}, RMSE {:.3f} mV", *r.held_out_away.v_mae_mv, *r.held_out_away.v_rmse_mv)
                     : "none");
  if (folder) o.common.say("{}", write_design(*folder, o, p, training, r));
  return r;
}

Json design_json(const std::string& design, const DesignResult& r) {
  return {{"design", design},
          {"spikes", r.peaks_ms.size()},
          {"spike_times_ms", r.peaks_ms},
          {"spike_error_ms", or_null(r.score.spike_error_ms)},
          {"v_rmse_mv", or_null(r.score.v_rmse_mv)},
          {"v_mae_on_training_data_mv", or_null(r.against_data.v_mae_mv)},
          {"v_rmse_on_training_data_mv", or_null(r.against_data.v_rmse_mv)},
          {"held_out_v_mae_mv", or_null(r.held_out.v_mae_mv)},
          {"held_out_v_rmse_mv", or_null(r.held_out.v_rmse_mv)},
          {"held_out_v_mae_away_from_spikes_mv", or_null(r.held_out_away.v_mae_mv)},
          {"held_out_v_rmse_away_from_spikes_mv", or_null(r.held_out_away.v_rmse_mv)},
          {"residual_fresh_over_training", nullptr},
          {"loss", r.loss},
          {"seconds", r.seconds},
          {"cpu_seconds", r.cpu},
          {"parameters", r.parameters}};
}

}  // namespace ranvier::cli
