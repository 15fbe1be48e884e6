// The planner pass that merges single-use pointwise chains into one program, with constants and broadcasts folded in.
#include <algorithm>
#include <bit>
#include <optional>

#include "engine/ops/core.h"
#include "engine/plan.h"
#include "kernels/elementwise/elementwise.h"

namespace ranvier {

extern const OpDef fused_pointwise_op, broadcast_op;

namespace {

using kernels::PointwiseProgram;
using kernels::PointwiseStep;
using Program = PointwiseProgram;

/// How a broadcast is read inside a program: (period, inner), where one pair can say it.
std::optional<Program::Input> pattern_of(const Shape& from, const Shape& to) {
  int first = to.rank(), last = -1;  // target axes that the source really has
  for (int axis = 0; axis < to.rank(); ++axis) {
    const int source = axis - (to.rank() - from.rank());
    if (source >= 0 && from[source] != 1) first = std::min(first, axis), last = std::max(last, axis);
  }
  Program::Input input{1, 1};
  for (int axis = first; axis <= last; ++axis) {
    const int source = axis - (to.rank() - from.rank());
    if (source < 0 || from[source] != to[axis]) return std::nullopt;  // a gap between real axes
    input.period *= to[axis];
  }
  for (int axis = std::max(last, 0) + (last >= 0 ? 1 : 0); axis < to.rank(); ++axis) input.inner *= to[axis];
  if (last < 0) input.inner = 1;
  return input.period > 0 && input.inner > 0 ? std::optional(input) : std::nullopt;
}

/// A program under construction with the values its inputs stand for.
struct Builder {
  Program program{};
  std::vector<uint32_t> values;
  bool full = false;  // some limit was hit: the merge must not happen

  uint8_t add_input(uint32_t value, Program::Input input) {
    for (size_t i = 0; i < values.size(); ++i)
      if (values[i] == value && program.input[i].period == input.period && program.input[i].inner == input.inner)
        return static_cast<uint8_t>(i);
    if (values.size() == Program::max_inputs) return full = true, 0;
    program.input[values.size()] = input;
    values.push_back(value);
    program.inputs = static_cast<int64_t>(values.size());
    return static_cast<uint8_t>(values.size() - 1);
  }
  uint8_t add_constant(double constant) {
    for (int64_t c = 0; c < program.constants; ++c)
      if (std::bit_cast<uint64_t>(program.constant[c]) == std::bit_cast<uint64_t>(constant))
        return static_cast<uint8_t>(Program::first_constant + c);
    if (program.constants == Program::max_constants) return full = true, 0;
    program.constant[program.constants] = constant;
    return static_cast<uint8_t>(Program::first_constant + program.constants++);
  }
  /// Appends a step, or finds an equal one; the last step of the whole must be appended, since it is the output.
  uint8_t add_step(PointwiseStep step, bool is_output) {
    for (int64_t s = 0; s < program.steps && !is_output; ++s) {
      const PointwiseStep& known = program.step[s];
      if (known.fn == step.fn && known.a == step.a && known.b == step.b && known.c == step.c)
        return static_cast<uint8_t>(Program::first_step + s);
    }
    if (program.steps == Program::max_steps) return full = true, 0;
    program.step[program.steps] = step;
    return static_cast<uint8_t>(Program::first_step + program.steps++);
  }
};

class Fuser {
 public:
  Fuser(std::vector<PlanStep>& steps, const std::vector<PlanValue>& values, const std::vector<bool>& keep,
        const std::function<bool(const OpDef&)>& alone)
      : steps_(steps), values_(values), keep_(keep), alone_(alone) {}

  void run() {
    index_uses();
    for (size_t s = 0; s < steps_.size(); ++s)
      if (steps_[s].op->pointwise) absorb(s);
    drop_unused();
  }

 private:
  void index_uses() {
    maker_.assign(values_.size(), -1);
    uses_.assign(values_.size(), 0);
    for (size_t s = 0; s < steps_.size(); ++s)
      for (uint32_t out : steps_[s].out) maker_of_storage(values_[out].storage) = static_cast<int64_t>(s);
    for (size_t v = 0; v < values_.size(); ++v) maker_[v] = maker_of_storage(values_[v].storage);
    for (const PlanStep& step : steps_) {
      std::vector<uint32_t> seen;
      for (uint32_t in : step.in) {
        const uint32_t storage = values_[in].storage;
        if (std::find(seen.begin(), seen.end(), storage) == seen.end())
          seen.push_back(storage), ++uses_of_storage(storage);
      }
    }
  }
  int64_t& maker_of_storage(uint32_t s) {
    if (maker_by_storage_.size() <= s) maker_by_storage_.resize(s + 1, -1);
    return maker_by_storage_[s];
  }
  int& uses_of_storage(uint32_t s) {
    if (uses_by_storage_.size() <= s) uses_by_storage_.resize(s + 1, 0);
    return uses_by_storage_[s];
  }

