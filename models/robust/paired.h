// Paired comparisons of two arms by seed: exact sign-flip test, paired t, BCa bootstrap interval, Holm's correction.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace ranvier::robust {

/// Two-sided sign-flip (permutation) p of the mean difference: the share of all 2^n choices of signs whose |mean| is no
/// less. Exact up to 20 differences; above, 2^20 random choices and the data themselves. Throws Error on fewer than
/// two differences or one that is not finite, like every function here.
double sign_flip_p(std::span<const double> differences, uint64_t seed = 0);
/// The least p that `pairs` differences can give: 2^(1 - pairs), or of the random choices above 20.
double least_sign_flip_p(int64_t pairs);

/// Two-sided p of the paired t-test.
double paired_t_p(std::span<const double> differences);
/// P(|T| > t) of Student's t with `degrees` of freedom, a finite sum (Abramowitz and Stegun 26.7.3, 26.7.4).
double student_two_sided(double t, int64_t degrees);

struct Interval {
  double low = 0, high = 0;
};
/// 95 % interval of the mean by Student's t.
Interval t_interval(std::span<const double> values);
/// 95 % bias-corrected and accelerated bootstrap interval of the mean (Efron 1987), 10,000 resamples.
Interval bca_interval(std::span<const double> values, uint64_t seed = 0);

/// Holm's adjusted p values, in the order given.
std::vector<double> holm(std::span<const double> p);

double mean_of(std::span<const double> values);
/// Sample standard deviation (n - 1).
double deviation_of(std::span<const double> values);

}  // namespace ranvier::robust
