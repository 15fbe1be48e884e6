// Losses and training of the whole-time designs.
#include "models/pinn_baseline.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/grad.h"
#include "engine/optimize.h"
#include "engine/safetensors.h"
#include "models/collocation.h"

namespace ranvier::pinn {
namespace {

std::vector<double> uniform_points(int64_t n, double low, double high) {
  std::vector<double> points;
  for (int64_t i = 0; i < n; ++i)
    points.push_back(low + (high - low) * static_cast<double>(i) / static_cast<double>(n - 1));
  return points;
}

std::vector<double> united(std::initializer_list<std::vector<double>> sets) {
  std::vector<double> all;
  for (const auto& set : sets) all.insert(all.end(), set.begin(), set.end());
  std::sort(all.begin(), all.end());
  return all;
}

int64_t scaled(double steps, double effort) {
  return std::max<int64_t>(1, static_cast<int64_t>(std::llround(steps * effort)));
}

Tensor column(Tensor y, int64_t k) { return reshape(slice_axis(y, 1, k, 1), {y.shape()[0]}); }

/// U(-bound, bound) weights and zero or uniform biases of each layer, by fan-in (torch's default) or Xavier normal.
Init network_init(MlpShape shape, bool xavier) {
  return [shape, xavier](std::span<float> values, const Shape&, uint64_t seed, uint64_t stream) {
    std::mt19937_64 random(seed * 0x9E3779B97F4A7C15u + stream);
    size_t at = 0;
    for (size_t l = 1; l < shape.widths.size(); ++l) {
      const auto in = static_cast<double>(shape.widths[l - 1]), out = static_cast<double>(shape.widths[l]);
      const auto weights = static_cast<size_t>(in * out), biases = static_cast<size_t>(out);
      const double bound = 1 / std::sqrt(in), deviation = std::sqrt(2 / (in + out));
      for (size_t i = 0; i < weights + biases; ++i) {
        const double u = uniform(random), angle = 2 * std::acos(-1.0) * uniform(random);
        const double normal = deviation * std::sqrt(-2 * std::log(u + 0x1p-54)) * std::cos(angle);
        values[at++] = static_cast<float>(!xavier ? bound * (2 * u - 1) : i < weights ? normal : 0.0);
      }
    }
  };
}

}  // namespace

Baseline Baseline::named(std::string_view name, double T, double effort) {
  Baseline b;
  b.name = name;
  if (name == "global" || name == "causal") {
    b.hidden = {64, 64, 64, 64};
    b.points = uniform_points(2048, 0, T);
    b.phases = {{.lr = 1e-3, .steps = scaled(8000, effort)}};
    b.lbfgs_steps = scaled(100, effort);
  } else if (name == "pure") {
    b.hidden = {128, 128, 128, 128, 128, 128};
    b.fourier = 2;
    // 1,000 points over all, 250 more on each of four stretches of [0, 200] ms, here as shares of the duration
    const double s = T / 200;
    b.points =
        united({uniform_points(1000, 0, T), uniform_points(250, 95 * s, 105 * s), uniform_points(250, 100 * s, 120 * s),
                uniform_points(250, 120 * s, 140 * s), uniform_points(250, 140 * s, T)});
    b.phases = {{.lr = 5e-4, .steps = scaled(5000, effort), .weight_decay = 1e-6, .clip = 1, .patience = 1000},
                {.lr = 1e-4, .steps = scaled(7000, effort), .weight_decay = 1e-6, .clip = 0.5, .patience = 1000}};
  } else if (name == "guided") {
    b.hidden = {128, 128, 128, 128};
    b.needs_data = true;
    b.points = united({uniform_points(1500, 0, T), uniform_points(500, 0.09 * T, 0.15 * T)});
    b.phases = {{.lr = 1e-3, .steps = scaled(8000, effort)}};
    b.lbfgs_steps = scaled(100, effort);
  } else if (name == "curriculum") {
    b.hidden = {128, 128, 128, 128, 128, 128};
    b.needs_data = true;
    b.points = uniform_points(4096, 0, T);
    b.phases = {{.lr = 1e-3, .steps = scaled(8000, effort), .clip = 1}};
    b.lbfgs_steps = scaled(100, effort);
  } else {
    fail("there is no baseline '{}'; known: global causal pure guided curriculum", name);
  }
  return b;
}

BaselineTraining::BaselineTraining(Baseline design, const Neuron& neuron, const Current& current, double duration,
                                   const Trace& data, DType dtype, uint64_t seed)
    : design_(std::move(design)),
      neuron_(neuron),
      current_(current),
      duration_ms_(duration),
      data_(data),
      dtype_(dtype),
      state_(std::make_unique<State>(Device::cpu(), seed)) {
  neuron_.check();
  if (!(duration > 0)) fail("duration {} ms: must be positive", duration);
  if (design_.needs_data && data_.t_ms.empty())
    fail("the {} design is a fit to data, and there are none", design_.name);
  if (!design_.needs_data) data_ = {};
  shape_.widths = {1 + 2 * design_.fourier};
  shape_.widths.insert(shape_.widths.end(), design_.hidden.begin(), design_.hidden.end());
  shape_.widths.push_back(2);
  // outputs to mV and u: as published, or of the order of the reset for our own two
  v_scale_ = 0.5 * (neuron.v_peak - neuron.c), v_shift_ = neuron.v0, u_scale_ = std::max(1.0, std::abs(neuron.d));
  u_shift_ = neuron.u0;
  if (design_.name == "pure") v_scale_ = 100, u_scale_ = 300;
  if (design_.name == "curriculum") v_scale_ = 95, u_scale_ = 100;
  if (design_.name == "guided") {  // v in mV; u standardised by its own data
    v_scale_ = 1, v_shift_ = 0;
    double mean = 0, square = 0;
    for (double u : data_.u) mean += u / static_cast<double>(data_.u.size());
    for (double u : data_.u) square += (u - mean) * (u - mean) / static_cast<double>(data_.u.size());
    u_shift_ = mean, u_scale_ = std::max(1e-6, std::sqrt(square));
  }
  state_->set_parameter_type(dtype);
  for (const Phase& phase : design_.phases) {
    Graph graph(*state_, true);
    const bool xavier = design_.name == "pure" || design_.name == "curriculum";
    const Tensor theta = parameter(graph, "theta", {shape_.parameters()}, network_init(shape_, xavier));
    const Tensor loss = loss_of(graph, theta);
    const Tensor m = read(graph, "momentum", "theta", theta.type(), init::constant(0));
    const Tensor v = read(graph, "second_moment", "theta", theta.type(), init::constant(0));
    const Tensor lr = input(graph, "lr", {dtype, {}}), step = input(graph, "step", {DType::i64, {}});
    Tensor g = grad(loss, theta);
    if (phase.clip > 0) {
      const Tensor norm = global_norm(std::span(&g, 1));
      g = g * minimum(full(graph, norm.type(), 1), phase.clip / (norm + 1e-6));
    }
    if (phase.weight_decay > 0) g = g + phase.weight_decay * theta;
    const AdamWResult next = adamw(std::span(&theta, 1), std::span(&m, 1), std::span(&v, 1), std::span(&g, 1), lr, step,
                                   {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0});
    assign(graph, "parameters", "theta", next.parameters[0]);
    assign(graph, "momentum", "theta", next.momentum[0]);
    assign(graph, "second_moment", "theta", next.second_moment[0]);
    updates_.push_back(compile(graph, std::vector{loss}));
    set_inputs(updates_.back());
    total_ += phase.steps;
  }
  refresh();
}

/// What a loss is made of: values, slopes per ms, and what is left of the equations, at the collocation points.
struct BaselineTraining::Loss {
  Tensor v, u, dv, du, f, g, time;
};

Tensor BaselineTraining::loss_of(Graph& graph, Tensor theta) const {
  const auto n = static_cast<int64_t>(design_.points.size()), samples = static_cast<int64_t>(data_.t_ms.size());
  const int64_t rows = n + 1 + samples;  // collocation, the initial point, data
  const Tensor x = input(graph, "x", {dtype_, {rows, 1}}), current = input(graph, "current", {dtype_, {n}});
  const Tensor time = input(graph, "time", {dtype_, {n}});
  const double per_ms = design_.name == "pure" ? 1 / duration_ms_ : 2 / duration_ms_;
  const Jet features = fourier_features({x, full(graph, x.type(), per_ms)}, design_.fourier);
  const Jet jet = mlp_jet(features.value, features.tangent, theta, shape_);
  const auto rows_of = [](Tensor y, int64_t first, int64_t count) { return slice_axis(y, 0, first, count); };
  const Tensor o = rows_of(jet.value, 0, n), d = rows_of(jet.tangent, 0, n);
  Loss l;
  l.time = time;
  Tensor o0 = column(o, 0), o1 = column(o, 1), d0 = column(d, 0), d1 = column(d, 1);
  const bool own = design_.name == "global" || design_.name == "causal";
  if (own) {  // the initial state is built in: 10 t / T times the network
    const Tensor ramp = time * (10 / duration_ms_);
    d0 = ramp * d0 + (10 / duration_ms_) * o0, d1 = ramp * d1 + (10 / duration_ms_) * o1;
    o0 = ramp * o0, o1 = ramp * o1;
  }
  l.v = v_scale_ * o0 + v_shift_, l.u = u_scale_ * o1 + u_shift_, l.dv = v_scale_ * d0, l.du = u_scale_ * d1;
  const Neuron& p = neuron_;
  l.f = l.dv - (1 / p.C) * (p.q2 * square(l.v) + p.q1 * l.v + p.q0 - l.u + current);
  l.g = l.du - p.a * (p.b * (l.v - p.v_b) - l.u);
  if (own) {
    const Tensor each = square(l.f * (10 / (p.v_peak - p.c))) + square(l.g * (10 / u_scale_));
    if (design_.name == "global") return mean(each);
    const Tensor parts = mean(reshape(each, {32, n / 32}), {1});
    return mean(causal_weights(parts, 1) * parts);
  }
  const Tensor start = rows_of(jet.value, n, 1);
  const Tensor v_off = v_scale_ * column(start, 0) + (v_shift_ - p.v0);
  const Tensor u_off = u_scale_ * column(start, 1) + (u_shift_ - p.u0);
  const auto above = [&](double level) { return cast(greater_equal(time, full(graph, time.type(), level)), dtype_); };
  if (design_.name == "pure") {
    const Tensor share = input(graph, "share", {dtype_, {4}});  // weights of initial, bounds, spike, continuity terms
    const auto weight = [&](int64_t k) { return reshape(slice_axis(share, 0, k, 1), {}); };
    const Tensor physics = mean((1.0 + 4.0 * above(90)) * (square(l.f) + square(l.g)));
    const Tensor bounds = mean(square(relu(l.v - 50.0)) + square(relu(-100.0 - l.v)));
    const Tensor spike = mean(sigmoid(10.0 * (l.v - 25.0)) * relu(10.0 - abs(l.dv)));
    const Tensor dv = slice_axis(l.v, 0, 1, n - 1) - slice_axis(l.v, 0, 0, n - 1);
    const Tensor dt =
        maximum(slice_axis(time, 0, 1, n - 1) - slice_axis(time, 0, 0, n - 1), full(graph, {dtype_, {n - 1}}, 1e-3));
    const Tensor steep = square(relu(abs(dv / dt) - 50.0));
    const Tensor continuity = mean((1.0 - sigmoid(2.0 * (slice_axis(l.v, 0, 0, n - 1) - 20.0))) * steep);
    return physics + weight(0) * mean(square(v_off) + square(u_off)) + weight(1) * bounds + weight(2) * spike +
           weight(3) * continuity;
  }
  const Tensor o_data = rows_of(jet.value, n + 1, samples);
  const Tensor v_data = input(graph, "v_data", {dtype_, {samples}}),
               u_data = input(graph, "u_data", {dtype_, {samples}});
  const Tensor v_miss = v_scale_ * column(o_data, 0) + v_shift_ - v_data;
  const Tensor u_miss = u_scale_ * column(o_data, 1) + u_shift_ - u_data;
  if (design_.name == "guided") {
    const Tensor near = cast(less_equal(abs(time - 100.0), full(graph, time.type(), 5)), dtype_);
    const Tensor physics = mean((1.0 + 10.0 * near) * (square(l.f) + 100.0 * square(l.g * (1 / u_scale_))));
    const Tensor initial = mean(square(v_off) + square(u_off * (1 / u_scale_))) * 0.5;
    const Tensor spiking = cast(greater(v_data, full(graph, v_data.type(), 0)), dtype_);
    const Tensor fit = mean((1.0 + 50.0 * spiking) * square(v_miss)) + mean(100.0 * square(u_miss * (1 / u_scale_)));
    return physics + 200.0 * initial + 50.0 * fit;
  }
  const Tensor margin = input(graph, "margin", {dtype_, {}});
  const Tensor kept = stop_gradient(cast(less_equal(l.v, p.v_peak - margin), dtype_));
  const Tensor physics = sum(kept * (square(l.f * (1 / 0.7)) + square(l.g * (1 / 3.0)))) / (sum(kept) + 1e-9);
  const Tensor initial = mean(square(v_off * (1 / 95.0)) + square(u_off * (1 / 100.0)));
  const Tensor fit = mean(square(v_miss * (1 / 95.0)) + square(u_miss * (1 / 100.0)));
  return 50.0 * fit + physics + 200.0 * initial;
}

void BaselineTraining::set_inputs(Program& program) const {
  const bool from_zero = design_.name == "pure";
  std::vector<double> x, current, time = design_.points;
  const auto push = [&](double t) { x.push_back(from_zero ? t / duration_ms_ : 2 * t / duration_ms_ - 1); };
  for (double t : design_.points) push(t), current.push_back(current_.at(t));
  push(0);
  for (double t : data_.t_ms) push(t);
  const auto set = [&](const char* name, const std::vector<double>& values) {
    if (dtype_ == DType::f64) return program.set<double>(name, values);
    program.set<float>(name, std::vector<float>(values.begin(), values.end()));
  };
  set("x", x), set("current", current), set("time", time);
  if (design_.name == "pure") set("share", {1e4, 1, 0, 0});
  if (!design_.needs_data) return;
  set("v_data", data_.v_mv), set("u_data", data_.u);
  if (design_.name == "curriculum") set("margin", {20});
}

double BaselineTraining::step(double lr) {
  Program& program = updates_[phase_];
  const auto scalar = [&](const char* name, std::initializer_list<double> values) {
    if (dtype_ == DType::f64) return program.set<double>(name, std::vector<double>(values));
    program.set<float>(name, std::vector<float>(values.begin(), values.end()));
  };
  scalar("lr", {lr});
  program.set<int64_t>("step", std::span(&done_, 1));
  const auto e = static_cast<double>(done_);
  if (design_.name == "pure" && phase_ == 0)
    scalar("share", {1e4 * (1 + e / 1000), 1, std::min(1e-4 * e, 1.0), std::min(1e-5 * e, 0.1)});
  if (design_.name == "pure" && phase_ > 0) scalar("share", {5000, 1, 1, 0.1});
  if (design_.name == "curriculum") scalar("margin", {20 - 15 * std::min(1.0, e / static_cast<double>(total_))});
  program.run();
  ++done_;
  return program.scalar(0);
}

void BaselineTraining::train(const std::function<bool(const BaselineProgress&)>& progress) {
  if (design_.lbfgs_steps > 0 && dtype_ != DType::f64)
    fail("the {} design ends in L-BFGS, which needs f64", design_.name);
  bool going = true;
  for (phase_ = 0; phase_ < design_.phases.size() && going; ++phase_) {
    const Phase& phase = design_.phases[phase_];
    double lr = phase.lr, best = std::numeric_limits<double>::infinity();
    int64_t waited = 0;
    for (int64_t k = 0; k < phase.steps && going; ++k) {
      const double loss = step(lr);
      history_.push_back(loss);
      if (loss < best * (1 - 1e-4)) {
        best = loss, waited = 0;
      } else if (phase.patience > 0 && ++waited > phase.patience) {
        lr *= phase.factor, waited = 0;
      }
      going = !progress || progress({done_, total_, loss, lr});
    }
  }
  phase_ = design_.phases.size() - 1;
  if (design_.lbfgs_steps > 0 && going) {
    Graph graph(*state_);
    const Tensor theta = read(graph, "parameters", "theta");
    const Tensor loss = loss_of(graph, theta);
    Program program = compile(graph, std::vector{loss, grad(loss, theta)});
    set_inputs(program);
    if (design_.name == "curriculum") program.set<double>("margin", std::vector<double>{5});
    optimize::Options options{.max_iterations = 20 * design_.lbfgs_steps};
    options.proceed = [&](int64_t, double loss) {
      history_.push_back(loss);
      return !progress || progress({done_, total_, loss, 0});
    };
    const auto result = optimize::lbfgs(optimize::objective(*state_, program, "parameters", "theta"),
                                        state_->get<double>("parameters", "theta"), options);
    state_->set<double>("parameters", "theta", result.x);
  }
  refresh();
}

void BaselineTraining::refresh() {
  state_->materialise();
  if (dtype_ == DType::f64) {
    theta_ = state_->get<double>("parameters", "theta");
  } else {
    const auto values = state_->get<float>("parameters", "theta");
    theta_.assign(values.begin(), values.end());
  }
}

Point BaselineTraining::at(double t) const {
  const bool from_zero = design_.name == "pure";
  const double x = from_zero ? t / duration_ms_ : 2 * t / duration_ms_ - 1, turn = 2 * std::acos(-1.0);
  std::vector<double> a = {x};
  for (int64_t k = 1; k <= design_.fourier; ++k) {
    a.push_back(std::sin(turn * static_cast<double>(k) * x));
    a.push_back(std::cos(turn * static_cast<double>(k) * x));
  }
  const double* w = theta_.data();
  for (size_t l = 1; l < shape_.widths.size(); ++l) {
    const auto in = static_cast<size_t>(shape_.widths[l - 1]), out = static_cast<size_t>(shape_.widths[l]);
    std::vector<double> z(w + in * out, w + in * out + out);
    for (size_t j = 0; j < out; ++j) {
      for (size_t k = 0; k < in; ++k) z[j] += w[j * in + k] * a[k];
      if (l + 1 < shape_.widths.size()) z[j] = std::tanh(z[j]);
    }
    a.swap(z);
    w += out * (in + 1);
  }
  const bool own = design_.name == "global" || design_.name == "causal";
  const double ramp = own ? 10 * t / duration_ms_ : 1;
  return {v_scale_ * ramp * a[0] + v_shift_, u_scale_ * ramp * a[1] + u_shift_};
}

void BaselineTraining::save(const std::string& path) const {
  const auto source = [](const char* name, const std::vector<double>& values) {
    return safetensors::Source{name, {DType::f64, {static_cast<int64_t>(values.size())}}, [&values](std::byte* to) {
                                 std::memcpy(to, values.data(), values.size() * sizeof(double));
                               }};
  };
  const std::vector<double> frame = {v_scale_, v_shift_, u_scale_, u_shift_, duration_ms_};
  const nlohmann::ordered_json architecture = {
      {"widths", shape_.widths}, {"activation", "tanh"}, {"fourier", design_.fourier}, {"design", design_.name}};
  safetensors::write(path,
                     {{"format", "ranvier.pinn.design"},
                      {"architecture", architecture.dump()},
                      {"neuron", neuron_.name},
                      {"frame_columns", "v_scale v_shift u_scale u_shift duration_ms"}},
                     std::vector{source("theta", theta_), source("frame", frame)});
}

std::vector<double> peaks(const std::function<Point(double)>& at, double duration) {
  std::vector<double> found;
  double before = at(0).v, here = at(0).v;
  for (double t = 0; t + 1 <= duration; t += 1) {
    const double next = at(t + 1).v;
    if (here > 0 && here >= before && here > next && (found.empty() || t - found.back() >= 10)) found.push_back(t);
    before = here, here = next;
  }
  return found;
}

Trace published_training_data(const Neuron& n, const Current& current, double duration) {
  Trace trace;
  double v = n.v0, u = n.u0;
  for (int64_t i = 0; static_cast<double>(i) <= duration; ++i) {
    const auto t = static_cast<double>(i);
    trace.t_ms.push_back(t), trace.v_mv.push_back(v), trace.u.push_back(u);
    const double v1 = v + n.dv(v, u, current.at(t)), u1 = u + n.du(v, u);
    v = v1, u = u1;
    if (v >= n.v_peak) trace.v_mv.back() = n.v_peak, v = n.c, u += n.d;
  }
  return trace;
}

}  // namespace ranvier::pinn
