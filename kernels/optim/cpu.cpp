// Fast f32 optimizers: one parallel loop over the elements of all tensors together, vectorised within each tensor.
#include <algorithm>
#include <cmath>

#include "kernels/common/hd.h"
#include "kernels/common/parallel.h"
#include "kernels/optim/optim.h"

namespace ranvier::kernels::cpu {
namespace {

using Slice = ParamSlice<float>;
constexpr int64_t kGrain = int64_t{1} << 15;  // elements of a shard
constexpr int kLanes = 16;                    // partial sums of a shard, in a fixed order whatever the vector width is

int64_t total_elements(const TensorList<float>& list) {
  int64_t total = 0;
  for (int64_t k = 0; k < list.count; ++k) total += list.items[k].n;
  return total;
}

int64_t list_shards(const TensorList<float>& list) {
  const int64_t total = total_elements(list);
  return total == 0 ? 0 : shard_count(total, kGrain, optim_workspace());
}

/// Calls body(shard, slice, begin, end) for the pieces of tensors in every shard of the concatenated list.
template <class Body>
void for_each_piece(const TensorList<float>& list, Body&& body) {
  const int64_t total = total_elements(list), shards = list_shards(list);
  parallel_for(shards, [&](int64_t shard) {
    const int64_t begin = shard_begin(total, shards, shard), end = shard_begin(total, shards, shard + 1);
    int64_t start = 0;  // of the tensor in the concatenation
    for (int64_t k = 0; k < list.count && start < end; ++k) {
      const Slice& slice = list.items[k];
      const int64_t from = std::max<int64_t>(begin - start, 0), to = std::min(end - start, slice.n);
      if (from < to) body(shard, slice, from, to);
      start += slice.n;
    }
  });
}

/// The update of one piece; constant flags so that each case is a straight vector loop.
template <bool has_momentum, bool nesterov>
void sgd_piece(const Slice& s, int64_t begin, int64_t end, float momentum, float rate, float scale) {
  const float *p_in = s.p, *g_in = s.g, *m_in = s.m, decay = s.weight_decay;
  float *p_out = s.p_new, *m_out = s.m_new;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const float p = p_in[i], g = scale * g_in[i] + decay * p;
    float direction = g;
    if constexpr (has_momentum) {
      const float m = momentum * m_in[i] + g;
      m_out[i] = m;
      direction = nesterov ? g + momentum * m : m;
    }
    p_out[i] = p - rate * direction;
  }
}

void adamw_piece(const Slice& s, int64_t begin, int64_t end, const AdamWConfig<float>& config, float rate, float scale,
                 float correction1, float correction2) {
  const float *p_in = s.p, *g_in = s.g, *m_in = s.m, *v_in = s.v;
  float *p_out = s.p_new, *m_out = s.m_new, *v_out = s.v_new;
  const float beta1 = config.beta1, beta2 = config.beta2, epsilon = config.epsilon;
  const float keep = 1.0f - rate * s.weight_decay, step_size = rate / correction1;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const float g = scale * g_in[i];
    const float m = beta1 * m_in[i] + (1.0f - beta1) * g;
    const float v = beta2 * v_in[i] + (1.0f - beta2) * (g * g);
    const float p = p_in[i] * keep;
    m_out[i] = m;
    v_out[i] = v;
    p_out[i] = p - step_size * (m / (root(v) / correction2 + epsilon));
  }
}

/// Sums of map(g) over each shard to workspace[shard], then over shards in order.
template <class Map>
double sum_gradients(const TensorList<float>& list, double* workspace, Map map) {
  const int64_t shards = list_shards(list);
  std::fill(workspace, workspace + shards, 0.0);
  for_each_piece(list, [&](int64_t shard, const Slice& s, int64_t begin, int64_t end) {
    double lanes[kLanes] = {};
    const float* g = s.g;
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
#pragma omp simd
      for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += map(g[i + lane]);
    }
    for (int lane = 0; i < end; ++i, ++lane) lanes[lane] += map(g[i]);
    double sum = 0;
    for (const double lane : lanes) sum += lane;
    workspace[shard] += sum;
  });
  double total = 0;
  for (int64_t shard = 0; shard < shards; ++shard) total += workspace[shard];
  return total;
}

/// True where the update is to be skipped; every result then is its predecessor.
bool skipped(const TensorList<float>& list, const int64_t* skip) {
  if (!skip || *skip == 0) return false;
  for_each_piece(list, [&](int64_t, const Slice& s, int64_t begin, int64_t end) {
    const auto keep = [&](const float* from, float* to) {
      if (to && to != from) std::copy(from + begin, from + end, to + begin);
    };
    keep(s.p, s.p_new), keep(s.m, s.m_new), keep(s.v, s.v_new);
  });
  return true;
}

}  // namespace

void sgd(const TensorList<float>& list, const SgdConfig<float>& config, const float* lr, const float* grad_scale,
         const int64_t* skip) {
  if (skipped(list, skip)) return;
  auto* piece = config.momentum == 0.0f ? sgd_piece<false, false>
                : config.nesterov       ? sgd_piece<true, true>
                                        : sgd_piece<true, false>;
  const float scale = grad_scale ? *grad_scale : 1.0f;
  for_each_piece(list, [&](int64_t, const Slice& s, int64_t begin, int64_t end) {
    piece(s, begin, end, config.momentum, *lr * s.lr_scale, scale);
  });
}

void adamw(const TensorList<float>& list, const AdamWConfig<float>& config, const float* lr, const int64_t* step,
           const float* grad_scale, const int64_t* skip) {
  if (skipped(list, skip)) return;
  const float correction1 = static_cast<float>(bias_correction(config.beta1, *step + 1));
  const float correction2 = static_cast<float>(std::sqrt(bias_correction(config.beta2, *step + 1)));
  const float scale = grad_scale ? *grad_scale : 1.0f;
  for_each_piece(list, [&](int64_t, const Slice& s, int64_t begin, int64_t end) {
    adamw_piece(s, begin, end, config, *lr * s.lr_scale, scale, correction1, correction2);
  });
}

void ema(const TensorList<float>& list, const float* decay, const int64_t* skip) {
  if (skipped(list, skip)) return;
  const float keep = *decay, take = 1.0f - *decay;
  for_each_piece(list, [=](int64_t, const Slice& s, int64_t begin, int64_t end) {
    const float *p = s.p, *m = s.m, a = keep, b = take;
    float* out = s.m_new;
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) out[i] = a * m[i] + b * p[i];
  });
}

void global_norm(const TensorList<float>& list, double* workspace, float* norm) {
  const double sum = sum_gradients(list, workspace, [](float g) { return double{g} * double{g}; });
  *norm = static_cast<float>(std::sqrt(sum));
}

void count_nonfinite(const TensorList<float>& list, double* workspace, int64_t* count) {
  constexpr uint32_t exponent = 0x7f800000u;
  const double sum =
      sum_gradients(list, workspace, [](float g) { return (to_bits(g) & exponent) == exponent ? 1.0 : 0.0; });
  *count = static_cast<int64_t>(sum);
}

}  // namespace ranvier::kernels::cpu
