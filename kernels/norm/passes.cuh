// What the CUDA passes of the fused batch norm share: how a pass is cut among threads, constants per channel, windows,
// and sums over the threads of a block.
#pragma once
#include <algorithm>

#include "kernels/common/divide.h"
#include "kernels/common/launch.h"
#include "kernels/common/pack_convert.h"
#include "kernels/norm/activation.cuh"
#include "kernels/norm/norm.h"

namespace ranvier::kernels::norm_cuda {

constexpr int threads = 256;
constexpr int most_columns = 64;

/// Blocks of a pass that run at once: two on each multiprocessor of an H100, which is what the registers of the passes
/// allow. A constant: sums must not depend on the device.
constexpr int64_t resident_blocks = 264;

/// How a pass over `units` (positions or windows) of `packs` packs of channels each is cut: a block is `columns` packs
/// wide and `rows` units deep and walks down its own range of units, so that a thread keeps its channels, and their
/// constants stay in registers. Neighbouring threads read neighbouring packs, then neighbouring units. Where there are
/// more blocks than run at once, they come in whole rounds: a last round of a few would cost as much as a full one. A
/// function of the shape only.
struct Cut {
  int64_t units = 0, per_block = 0, rest = 0;  // the first `rest` ranges have one unit more
  int packs = 0, columns = 0, rows = 0, blocks = 0, tiles = 0, rounds = 1;

  /// About `depth` units a thread, in at most `most` rounds of blocks.
  Cut(int64_t units_, int64_t channels, int size, int64_t depth, int64_t most) : units(units_) {
    packs = static_cast<int>(channels / size);
    tiles = (packs + most_columns - 1) / most_columns;
    columns = (packs + tiles - 1) / tiles;
    rows = threads / columns;
    const int64_t wanted = units / (rows * depth), round = std::max<int64_t>(resident_blocks / tiles, 1);
    rounds = static_cast<int>(std::clamp<int64_t>(wanted / round, 1, most));
    blocks = static_cast<int>(std::clamp<int64_t>(wanted, 1, round)) * rounds;
    per_block = units / blocks, rest = units % blocks;
  }
  LaunchConfig config(CudaStream stream) const {
    return {dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(tiles)),
            dim3(static_cast<unsigned>(columns * rows)), 0, stream};
  }
};

/// The running thread's part of a Cut: its first channel, and units first, first + rows, ... below end. Threads of the
/// last tile may have no channels: they take no unit. Blocks of the first round take the last of every `rounds`
/// neighbouring ranges: a pass of one round that came before has just left them in the second-level cache.
struct Part {
  int64_t channel, first, end;
  int column, row;
  bool active;

  __device__ Part(const Cut& cut, int size) {
    row = static_cast<int>(threadIdx.x) / cut.columns;
    column = static_cast<int>(threadIdx.x) - row * cut.columns;
    const int pack = static_cast<int>(blockIdx.y) * cut.columns + column;
    active = pack < cut.packs;
    channel = int64_t{pack} * size;
    const auto flat = static_cast<int>(blockIdx.x), round = cut.blocks / cut.rounds;
    const int64_t block = int64_t{flat % round} * cut.rounds + (cut.rounds - 1 - flat / round);
    const int64_t extra = block < cut.rest ? block : cut.rest;
    first = block * cut.per_block + extra + row;
    end = (block + 1) * cut.per_block + (block + 1 < cut.rest ? block + 1 : cut.rest);
    if (!active) end = 0;
  }
};

/// Constants of a channel's affine map (x - mean) scale + beta.
template <int size>
struct Channels {
  float mean[size], scale[size], beta[size];

  __device__ __forceinline__ float affine(float x, int k) const { return fused(x - mean[k], scale[k], beta[k]); }
};

/// Where they come from; gamma and beta may be null.
struct Affine {
  const float *mean, *rstd, *gamma, *beta;