  /// The program of step `s` with every operand folded that can be.
  void absorb(size_t s) {
    const auto fold_all = [&](bool merge) {
      Builder builder;
      const Program& own = steps_[s].attrs.as<Program>();
      std::vector<uint8_t> registers(Program::first_step + Program::max_steps, 0);
      for (int64_t c = 0; c < own.constants; ++c)
        registers[Program::first_constant + c] = builder.add_constant(own.constant[c]);
      for (size_t i = 0; i < steps_[s].in.size(); ++i) registers[i] = operand(builder, s, i, own.input[i], merge);
      emit(builder, own, registers, true);
      return builder;
    };
    Builder builder = fold_all(!alone_(*steps_[s].op));
    if (builder.full) builder = fold_all(false);
    if (builder.full || builder.program.inputs == 0) return;
    replace(s, builder);
  }

  static void emit(Builder& builder, const Program& program, std::vector<uint8_t>& registers, bool outermost) {
    for (int64_t k = 0; k < program.steps; ++k) {
      const PointwiseStep& step = program.step[k];
      const int operands = kernels::operands_of(step.fn);
      const uint8_t a = registers[step.a];
      registers[Program::first_step + k] =
          builder.add_step({step.fn, a, operands > 1 ? registers[step.b] : a, operands > 2 ? registers[step.c] : a},
                           outermost && k + 1 == program.steps);
    }
  }

  /// Register of operand `i` of step `s`: a constant, a folded broadcast, a merged producer or an input.
  uint8_t operand(Builder& builder, size_t s, size_t i, const Program::Input& input, bool merge) {
    const uint32_t value = steps_[s].in[i];
    const int64_t made = maker_[value];
    if (made >= 0 && input.period == 0) {
      const PlanStep& maker = steps_[made];
      if (maker.op == &core::full_op) return builder.add_constant(maker.attrs.as<core::Leaf>().value);
      if (maker.op == &broadcast_op && values_[maker.out[0]].type == values_[value].type) {
        const uint32_t source = maker.in[0];
        const int64_t source_made = maker_[source];
        if (source_made >= 0 && steps_[source_made].op == &core::full_op)
          return builder.add_constant(steps_[source_made].attrs.as<core::Leaf>().value);
        if (const auto pattern = pattern_of(maker.in_types[0].shape, maker.out_types[0].shape))
          return builder.add_input(source, *pattern);
      }
      if (merge && mergeable(maker, value, s)) {
        const Program& program = maker.attrs.as<Program>();
        std::vector<uint8_t> registers(Program::first_step + Program::max_steps, 0);
        for (int64_t c = 0; c < program.constants; ++c)
          registers[Program::first_constant + c] = builder.add_constant(program.constant[c]);
        for (size_t k = 0; k < maker.in.size(); ++k) registers[k] = builder.add_input(maker.in[k], program.input[k]);
        emit(builder, program, registers, false);
        return registers[Program::first_step + program.steps - 1];
      }
    }
    return builder.add_input(value, input);
  }

  bool mergeable(const PlanStep& maker, uint32_t value, size_t s) {
    return maker.op->pointwise && !alone_(*maker.op) && !keep_[value] && uses_of_storage(values_[value].storage) == 1 &&
           maker.out_types[0].dtype == steps_[s].out_types[0].dtype &&
           maker.out_types[0].shape.numel() == steps_[s].out_types[0].shape.numel();
  }

  void replace(size_t s, const Builder& builder) {
    PlanStep& step = steps_[s];
    if (builder.program.steps > 1) step.op = &fused_pointwise_op;
    step.attrs = Attrs::of(builder.program);
    step.in = builder.values;
    step.in_types.clear();
    for (uint32_t value : step.in) step.in_types.push_back(values_[value].type);
  }

  void drop_unused() {
    std::vector<bool> used(maker_by_storage_.size() + 1, false);
    for (size_t v = 0; v < values_.size(); ++v)
      if (keep_[v] && values_[v].storage < used.size()) used[values_[v].storage] = true;
    std::vector<PlanStep> kept;
    for (size_t s = steps_.size(); s-- > 0;) {
      const bool wanted = std::any_of(steps_[s].out.begin(), steps_[s].out.end(),
                                      [&](uint32_t out) { return used[values_[out].storage]; });
      if (!wanted) continue;
      for (uint32_t in : steps_[s].in)
        if (values_[in].storage < used.size()) used[values_[in].storage] = true;
      kept.push_back(std::move(steps_[s]));
    }
    std::reverse(kept.begin(), kept.end());
    steps_ = std::move(kept);
  }

  std::vector<PlanStep>& steps_;
  const std::vector<PlanValue>& values_;
  const std::vector<bool>& keep_;
  const std::function<bool(const OpDef&)>& alone_;
  std::vector<int64_t> maker_, maker_by_storage_;
  std::vector<int> uses_, uses_by_storage_;
};

}  // namespace

void fuse_pointwise(std::vector<PlanStep>& steps, const std::vector<PlanValue>& values, const std::vector<bool>& keep,
                    const std::function<bool(const OpDef&)>& alone) {
  Fuser(steps, values, keep, alone).run();
}

}  // namespace ranvier
