// Signs that a network hides its gradients instead of being robust (Athalye et al. 2018; Carlini et al. 2019).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ranvier::robust {

/// What the attacks found, as shares in [0, 1]; empty where an attack was not run. Accuracies are of the same images.
struct Evidence {
  double epsilon = 8.0 / 255;
  std::optional<double> fgsm, pgd, pgd_restarts, apgd_ce, apgd_t, square;  ///< robust accuracies at epsilon
  std::optional<double> large_epsilon;                                     ///< PGD's at 128/255
  std::optional<double> zero_gradients;                                    ///< images whose input gradient is zero
  std::optional<double> square_alone;  ///< images that Square broke and no gradient attack on cross-entropy did
};

struct RedFlag {
  enum class State { clear, raised, unchecked };
  std::string name, detail;
  State state = State::unchecked;
};

/// Always the same list. Differences up to `tolerance` raise nothing; a robust accuracy above 2 % at 8/255 does, which
/// a network trained without attacks does not reach.
std::vector<RedFlag> red_flags(const Evidence& evidence, double tolerance = 0.01);

}  // namespace ranvier::robust