  template <int size>
  __device__ __forceinline__ Channels<size> load(const Part& part) const {
    Channels<size> channels{};
    if (!part.active) return channels;
#pragma unroll
    for (int k = 0; k < size; ++k) {
      const int64_t c = part.channel + k;
      channels.mean[k] = mean[c];
      channels.scale[k] = gamma ? product(rstd[c], gamma[c]) : rstd[c];
      channels.beta[k] = beta ? beta[c] : 0.0f;
    }
    return channels;
  }
};

/// 1, -1 or 0 by the sign of gamma, for the order of x under a map that rises or falls with it; 1 where gamma is null.
template <int size>
__device__ __forceinline__ void load_signs(const float* gamma, const Part& part, float (&sign)[size]) {
#pragma unroll
  for (int k = 0; k < size; ++k) {
    const float g = gamma && part.active ? gamma[part.channel + k] : 1.0f;
    sign[k] = static_cast<float>(g > 0) - static_cast<float>(g < 0);
  }
}

/// The 2x2 windows of maps (n, h, w, c), numbered row-major over images, window rows and window columns; with `cut_off`
/// also those that hang over an odd edge, whose members are the one or two positions inside.
struct Windows {
  int64_t h, w, c, rows, columns, count;
  bool narrow;
  Divider<uint32_t> by_columns, by_rows;

  Windows(const NormDims& d, bool cut_off)
      : h(d.h),
        w(d.w),
        c(d.c),
        rows(cut_off ? (d.h + 1) / 2 : d.h / 2),
        columns(cut_off ? (d.w + 1) / 2 : d.w / 2),
        count(d.n * rows * columns),
        narrow(count <= most_narrow),
        by_columns(narrow ? static_cast<uint64_t>(columns) : 1),
        by_rows(narrow ? static_cast<uint64_t>(rows) : 1) {}
};

/// Where a window's members and its output lie, in elements from the first channel of the maps.
struct Window {
  int64_t members[4];
  int64_t out;
  int count;  // members inside the map; below 4 there is no output

  __device__ __forceinline__ Window(const Windows& m, int64_t unit) {
    int64_t n, i, j;
    if (m.narrow) {
      const auto u = static_cast<uint32_t>(unit);
      const uint32_t row = m.by_columns.quotient(u), image = m.by_rows.quotient(row);
      n = image, i = m.by_rows.remainder(row, image), j = m.by_columns.remainder(u, row);
    } else {
      const int64_t row = unit / m.columns;
      n = row / m.rows, i = row % m.rows, j = unit % m.columns;
    }
    const int64_t at = ((n * m.h + 2 * i) * m.w + 2 * j) * m.c, below = m.w * m.c;
    const bool right = 2 * j + 1 < m.w, down = 2 * i + 1 < m.h;
    members[0] = at;
    members[1] = right ? at + m.c : at + below;
    members[2] = at + below;
    members[3] = at + below + m.c;
    count = right && down ? 4 : right || down ? 2 : 1;
    out = ((n * (m.h / 2) + i) * (m.w / 2) + j) * m.c;
  }
};

/// The member of each channel's window that wins under `key(value, k)`: the greatest, the first among equals, the last
/// NaN.
template <class T, int size>
struct Winners {
  Pack<T, size> value;
  Pack<uint8_t, size> index;
  float key[size];

  template <class Key>
  __device__ __forceinline__ Winners(const Pack<T, size> (&x)[4], Key of) {
#pragma unroll
    for (int k = 0; k < size; ++k) {
      T best = x[0].v[k];
      float best_key = of(to_float(best), k);
      uint32_t at = 0;
#pragma unroll
      for (uint32_t i = 1; i < 4; ++i) {
        const float other = of(to_float(x[i].v[k]), k);
        const bool take = other > best_key || other != other;
        best = take ? x[i].v[k] : best;
        best_key = take ? other : best_key;
        at = take ? i : at;
      }
      value.v[k] = best, index.v[k] = static_cast<uint8_t>(at), key[k] = best_key;
    }
  }
};

