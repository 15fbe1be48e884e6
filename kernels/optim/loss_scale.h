// Dynamic loss scaling and the count of updates, where they live so that a captured step needs no branch of the host.
#pragma once
#include <cstdint>

#include "kernels/common/hd.h"

namespace ranvier::kernels {

/// How the factor of the loss follows what its gradients do (Micikevicius et al., "Mixed precision training", ICLR
/// 2018, as torch.cuda.amp.GradScaler has it). Powers of two only move exponents.
struct LossScaleConfig {
  double growth = 2, backoff = 0.5;
  int64_t interval = 2000;  ///< updates without overflow before the scale grows; 0: it never does
  double least = 1, most = 16777216;
};

/// *counter_new = *counter + 1, or *counter where *skip (null: never) is not 0.
RANVIER_HD inline void count_update(const int64_t* counter, const int64_t* skip, int64_t* counter_new) {
  *counter_new = *counter + (skip && *skip != 0 ? 0 : 1);
}

/// The scale of the next step, the clean updates in a row since it last changed and the updates skipped so far, given
/// how many elements of this step's gradients were not finite. Outputs may be their inputs.
template <class T>
RANVIER_HD inline void update_loss_scale(const LossScaleConfig& config, const T* scale, const int64_t* clean,
                                         const int64_t* skipped, const int64_t* nonfinite, T* scale_new,
                                         int64_t* clean_new, int64_t* skipped_new) {
  const T before = *scale;
  const int64_t run = *nonfinite != 0 ? 0 : *clean + 1;
  T after = before;
  if (*nonfinite != 0) {
    after = product(before, static_cast<T>(config.backoff));
    if (after < static_cast<T>(config.least)) after = static_cast<T>(config.least);
  } else if (config.interval > 0 && run >= config.interval) {
    after = product(before, static_cast<T>(config.growth));
    if (after > static_cast<T>(config.most)) after = static_cast<T>(config.most);
  }
  *scale_new = after;
  *skipped_new = *skipped + (*nonfinite != 0 ? 1 : 0);
  *clean_new = config.interval > 0 && run >= config.interval ? 0 : run;
}

}  // namespace ranvier::kernels
