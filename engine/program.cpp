// Binding a plan to memory and running it.
#include "engine/program.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "engine/profiler_range.h"

namespace ranvier {
namespace {

constexpr size_t canary_bytes = 256;
constexpr int canary = 0xA5, unwritten = 0xFF;  // 0xFF... is a NaN in every floating type

/// Element `at` of a floating value on the host.
double element(const Type& type, const void* data, int64_t at) {
  switch (type.dtype) {
    case DType::f64:
      return static_cast<const double*>(data)[at];
    case DType::bf16:
      return kernels::to_float(static_cast<const kernels::bf16*>(data)[at]);
    case DType::f16:
      return kernels::to_float(static_cast<const kernels::f16*>(data)[at]);
    default:
      return static_cast<const float*>(data)[at];
  }
}

/// A value's bytes where the host can read them.
class OnHost {
 public:
  OnHost(Device device, const void* data, size_t bytes) : data_(data) {
    if (device.backend == Backend::cpu) return;
    copy_.resize(bytes);
    copy_to_host(device, copy_.data(), data, bytes);
    data_ = copy_.data();
  }
  const std::byte* data() const { return static_cast<const std::byte*>(data_); }

 private:
  std::vector<std::byte> copy_;
  const void* data_;
};

/// First element that is not finite, or -1.
int64_t first_nonfinite(const Type& type, const std::byte* data) {
  if (!is_floating(type.dtype)) return -1;
  for (int64_t i = 0; i < type.shape.numel(); ++i)
    if (!std::isfinite(element(type, data, i))) return i;
  return -1;
}

/// True where an element still has the bits that buffers are prefilled with.
bool is_unwritten(const Type& type, const std::byte* data, int64_t at) {
  const size_t size = size_of(type.dtype);
  return std::all_of(data + static_cast<size_t>(at) * size, data + static_cast<size_t>(at + 1) * size,
                     [](std::byte b) { return b == static_cast<std::byte>(unwritten); });
}

/// A buffer between two canaries, prefilled so that what is never written shows.
class Guarded {
 public:
  Guarded(Device device, size_t bytes) : device_(device), block_(device, bytes + 2 * canary_bytes), bytes_(bytes) {
    fill_bytes(device, block_.data(), canary, block_.bytes());
    fill_bytes(device, data(), unwritten, bytes_);
  }
  std::byte* data() const { return static_cast<std::byte*>(block_.data()) + canary_bytes; }
  bool intact() const { return is_canary(block_.data()) && is_canary(data() + bytes_); }

 private:
  bool is_canary(const void* zone) const {
    const OnHost host(device_, zone, canary_bytes);
    return std::all_of(host.data(), host.data() + canary_bytes,
                       [](std::byte byte) { return byte == static_cast<std::byte>(canary); });
  }

