// Times one op's variants: repeatedly on the CPU, as a CUDA graph of many runs on a GPU.
#include "tools/op_timing.h"

#include <algorithm>
#include <chrono>

namespace ranvier::cli {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Small values of a floating type, zeros of an integer one.
std::vector<std::byte> host_values(const Type& type) {
  std::vector<std::byte> bytes(type.bytes());
  const auto fill = [&]<class T>(T* to, auto&& convert) {
    constexpr int64_t period = 101;
    const int64_t n = type.shape.numel();
    for (int64_t i = 0; i < std::min(n, period); ++i)
      to[i] = convert(0.01f * static_cast<float>(i * 37 % period) - 0.5f);
    for (int64_t done = period; done < n; done *= 2) std::copy_n(to, std::min(done, n - done), to + done);
  };
  void* to = bytes.data();
  if (type.dtype == DType::f32) fill(static_cast<float*>(to), [](float x) { return x; });
  if (type.dtype == DType::f64) fill(static_cast<double*>(to), [](float x) { return double{x}; });
  if (type.dtype == DType::bf16)
    fill(static_cast<kernels::bf16*>(to), [](float x) { return kernels::from_float<kernels::bf16>(x); });
  if (type.dtype == DType::f16)
    fill(static_cast<kernels::f16*>(to), [](float x) { return kernels::from_float<kernels::f16>(x); });
  return bytes;
}

size_t bytes_of(const PlanStep& step) {
  size_t bytes = 0;
  for (const Type& type : step.in_types) bytes += type.bytes();
  for (const Type& type : step.out_types) bytes += type.bytes();
  return bytes;
}

double time_on_cpu(double seconds, auto&& run) {
  run();
  std::vector<double> times;
  for (const auto start = Clock::now(); since(start) < seconds || times.size() < 3;) {
    const auto begin = Clock::now();
    run();
    times.push_back(since(begin));
  }
  return median(times);
}

double on_device_clock(Device device, auto&& body) {
  Timeline timeline(device);
  timeline.mark();
  body();
  timeline.mark();
  return timeline.milliseconds().back() / 1e3;
}

/// run(s) launches on set s of `sets`.
double time_on_cuda(Device device, size_t sets, double seconds, auto&& run) {
  for (size_t s = 0; s < sets; ++s) run(s);  // libraries and kernels load here
  synchronize(device);
  constexpr double aim = 5e-3;  // seconds of a recording
  const double one = std::max(on_device_clock(device, [&] { run(0); }), 1e-6);
  const auto rounds = static_cast<size_t>(std::clamp(aim / one / static_cast<double>(sets), 1.0, 1000.0));
  const Recording recording(device, [&] {
    for (size_t round = 0; round < rounds; ++round)
      for (size_t s = 0; s < sets; ++s) run(s);
  });
  recording.replay();
  synchronize(device);
  std::vector<double> times;
  for (const auto start = Clock::now(); since(start) < seconds || times.size() < 3;)
    times.push_back(on_device_clock(device, [&] { recording.replay(); }) / static_cast<double>(rounds * sets));
  return median(times);
}

}  // namespace

/// Operands and results of one run.
class OpTimer::Operands {
 public:
  Operands(Device device, const PlanStep& step) {
    for (const Type& type : step.in_types) add(device, type, in_);
    for (const Type& type : step.out_types) add(device, type, out_);
  }
  void set(Device device, const PlanStep& step) {
    for (size_t i = 0; i < in_.size(); ++i) {
      const std::vector<std::byte> values = host_values(step.in_types[i]);
      copy_to_device(device, in_[i], values.data(), values.size());
    }
  }
  void set(Device device, const PlanStep& step, const Operands& other) {
    for (size_t i = 0; i < in_.size(); ++i) copy_on_device(device, in_[i], other.in_[i], step.in_types[i].bytes());
  }
  Call call(const NodeView& node, void* workspace, void* prepared, Stream stream) const {
    return {node, in_, out_, workspace, prepared, stream};
  }

 private:
  void add(Device device, const Type& type, std::vector<void*>& list) {
    list.push_back(blocks_.emplace_back(device, type.bytes()).data());
  }
  std::vector<Memory> blocks_;
  std::vector<void*> in_, out_;
};

OpTimer::OpTimer(Device device, const PlanStep& step) : device_(device), step_(step) {
  constexpr size_t beyond_caches = size_t{256} << 20;
  const bool cuda = device.backend == Backend::cuda;
  const size_t count = cuda ? std::clamp<size_t>(beyond_caches / std::max<size_t>(bytes_of(step), 1), 1, 64) : 1;
  for (size_t s = 0; s < count; ++s) {
    sets_.emplace_back(device, step);
    if (s == 0)
      sets_[s].set(device, step);
    else
      sets_[s].set(device, step, sets_[0]);
  }
}
OpTimer::~OpTimer() = default;

double OpTimer::time(const Variant& variant, double seconds) const {
  const NodeView node = step_.view();
  DeviceContext context{device_, stream_of(device_)};
  const std::shared_ptr<void> prepared = variant.prepare ? variant.prepare(node, context) : nullptr;
  const Memory workspace(device_, variant.workspace ? variant.workspace(node, prepared.get()) : 0);
  const auto run = [&](size_t s) {
    variant.run(sets_[s].call(node, workspace.data(), prepared.get(), context.stream));
  };
  if (device_.backend == Backend::cuda) return time_on_cuda(device_, sets_.size(), seconds, run);
  return time_on_cpu(seconds, [&] { run(0); });
}

}  // namespace ranvier::cli
