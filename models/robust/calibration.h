// How far predicted probabilities can be trusted: NLL, Brier score, expected calibration error, temperature scaling.
#pragma once
#include <cstdint>
#include <span>

namespace ranvier::robust {

struct Calibration {
  double nll = 0;    ///< mean negative log-likelihood, nats
  double brier = 0;  ///< mean over images of sum_c (p_c - y_c)^2, from 0 to 2
  double ece = 0;    ///< mean |accuracy - confidence| over bins of equal width, by their share of images
};

/// Of logits (n, classes) divided by `temperature`. ECE puts an image into bin k of `bins` where its top probability is
/// in (k / bins, (k + 1) / bins] (Guo et al. 2017). Throws Error on no image, a label outside the classes, or a
/// temperature that is not above 0.
Calibration calibration(std::span<const float> logits, std::span<const int32_t> labels, int64_t classes,
                        double temperature = 1, int bins = 15);

/// The temperature from 1/20 to 20 of least NLL (Guo et al. 2017), which is unimodal in its logarithm.
double fit_temperature(std::span<const float> logits, std::span<const int32_t> labels, int64_t classes);

}  // namespace ranvier::robust