/// The members that lie inside the map.
template <class T, int size>
__device__ __forceinline__ void load_members(const T* x, const Part& part, const Window& window,
                                             Pack<T, size> (&members)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (i < window.count) members[i] = load_pack<size>(x + window.members[i] + part.channel);
}

/// Adds `n` numbers of every thread over the rows of its block, in an order that the shape fixes; the sums are then in
/// the values of the threads of row 0. `shared` is n times the threads; every thread of the block calls this.
template <int n>
__device__ __forceinline__ void sum_rows(const Cut& cut, const Part& part, double (&values)[n],
                                         double (&shared)[n][threads]) {
  const int tid = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int k = 0; k < n; ++k) shared[k][tid] = values[k];
  int step = 1;
  while (2 * step < cut.rows) step *= 2;
  for (; step > 0; step /= 2) {
    __syncthreads();
    if (part.row < step && part.row + step < cut.rows) {
#pragma unroll
      for (int k = 0; k < n; ++k) {
        values[k] += shared[k][tid + step * cut.columns];
        shared[k][tid] = values[k];
      }
    }
  }
}

/// Calls `body(size)` with the channels of a pack: 16 bytes of T, or one where they do not divide.
template <class T, class Body>
void with_packs(const NormDims& d, Body body) {
  if (d.c % pack_size<T> == 0) return body(std::integral_constant<int, pack_size<T>>{});
  body(std::integral_constant<int, 1>{});
}

/// act(norm(x)) rises or falls with x throughout.
constexpr bool monotone(Activation act) { return act == Activation::none || act == Activation::relu; }

/// Units a thread of a reducing pass takes at least, and the most rounds of blocks of one: a block's sums cost a
/// microsecond, and the partial ones must stay small beside the maps.
constexpr int64_t sum_depth = 8, sum_rounds = 1;
/// The same for passes that only write.
constexpr int64_t write_depth = 8, write_rounds = 3;

/// Sums of the blocks of a reducing pass, in the workspace, and the constants of the writing passes that follow.
struct Scratch {
  double *first, *second;  // (blocks, c): mean and squares about it, or sums of g and g (x - mean)
  double* rows;            // (blocks): values a channel
  float *shift, *tilt;     // (c): dx = scale g - shift - (x - mean) tilt; `shift` is rstd in evaluation

  Scratch(const NormDims& d, int64_t blocks, void* workspace) {
    first = static_cast<double*>(workspace);
    second = first + blocks * d.c;
    rows = second + blocks * d.c;
    shift = reinterpret_cast<float*>(rows + blocks);
    tilt = shift + d.c;
  }
  static size_t bytes(const NormDims& d, int64_t blocks) {
    return static_cast<size_t>(blocks * d.c * 2 + blocks) * sizeof(double) +
           static_cast<size_t>(d.c) * 2 * sizeof(float);
  }
};

/// The pass that takes the statistics: over positions, pooled positions (pool `before`), or windows with those that
/// hang over the edge, where winners are told by the sign of gamma.
inline Cut statistics_cut(const NormDims& d, int size) {
  const bool windows = d.pool == PoolPlace::after && monotone(d.act);
  const int64_t units = windows ? Windows(d, true).count : d.stat_rows();
  return {units, d.c, size, windows ? 2 : sum_depth, sum_rounds};
}
/// The pass that sums the gradient, over outputs.
inline Cut gradient_cut(const NormDims& d, int size) { return {d.out_rows(), d.c, size, sum_depth, sum_rounds}; }

/// The forward's statistics, and for pooled forms the winners where those can be told before the statistics are known.
template <class T>
void statistics(const NormDims& d, const NormForward<T, float>& args, CudaStream stream);

/// Joins the blocks' sums of g and g (x - mean), writes dgamma and dbeta, and leaves shift and tilt in the scratch.
void finish_sums(const NormDims& d, int blocks, const Affine& affine, const Scratch& scratch, float* dgamma,
                 float* dbeta, CudaStream stream);

}  // namespace ranvier::kernels::norm_cuda
