// Pointwise programs prepared for a CUDA device: how inputs are read, and which values need a place to stay.
#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/common/divide.h"
#include "kernels/elementwise/elementwise.h"

namespace ranvier::kernels {

/// How a pack of neighbouring elements of the result reads an input.
enum class Reading : uint8_t {
  full,       ///< the pack at the same place
  row,        ///< a pack of a row that repeats: inner 1, the period whole packs
  run,        ///< one element for all of the pack
  scattered,  ///< every element by itself
};

struct MachineInput {
  const void* at;
  Reading reading;
  Divider<uint32_t> inner, period;   // element i of the result reads element (i / inner) % period
  uint64_t wide_inner, wide_period;  // the same, for results of too many elements for 32-bit indices
};

/// One step: result = fn(a, b, c). Codes below `first_constant` are places in the thread's column of shared memory.
struct alignas(8) MachineStep {
  static constexpr uint8_t first_constant = 128, previous = 255;  // previous: the result of the step before
  Fn fn;
  uint8_t a, b, c, to;  // to: place of the result, `previous` where only the next step reads it
};

/// A program with places given to its values. Inputs have the first places, `parts` each, since several packs of them
/// are read before the first is used; a result gets one only if a later step than the next needs it.
template <class C>
struct Machine {
  uint32_t n;       // elements of this launch
  uint64_t offset;  // elements before them, 0 unless there are several launches
  bool wide;        // there are several
  int inputs, steps, places;
  MachineInput input[PointwiseProgram::max_inputs];
  C constant[PointwiseProgram::max_constants];
  MachineStep step[PointwiseProgram::max_steps];
};

/// Gives results their places: each is kept from the step that makes it to the last that reads it.
class Places {
 public:
  Places(const PointwiseProgram& program, int first) : program_(program), places_(first) {
    using P = PointwiseProgram;
    for (int s = 0; s < P::max_steps; ++s) last_use_[s] = -1;
    for (int s = 0; s < program.steps; ++s)
      for (uint8_t operand : operands(s))
        if (operand >= P::first_step) last_use_[operand - P::first_step] = s;
  }
  /// Where step `s` finds operand number `k`.
  uint8_t operand(int s, int k, int parts) const {
    const uint8_t code = k < operands_of(program_.step[s].fn) ? operands(s)[k] : 0;
    if (k >= operands_of(program_.step[s].fn)) return MachineStep::previous;  // not read at all
    if (code < PointwiseProgram::first_constant) return static_cast<uint8_t>(code * parts);
    if (code < PointwiseProgram::first_step)
      return static_cast<uint8_t>(MachineStep::first_constant + code - PointwiseProgram::first_constant);
    const int made = code - PointwiseProgram::first_step;
    return made == s - 1 ? MachineStep::previous : place_[made];
  }
  /// Frees what step `s` read last and gives its result a place, if it needs one.
  uint8_t result(int s) {
    for (int made = 0; made < s; ++made)
      if (last_use_[made] == s && place_[made] != MachineStep::previous) free_[free_count_++] = place_[made];
    place_[s] = MachineStep::previous;
    if (last_use_[s] > s + 1) place_[s] = free_count_ > 0 ? free_[--free_count_] : static_cast<uint8_t>(places_++);
    return place_[s];
  }
  int count() const { return places_; }

 private:
  struct Three {
    uint8_t v[3];
    int count;
    const uint8_t* begin() const { return v; }
    const uint8_t* end() const { return v + count; }
    uint8_t operator[](int k) const { return v[k]; }
  };
  Three operands(int s) const {
    const PointwiseStep& step = program_.step[s];
    return {{step.a, step.b, step.c}, operands_of(step.fn)};
  }
  const PointwiseProgram& program_;
  int last_use_[PointwiseProgram::max_steps], places_, free_count_ = 0;
  uint8_t place_[PointwiseProgram::max_steps] = {}, free_[PointwiseProgram::max_steps] = {};
};

/// The reading of an input whose pattern is (period, inner), in packs of `size`.
inline Reading reading_of(const PointwiseProgram::Input& input, int64_t size) {
  if (input.period == 0) return Reading::full;
  if (input.period == 1 || input.inner % size == 0) return Reading::run;
  if (input.inner == 1 && input.period % size == 0) return Reading::row;
  return Reading::scattered;
}

}  // namespace ranvier::kernels
