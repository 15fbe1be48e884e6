// What the tests of one neuron share: exact values, comparisons of spike trains, and integrators independent of ours.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/izhikevich/izhikevich.h"
#include "kernels/izhikevich/pack.h"
#include "models/neurons/compare.h"
#include "models/neurons/presets.h"

namespace ranvier::test {

/// Resets of RS 2007 under 70 pA from 100 ms: RK4 in long double, h = 1e-3 and 2.5e-4, resets at the bisected crossing.
inline const std::vector<double> exact_rs_spikes = {200.022471, 347.809558, 495.664077,
                                                    643.518582, 791.373087, 939.227592};

/// Same number, each within the tolerance.
inline void expect_times(const std::vector<double>& got, const std::vector<double>& want, double tolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], tolerance) << "spike " << i;
}

/// A file of the folder RANVIER_VECTORS, where there is one.
inline std::optional<std::string> vector_file(const char* name) {
  const char* folder = std::getenv("RANVIER_VECTORS");
  if (!folder || !std::filesystem::exists(std::filesystem::path(folder) / name)) return std::nullopt;
  return (std::filesystem::path(folder) / name).string();
}

struct LaneRun {
  std::vector<double> v, u;
  std::vector<size_t> spikes;
};

/// As many neurons as a pack has lanes, RK4 with the reset on the grid and a constant current, one loop for all: what a
/// population kernel does.
template <class T>
LaneRun run_lanes(std::span<const neuron::Protocol> neurons) {
  namespace iz = kernels::izhikevich;
  using Lanes = iz::Pack<T>;
  const auto gather = [&](auto&& value) {
    T values[Lanes::lanes];
    for (size_t i = 0; i < Lanes::lanes; ++i) values[i] = value(neurons[i]);
    return Lanes::load(values);
  };
  const auto rate = [&](T iz::Rates<T>::*member) {
    return gather([&](const neuron::Protocol& n) { return iz::rates<T>(n.parameters).*member; });
  };
  using R = iz::Rates<T>;
  const iz::Field<Lanes> field{
      {rate(&R::p2), rate(&R::p1), rate(&R::w), rate(&R::ab), rate(&R::ae), rate(&R::abv)},
      {gather([](const auto& n) { return static_cast<T>(iz::drive(n.parameters, n.current.at(0))); })}};
  const iz::Reset<Lanes> reset{gather([](const auto& n) { return static_cast<T>(n.parameters.v_peak); }),
                               gather([](const auto& n) { return static_cast<T>(n.parameters.c); }),
                               gather([](const auto& n) { return static_cast<T>(n.parameters.d); })};
  iz::State<Lanes> y{gather([](const auto& n) { return static_cast<T>(n.v0); }),
                     gather([](const auto& n) { return static_cast<T>(n.u0); })};
  const auto length = iz::Length<Lanes>::whole(neurons[0].dt);
  LaneRun run{std::vector<double>(Lanes::lanes), std::vector<double>(Lanes::lanes), std::vector<size_t>(Lanes::lanes)};
  for (int64_t n = 0; n < std::llround(neurons[0].duration / neurons[0].dt); ++n) {
    iz::PackMask<T> fired;
    y = iz::grid_reset(reset, iz::Rk4{}(field, y, length), fired);
    for (uint32_t word = bits(fired), i = 0; word; word >>= 1, ++i) run.spikes[i] += word & 1;
  }
  for (size_t i = 0; i < Lanes::lanes; ++i)
    run.v[i] = static_cast<double>(y.v.x[i]), run.u[i] = static_cast<double>(y.u.x[i]);
  return run;
}

/// The equation in long double, written apart from the code under test.
struct Equation {
  neuron::Parameters p;
  long double current;
  void operator()(const long double (&y)[2], long double (&dy)[2]) const {
    dy[0] = (((long double)p.q2 * y[0] + p.q1) * y[0] + p.q0 - y[1] + current) / p.C;
    dy[1] = p.a * (p.b * (y[0] - p.v_b) - p.e * y[1]);
  }
};

