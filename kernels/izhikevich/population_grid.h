// Steps with the reset on the grid: a block of lanes through all steps of a call. Private to population_method.h.
#pragma once
#include "kernels/izhikevich/population_lanes.h"

// State, drive and counts of a block are in registers for all steps; shared coefficients are too, others come from the
// first-level cache.

namespace ranvier::kernels::izhikevich {

/// Lanes of a block that left the fast path, in memory.
template <class T>
struct Outliers {
  alignas(64) T v[block_width<T>], u[block_width<T>], v1[block_width<T>], u1[block_width<T>], slope_v[block_width<T>];
};

/// The lanes of a block whose bits are set: resets on the grid.
template <class Method, class T>
__attribute__((noinline)) void finish_lanes(const PopulationCall<T>& call, const Method& method, int64_t first,
                                            uint32_t step, uint64_t set, Outliers<T>& lanes, ShardResult& out) {
  for (; set; set &= set - 1) {
    const int lane = __builtin_ctzll(set);
    State<T> y{lanes.v[lane], lanes.u[lane]};
    bool jumped = false;
    if (first + lane < call.n)
      y = finish_neuron<Method, Held<T>, false>(call, method, first + lane, step, y, {lanes.v1[lane], lanes.u1[lane]},
                                                jumped, out);
    lanes.v1[lane] = y.v, lanes.u1[lane] = y.u;
    if (jumped && has_memory<Method>) lanes.slope_v[lane] = no_slope<T>();
  }
}

/// All steps of one block with the reset on the grid. Shared: all coefficients are. Lanewise: lanes at the peak leave
/// the block; else (nobody wants to know when) they are reset where they are and counted.
template <class Method, bool Shared, bool Lanewise, class T>
void run_block(const PopulationCall<T>& call, const Method& method, int64_t first, ShardResult& out) {
  using R = Pack<T>;
  constexpr int lanes = R::lanes;
  const Rates<R> common = rates_of<R>(call, first);
  const Reset<R> common_reset = reset_of<R>(call, first);
  const Length<R> length = Length<R>::whole(call.h);
  Field<R, Held<R>> f[packs];
  Reset<R> reset[packs];
  State<R> y[packs], before[packs] = {};
  typename PackMask<T>::Bits counted[packs] = {};
#pragma GCC unroll 4
  for (int p = 0; p < packs; ++p) {
    const int64_t at = first + p * lanes;
    f[p] = field_of<Held<R>>(call, Shared ? common : rates_of<R>(call, at), at);
    reset[p] = Shared ? common_reset : reset_of<R>(call, at);
    y[p] = {R::load(call.v + at), R::load(call.u + at)};
    if constexpr (has_memory<Method>) before[p] = {R::load(call.slope_v + at), R::load(call.slope_u + at)};
  }
  for (uint32_t step = 0; step < call.steps; ++step) {
    State<R> y1[packs];
#pragma GCC unroll 4
    for (int p = 0; p < packs; ++p) y1[p] = map_lanes(method, f[p], y[p], length, before[p]);
    if constexpr (Lanewise) {
      const R level = R(T(0));
      PackMask<T> hit[packs];
#pragma GCC unroll 4
      for (int p = 0; p < packs; ++p) hit[p] = !(y1[p].v < (call.zero ? level : reset[p].v_peak));
      if (bits((hit[0] | hit[1]) | (hit[2] | hit[3]))) {
        Outliers<T> outliers;
        uint64_t set = 0;
        for (int p = 0; p < packs; ++p) {
          set |= uint64_t{bits(hit[p])} << (p * lanes);
          y[p].v.store(outliers.v + p * lanes), y[p].u.store(outliers.u + p * lanes);
          y1[p].v.store(outliers.v1 + p * lanes), y1[p].u.store(outliers.u1 + p * lanes);
          if constexpr (has_memory<Method>) before[p].v.store(outliers.slope_v + p * lanes);
        }
        finish_lanes(call, method, first, step, set, outliers, out);
        for (int p = 0; p < packs; ++p) {
          y1[p] = {R::load(outliers.v1 + p * lanes), R::load(outliers.u1 + p * lanes)};
          if constexpr (has_memory<Method>) before[p].v = R::load(outliers.slope_v + p * lanes);
        }
        if (out.failure != Failure::none) return;
      }
#pragma GCC unroll 4
      for (int p = 0; p < packs; ++p) y[p] = y1[p];
    } else {
#pragma GCC unroll 4
      for (int p = 0; p < packs; ++p) {
        PackMask<T> fired;
        y[p] = grid_reset(reset[p], y1[p], fired);
        counted[p] -= fired.x;
        if constexpr (has_memory<Method>) before[p].v = select(fired, R(no_slope<T>()), before[p].v);
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < packs; ++p) {
    const int64_t at = first + p * lanes;
    y[p].v.store(call.v + at), y[p].u.store(call.u + at);
    if constexpr (has_memory<Method>) before[p].v.store(call.slope_v + at), before[p].u.store(call.slope_u + at);
    if constexpr (!Lanewise)
      if (call.counts)
        for (int i = 0; i < lanes; ++i) call.counts[at + i] += static_cast<uint32_t>(counted[p][i]);
    check_finite(call, at, y[p], out);
  }
}

}  // namespace ranvier::kernels::izhikevich
