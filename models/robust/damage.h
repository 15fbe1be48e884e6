// Damaged networks: noise on the weights, units taken out.
#pragma once
#include <cstdint>
#include <string_view>

#include "engine/state.h"

namespace ranvier::robust {

/// Adds N(0, (level * rms)^2) to every weight of two axes or more in `slab`, rms being that of its own tensor. Draw
/// `draw` of `seed`. Throws Error on a level that is negative or not finite.
void add_weight_noise(State& state, std::string_view slab, double level, uint64_t seed, uint64_t draw);

/// Takes out this share of the units that each layer reads, by zeroing the weights that read them: input channels of a
/// convolution, input features of a linear layer, rounded to whole units. What reads the image (three channels) is left
/// alone. Returns how many units are gone. Throws Error on a share outside [0, 1].
int64_t ablate_units(State& state, std::string_view slab, double share, uint64_t seed, uint64_t draw);

/// Puts a state back as it was when this object dies, whatever was done to it.
class Undo {
 public:
  explicit Undo(State& state) : state_(state) { state.snapshot(before_); }
  ~Undo() { state_.restore(before_); }
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;

 private:
  State& state_;
  State::Snapshot before_;
};

}  // namespace ranvier::robust