/// One Runge-Kutta-Fehlberg 4(5) step (NASA TR R-315, 1969): the fifth-order result, and the error of v.
inline long double fehlberg_step(const Equation& f, const long double (&y)[2], long double h, long double (&out)[2]) {
  static const long double a[6][5] = {{},
                                      {1.0L / 4},
                                      {3.0L / 32, 9.0L / 32},
                                      {1932.0L / 2197, -7200.0L / 2197, 7296.0L / 2197},
                                      {439.0L / 216, -8, 3680.0L / 513, -845.0L / 4104},
                                      {-8.0L / 27, 2, -3544.0L / 2565, 1859.0L / 4104, -11.0L / 40}};
  static const long double fifth[6] = {16.0L / 135, 0, 6656.0L / 12825, 28561.0L / 56430, -9.0L / 50, 2.0L / 55};
  static const long double fourth[6] = {25.0L / 216, 0, 1408.0L / 2565, 2197.0L / 4104, -1.0L / 5, 0};
  long double k[6][2];
  for (int s = 0; s < 6; ++s) {
    long double at[2] = {y[0], y[1]};
    for (int j = 0; j < s; ++j)
      for (int i = 0; i < 2; ++i) at[i] += h * a[s][j] * k[j][i];
    f(at, k[s]);
  }
  long double error = 0;
  for (int i = 0; i < 2; ++i) {
    out[i] = y[i];
    for (int s = 0; s < 6; ++s) out[i] += h * fifth[s] * k[s][i];
  }
  for (int s = 0; s < 6; ++s) error += h * (fifth[s] - fourth[s]) * k[s][0];
  return std::abs(error);
}

/// Spike times by adaptive RKF45 in long double with bisected resets, the current being constant between edges.
inline std::vector<double> fehlberg_spikes(const neuron::Protocol& protocol, long double tolerance) {
  std::vector<double> spikes;
  long double y[2] = {protocol.v0, protocol.u0}, t = 0, h = 0.01L;
  while (t < protocol.duration) {
    long double edge = protocol.duration;
    for (const auto& piece : protocol.current.pieces())
      if (piece.begin > t) edge = std::min<long double>(edge, piece.begin);
    const Equation f{protocol.parameters, protocol.current.at(static_cast<double>(t))};
    long double next[2];
    h = std::min(h, edge - t);
    const long double error = fehlberg_step(f, y, h, next);
    const long double factor = std::min(4.0L, 0.8L * std::pow(tolerance / (error + 1e-30L), 0.2L));
    if (!(error <= tolerance)) {
      h *= std::max(0.1L, factor);
      continue;
    }
    if (next[0] >= protocol.parameters.v_peak) {
      long double low = 0, high = h;
      for (int i = 0; i < 80; ++i) {
        const long double middle = (low + high) / 2;
        fehlberg_step(f, y, middle, next);
        (next[0] < protocol.parameters.v_peak ? low : high) = middle;
      }
      t += high;
      spikes.push_back(static_cast<double>(t));
      next[0] = protocol.parameters.c, next[1] += protocol.parameters.d;
    } else {
      t = h == edge - t ? edge : t + h;
    }
    y[0] = next[0], y[1] = next[1];
    h *= factor;
  }
  return spikes;
}

/// |v error| of Heun's method 60 ms after rest, RS 2007 at 70 pA.
inline double heun_error(long double h) {
  const Equation f{neuron::preset("rs2007").parameters, 70};
  long double y[2] = {-60, 0};
  for (int n = 0; n < std::lround(60 / h); ++n) {
    long double k1[2], k2[2];
    f(y, k1);
    const long double there[2] = {y[0] + h * k1[0], y[1] + h * k1[1]};
    f(there, k2);
    for (int i = 0; i < 2; ++i) y[i] += h / 2 * (k1[i] + k2[i]);
  }
  return static_cast<double>(std::abs(y[0] + 49.30203215923517L));
}

}  // namespace ranvier::test