  Device device_;
  Memory block_;
  size_t bytes_;
};

std::string describe(const PlanStep& step) {
  return fmt::format("{} ({}) at {}", step.label(), step.variant->name, place(step.where));
}

/// CUDA's switch by which a failing kernel fails at its launch, and so in its op; a graph would hide which it was.
bool launches_block() {
  const char* wish = std::getenv("CUDA_LAUNCH_BLOCKING");
  return wish && std::string_view(wish) == "1";
}

}  // namespace

void Scratch::reserve(Device device, size_t bytes) {
  if (bytes <= memory.bytes()) return;
  memory = Memory();  // let go of the old block first
  memory = Memory(device, bytes);
  ++version;
}

Program::Program(std::shared_ptr<Plan> plan, State& state, std::shared_ptr<Scratch> scratch, const PlanOptions& options)
    : plan_(std::move(plan)), state_(&state), scratch_(std::move(scratch)), options_(options) {
  check_memory();
  scratch_->reserve(options_.device, plan_->arena_bytes);
  own_ = Memory(options_.device, plan_->input_bytes + plan_->constant_bytes + plan_->output_bytes);
  fill_bytes(options_.device, own_.data(), 0, own_.bytes());
  for (uint32_t v = static_cast<uint32_t>(plan_->values.size());
       v-- > 0;) {  // views come later: the input itself stays
    const Storage& storage = plan_->storages[plan_->values[v].storage];
    if (storage.kind == Storage::Kind::input) inputs_[storage.name] = v;
  }
  for (const Storage& storage : plan_->storages) {
    if (storage.kind == Storage::Kind::constant)
      copy_to_device(options_.device, address(storage), storage.elements.data(), storage.bytes);
  }
}

void Program::check_memory() const {
  const size_t scratch = plan_->arena_bytes > scratch_->memory.bytes() ? plan_->arena_bytes : 0;
  const size_t own = plan_->input_bytes + plan_->constant_bytes + plan_->output_bytes;
  const size_t state = state_->bytes() - state_->materialised_bytes();
  const size_t free = free_memory(options_.device);
  const auto mb = [](size_t bytes) { return static_cast<double>(bytes) / 1e6; };
  if (scratch + own + state > free)
    fail(
        "this program needs {:.0f} MB more ({:.0f} scratch arena, {:.0f} state, {:.0f} inputs and outputs), and {:.0f} "
        "MB of device memory are free; a smaller batch needs less",
        mb(scratch + own + state), mb(scratch), mb(state), mb(own), mb(free));
}

std::byte* Program::address(const Storage& storage) const {
  auto* own = static_cast<std::byte*>(own_.data());
  switch (storage.kind) {
    case Storage::Kind::arena:
      return static_cast<std::byte*>(scratch_->memory.data()) + storage.offset;
    case Storage::Kind::input:
      return own + storage.offset;
    case Storage::Kind::constant:
      return own + plan_->input_bytes + storage.offset;
    case Storage::Kind::output:
      return own + plan_->input_bytes + plan_->constant_bytes + storage.offset;
    case Storage::Kind::state:
      return static_cast<std::byte*>(state_->data(storage.entry));
  }
  return nullptr;
}

void Program::bind() {
  state_->materialise();
  if (bound_state_ == state_->version() && bound_scratch_ == scratch_->version) return;
  storages_.resize(plan_->storages.size());
  for (size_t s = 0; s < storages_.size(); ++s) storages_[s] = address(plan_->storages[s]);
  bound_state_ = state_->version();
  bound_scratch_ = scratch_->version;
  recording_ = {};  // it holds the old addresses
}

void Program::execute(const PlanStep& step, std::span<std::byte* const> storages) {
  constexpr size_t inline_operands = 16;
  void* few[inline_operands];
  std::vector<void*> many;
  const size_t count = step.in.size() + step.out.size();
  if (count > inline_operands) many.resize(count);
  void** operands = count > inline_operands ? many.data() : few;
  for (size_t i = 0; i < step.in.size(); ++i) operands[i] = storages[plan_->values[step.in[i]].storage];
  for (size_t k = 0; k < step.out.size(); ++k)
    operands[step.in.size() + k] = storages[plan_->values[step.out[k]].storage];
  const NodeView node = step.view();
  const ProfilerRange range(options_.device.backend == Backend::cuda ? step.label() : std::string());
  try {
    step.variant->run({node,
                       {operands, step.in.size()},
                       {operands + step.in.size(), step.out.size()},
                       step.workspace_bytes ? storages[step.workspace] : nullptr,
                       step.prepared.get(),
                       stream_of(options_.device)});
  } catch (const Error&) {
    throw;                                     // the op's own words
  } catch (const std::runtime_error& error) {  // a launch or a library: kernels know nothing of ops
    fail("{}: {}", describe(step), error.what());
  }
}

void Program::commit(std::span<std::byte* const> storages) {
  for (const Commit& commit : plan_->commits)
    copy_on_device(options_.device, state_->data(commit.entry), storages[plan_->values[commit.value].storage],
                   plan_->values[commit.value].type.bytes());
}

void Program::run_nodes() {
  bind();
  execute_all();
  warm_ = true;
}

void Program::execute_all() {
  for (int repeat = 0; repeat < repeats_; ++repeat) {
    for (const PlanStep& step : plan_->steps) execute(step, storages_);
    commit(storages_);
  }
}

void Program::capture(int repeats) {
  if (repeats < 1) fail("capture: {} repeats", repeats);
  repeats_ = repeats;
  captures_ = options_.device.backend == Backend::cuda && !launches_block();
  warm_ = false;
  recording_ = {};
}

void Program::run() {
  if (!captures_ || !warm_) return run_nodes();
  bind();
  if (!recording_) recording_ = Recording(options_.device, [this] { execute_all(); });
  recording_.replay();
}

void Program::run_profiled(std::vector<StepTime>& times) {
  bind();
  if (times.empty()) {
    for (const PlanStep& step : plan_->steps) {
      StepTime time{step.label(), step.variant->name};
      const NodeView node = step.view();
      time.flops = step.op->flops ? step.op->flops(node) : static_cast<double>(node.out[0].shape.numel());
      for (const Type& type : step.in_types) time.bytes += type.bytes();
      for (const Type& type : step.out_types) time.bytes += type.bytes();
      times.push_back(time);
    }
  }
  Timeline timeline(options_.device);
  timeline.mark();
  for (const PlanStep& step : plan_->steps) {
    execute(step, storages_);
    timeline.mark();
  }
  commit(storages_);
  const std::vector<double> marks = timeline.milliseconds();
  for (size_t s = 0; s < times.size(); ++s) {
    times[s].begin_ms = marks[s];
    times[s].milliseconds += marks[s + 1] - marks[s];
  }
}

void Program::check_output(const PlanStep& step, size_t k, std::span<std::byte* const> storages) const {
  const PlanValue& value = plan_->values[step.out[k]];
  const OnHost host(options_.device, storages[value.storage], value.type.bytes());
  const int64_t at = first_nonfinite(value.type, host.data());
  if (at < 0) return;
  if (is_unwritten(value.type, host.data(), at))
    fail("{}: output {} element {} was never written", describe(step), k, at);
  fail("{}: output {} element {} is {}", describe(step), k, at, element(value.type, host.data(), at));
}

void Program::run_checked() {
  bind();
  std::vector<bool> written(storages_.size(), false);  // by a step; leaves and slabs that are only read stay in place
  for (const PlanStep& step : plan_->steps) {
    for (uint32_t out : step.out) written[plan_->values[out].storage] = true;
    if (step.workspace_bytes) written[step.workspace] = true;
  }
  std::vector<std::byte*> apart = storages_;
  std::vector<Guarded> buffers;
  for (size_t s = 0; s < apart.size(); ++s)
    if (written[s]) apart[s] = buffers.emplace_back(options_.device, plan_->storages[s].bytes).data();
  const auto nonfinite = [&](uint32_t value) {
    const Type& type = plan_->values[value].type;
    const OnHost host(options_.device, apart[plan_->values[value].storage], type.bytes());
    return first_nonfinite(type, host.data());
  };
  for (const PlanStep& step : plan_->steps) {
    const bool clean = std::all_of(step.in.begin(), step.in.end(), [&](uint32_t in) { return nonfinite(in) < 0; });
    execute(step, apart);
    try {
      synchronize(options_.device);
    } catch (const Error& error) {
      fail("{}: {}", describe(step), error.what());
    }
    for (const Guarded& buffer : buffers)
      if (!buffer.intact()) fail("{}: wrote outside its buffers", describe(step));
    for (size_t k = 0; clean && k < step.out.size(); ++k) check_output(step, k, apart);
  }
  for (size_t s = 0; s < apart.size(); ++s)  // results and slabs change only where everything went well
    if (written[s] && plan_->storages[s].kind != Storage::Kind::arena)
      copy_on_device(options_.device, storages_[s], apart[s], plan_->storages[s].bytes);
  commit(apart);
}

uint32_t Program::input_value(std::string_view input) const {
  const auto it = inputs_.find(std::string(input));
  if (it == inputs_.end()) fail("this program has no input named '{}'", input);
  return it->second;
}

const Type& Program::input_type(std::string_view input) const { return plan_->values[input_value(input)].type; }

void Program::set_bytes(std::string_view input, DType dtype, std::span<const std::byte> bytes) {
  const PlanValue& value = plan_->values[input_value(input)];
  const Storage& storage = plan_->storages[value.storage];
  if (value.type.dtype != dtype || bytes.size() != storage.bytes)
    fail("input '{}' is {}, got {} elements of {}", input, to_string(value.type), bytes.size() / size_of(dtype),
         name_of(dtype));
  copy_to_device(options_.device, address(storage), bytes.data(), bytes.size());
}

size_t Program::probe_index(std::string_view probe) const {
  std::string known;
  for (size_t i = 0; i < plan_->probes.size(); ++i) {
    if (plan_->probes[i] == probe) return outputs() + i;
    known += " " + plan_->probes[i];
  }
  fail("this program has no probe '{}'; it has:{}", probe, known.empty() ? " none" : known);
}

const Type& Program::output_type(size_t index) const {
  if (index >= plan_->outputs.size()) fail("this program has {} outputs, asked for {}", plan_->outputs.size(), index);
  return plan_->values[plan_->outputs[index]].type;
}

void Program::get_bytes(size_t index, DType dtype, std::span<std::byte> bytes) const {
  const Type& type = output_type(index);
  if (type.dtype != dtype) fail("output {} is {}, read as {}", index, to_string(type), name_of(dtype));
  const Storage& storage = plan_->storages[plan_->values[plan_->outputs[index]].storage];
  copy_to_host(options_.device, bytes.data(), address(storage), bytes.size());
}

double Program::scalar(size_t index) const {
  const Type& type = output_type(index);
  if (type.shape.numel() != 1) fail("output {} is {}, not a scalar", index, to_string(type));
  return type.dtype == DType::f64 ? get<double>(index)[0] : static_cast<double>(get<float>(index)[0]);
}

Program compile(Graph& graph, std::span<const Tensor> outputs, const PlanOptions& options,
                std::shared_ptr<Scratch> scratch) {
  PlanOptions complete = options;
  complete.device = graph.state().device();
  auto plan = std::make_shared<Plan>(make_plan(graph, outputs, complete));
  for (Storage& storage : plan->storages)  // the graph may go before the program
    if (storage.kind == Storage::Kind::constant)
      plan->constants.emplace_back(storage.elements.begin(), storage.elements.end()),
          storage.elements = plan->constants.back();
  if (!scratch) scratch = std::make_shared<Scratch>();
  return Program(std::move(plan), graph.state(), std::move(scratch), complete);
}

}  // namespace ranvier
