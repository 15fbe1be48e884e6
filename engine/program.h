// A compiled step: set inputs, run, read outputs. The one loop over kernels, with its checks and timings, is here.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/plan.h"

namespace ranvier {

/// Scratch memory that the programs of a session share: none holds anything in it between runs.
struct Scratch {
  Memory memory;
  uint64_t version = 0;
  /// Makes it at least `bytes` large.
  void reserve(Device device, size_t bytes);
};

/// Time of one step of a program, summed over the runs that were profiled.
struct StepTime {
  std::string label, variant;
  double milliseconds = 0;
  double begin_ms = 0;  ///< of the last run, from its start
  double flops = 0;     ///< of one run
  size_t bytes = 0;     ///< operands and results of one run
};

class Program {
 public:
  Program() = default;
  Program(std::shared_ptr<Plan> plan, State& state, std::shared_ptr<Scratch> scratch, const PlanOptions& options);

  /// Copies host values to an input. T must match its type; a wrong name, type or count is an Error.
  template <class T>
  void set(std::string_view input, std::span<const T> values) {
    set_bytes(input, dtype_of<T>(), std::as_bytes(values));
  }
  /// Copies output `index` (as listed at compile) to the host.
  template <class T>
  std::vector<T> get(size_t index) const {
    std::vector<T> values(static_cast<size_t>(output_type(index).shape.numel()));
    get_bytes(index, dtype_of<T>(), std::as_writable_bytes(std::span(values)));
    return values;
  }
  /// Copies output `index` into host memory of its size, without an allocation.
  template <class T>
  void read(size_t index, std::span<T> values) const {
    if (static_cast<int64_t>(values.size()) != output_type(index).shape.numel())
      fail("output {} is {}, read into {} elements", index, to_string(output_type(index)), values.size());
    get_bytes(index, dtype_of<T>(), std::as_writable_bytes(values));
  }
  /// Copies a probed value to the host by its name.
  template <class T>
  std::vector<T> get(std::string_view probe) const {
    return get<T>(probe_index(probe));
  }
  /// Index of a probed value among the outputs; an unknown name is an Error that lists the known ones.
  size_t probe_index(std::string_view probe) const;
  /// The value of a scalar output (f32 or f64).
  double scalar(size_t index) const;
  const Type& output_type(size_t index) const;
  const Type& input_type(std::string_view input) const;
  /// Outputs asked for at compile; probed values follow them.
  size_t outputs() const { return plan_->outputs.size() - plan_->probes.size(); }

  /// Executes every step, then the assignments that could not be done in place.
  void run();
  /// The same node by node where `run` would replay a CUDA graph: each op's kernels stand in its own profiler range.
  void run_nodes();
  /// Executes node by node, every buffer apart from the others between canaries and prefilled with NaN; throws Error
  /// naming scope, op, shape and source line at the first NaN or infinity made of finite operands, and at the first
  /// write outside a buffer.
  void run_checked();
  /// A run executes `repeats` steps from here on. On a GPU the first run after this goes node by node (libraries and
  /// kernels load there), the second is captured into a CUDA graph, and every later one is one graph launch. With
  /// CUDA_LAUNCH_BLOCKING=1 in the environment every run goes node by node, so that an error names its op.
  void capture(int repeats = 1);
  /// Whether the next run replays a recording.
  bool captured() const { return static_cast<bool>(recording_); }
  /// Runs once and adds each step's time to `times` (sized on first use).
  void run_profiled(std::vector<StepTime>& times);

  const Plan& plan() const { return *plan_; }

 private:
  void check_memory() const;
  void bind();
  std::byte* address(const Storage& storage) const;
  void execute(const PlanStep& step, std::span<std::byte* const> storages);
  void execute_all();
  void check_output(const PlanStep& step, size_t k, std::span<std::byte* const> storages) const;
  void commit(std::span<std::byte* const> storages);
  void set_bytes(std::string_view input, DType dtype, std::span<const std::byte> bytes);
  uint32_t input_value(std::string_view input) const;
  void get_bytes(size_t index, DType dtype, std::span<std::byte> bytes) const;

  std::shared_ptr<Plan> plan_;
  State* state_ = nullptr;
  std::shared_ptr<Scratch> scratch_;
  PlanOptions options_;
  Memory own_;                        // inputs, constants, outputs
  std::vector<std::byte*> storages_;  // address of every storage
  std::unordered_map<std::string, uint32_t> inputs_;
  uint64_t bound_state_ = ~0ull, bound_scratch_ = ~0ull;
  int repeats_ = 1;
  bool captures_ = false, warm_ = false;
  Recording recording_;
};

/// Plans and prepares a trace for a device. `scratch` may be shared between programs that do not run at once.
Program compile(Graph&, std::span<const Tensor> outputs, const PlanOptions& = {},
                std::shared_ptr<Scratch> scratch = nullptr);

}  // namespace ranvier
