// The checks for gradient masking.
#include "models/robust/red_flags.h"

#include <fmt/format.h>

#include <algorithm>

namespace ranvier::robust {
namespace {

RedFlag flag(std::string name, bool raised, std::string detail) {
  return {std::move(name), std::move(detail), raised ? RedFlag::State::raised : RedFlag::State::clear};
}

RedFlag unchecked(std::string name, std::string needs) { return {std::move(name), "needs " + needs}; }

std::string percent(double share) { return fmt::format("{:.2f} %", 100 * share); }

RedFlag pgd_against_fgsm(const Evidence& e, double tolerance) {
  const char* name = "PGD breaks fewer images than FGSM";
  if (!e.fgsm || !e.pgd) return unchecked(name, "fgsm and pgd20");
  return flag(name, !(*e.pgd <= *e.fgsm + tolerance),
              fmt::format("robust accuracy {} under PGD-20, {} under FGSM", percent(*e.pgd), percent(*e.fgsm)));
}

RedFlag too_robust(const Evidence& e) {
  const char* name = "robust accuracy above 2 % at 8/255";
  if (e.epsilon < 7.99 / 255) return unchecked(name, "epsilon 8/255 or more");
  std::optional<double> least;
  for (const auto& accuracy : {e.pgd, e.pgd_restarts, e.apgd_ce, e.apgd_t, e.square})
    if (accuracy) least = std::min(least.value_or(1), *accuracy);
  if (!least) return unchecked(name, "an iterated attack");
  return flag(name, !(*least <= 0.02), fmt::format("{} under the strongest attack that was run", percent(*least)));
}

RedFlag square_against_gradients(const Evidence& e, double tolerance) {
  const char* name = "Square beats gradient attacks";
  if (!e.square || !e.square_alone) return unchecked(name, "square and a gradient attack");
  return flag(name, !(*e.square_alone <= tolerance),
              fmt::format("{} of the images fall to Square and to no gradient attack on cross-entropy",
                          percent(*e.square_alone)));
}

RedFlag survives(const Evidence& e) {
  const char* name = "accuracy does not fall to 0 at a large epsilon";
  if (!e.large_epsilon) return unchecked(name, "pgd20");
  return flag(name, !(*e.large_epsilon <= 0), fmt::format("{} under PGD-20 at 128/255", percent(*e.large_epsilon)));
}

RedFlag vanishing(const Evidence& e, double tolerance) {
  const char* name = "input gradients are zero";
  if (!e.zero_gradients) return unchecked(name, "fgsm");
  return flag(name, !(*e.zero_gradients <= tolerance),
              fmt::format("in every pixel of {} of the images", percent(*e.zero_gradients)));
}

}  // namespace

std::vector<RedFlag> red_flags(const Evidence& e, double tolerance) {
  return {pgd_against_fgsm(e, tolerance), too_robust(e), square_against_gradients(e, tolerance), survives(e),
          vanishing(e, tolerance)};
}

}  // namespace ranvier::robust
