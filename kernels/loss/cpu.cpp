// Fast f32 softmax cross-entropy: class vectors inside rows, shards of rows.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/common/parallel.h"
#include "kernels/common/simd_math.h"
#include "kernels/loss/loss.h"

namespace ranvier::kernels::cpu {
namespace {
using simd::Floats;

constexpr float nan = std::numeric_limits<float>::quiet_NaN();

bool in_range(const LossDims& d, int32_t label) { return label >= 0 && label < d.classes; }

/// Calls `body(row)` for the valid rows and fills the rest of the outputs with zeros.
template <class Body>
void for_rows(const LossDims& d, const int32_t* valid, float* per_row, float* per_logit, Body&& body) {
  const int64_t rows = valid ? std::clamp<int64_t>(*valid, 0, d.n) : d.n;
  const int64_t shards = shard_count(d.n, std::max<int64_t>(8192 / std::max<int64_t>(d.classes, 1), 1));
  parallel_for(shards, [&](int64_t shard) {
    for (int64_t i = shard_begin(d.n, shards, shard); i < shard_begin(d.n, shards, shard + 1); ++i) {
      if (i < rows) {
        body(i);
        continue;
      }
      if (per_row) per_row[i] = 0;
      if (per_logit) std::fill_n(per_logit + i * d.classes, d.classes, 0.0f);
    }
  });
}

RANVIER_INLINE Floats only(Floats v, simd::Whole, float) { return v; }
/// Lanes beyond the part become `rest`.
RANVIER_INLINE Floats only(Floats v, simd::Part part, float rest) {
  const simd::Ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return lane < static_cast<int32_t>(part.count) ? v : simd::splat(rest);
}

/// Lanes added pairwise, in an order that every machine shares.
float add_lanes(Floats v) {
  for (int width = simd::lanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) v[i] += v[i + width];
  return v[0];
}

/// Greatest of a row; a NaN may hide, but exp spreads it over the row's sum all the same.
float greatest(const float* z, int64_t classes) {
  Floats most = simd::splat(-std::numeric_limits<float>::infinity());
  simd::for_channels(classes, [&](int64_t k, auto span) {
    const Floats v = only(load(z + k, span), span, -std::numeric_limits<float>::infinity());
    most = v > most ? v : most;
  });
  float best = most[0];
  for (int i = 1; i < simd::lanes; ++i) best = std::max(best, most[i]);
  return best;
}

}  // namespace

void softmax_cross_entropy(const LossDims& d, const float* logits, const int32_t* labels, const int32_t* valid,
                           float* loss, float* probabilities) {
  const float smoothing = static_cast<float>(d.smoothing);
  for_rows(d, valid, loss, probabilities, [&](int64_t i) {
    const float* z = logits + i * d.classes;
    float* p = probabilities + i * d.classes;
    const float most = greatest(z, d.classes);
    Floats exps{}, shifted{};
    simd::for_channels(d.classes, [&](int64_t k, auto span) {
      const Floats below = load(z + k, span) - most, e = simd::exp_of_negative(below);
      store(p + k, e, span);
      exps += only(e, span, 0);
      shifted += only(below, span, 0);
    });
    const float sum = add_lanes(exps), mean = add_lanes(shifted) / static_cast<float>(d.classes);
    simd::for_channels(d.classes, [&](int64_t k, auto span) { store(p + k, load(p + k, span) / sum, span); });
    const float at_label = in_range(d, labels[i]) ? z[labels[i]] - most : nan;
    loss[i] = std::log(sum) - (1 - smoothing) * at_label - (smoothing != 0 ? smoothing * mean : 0.0f);
  });
}

void softmax_cross_entropy_gradient(const LossDims& d, const float* probabilities, const int32_t* labels,
                                    const int32_t* valid, const float* dloss, float* dlogits) {
  const float smoothing = static_cast<float>(d.smoothing), share = smoothing / static_cast<float>(d.classes);
  for_rows(d, valid, nullptr, dlogits, [&](int64_t i) {
    const float* p = probabilities + i * d.classes;
    float* g = dlogits + i * d.classes;
    const bool known = in_range(d, labels[i]);
    const Floats target = simd::splat(known ? share : nan);
    simd::for_channels(d.classes,
                       [&](int64_t k, auto span) { store(g + k, (load(p + k, span) - target) * dloss[i], span); });
    if (known) g[labels[i]] = (p[labels[i]] - (share + (1 - smoothing))) * dloss[i];
  });
}

void correct(const LossDims& d, const float* logits, const int32_t* labels, const int32_t* valid, float* hit) {
  for_rows(d, valid, hit, nullptr, [&](int64_t i) {
    hit[i] = 0;
    if (!in_range(d, labels[i])) return;
    const float *z = logits + i * d.classes, at = z[labels[i]];
    int beaten = 0;
#pragma omp simd reduction(+ : beaten)
    for (int64_t k = 0; k < d.classes; ++k) beaten += !(z[k] <= at);  // a NaN on either side counts
    for (int64_t k = 0; k < labels[i] && !beaten; ++k) beaten += z[k] == at;
    hit[i] = beaten ? 0.0f : 1.0f;
  });
}

}  // namespace ranvier::kernels::cpu
