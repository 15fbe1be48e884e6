// Named persistent slabs (parameters, moments, running statistics, step counters): what outlives a step.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/device.h"
#include "engine/graph.h"

namespace ranvier {

/// Fills a fresh entry: `values` in the entry's element order, drawn from (seed, stream) with Philox, rounded to f32
/// whatever the entry's type, so that f32 and f64 runs start from equal weights.
using Init = std::function<void(std::span<float> values, const Shape& shape, uint64_t seed, uint64_t stream)>;

/// The same for entries that f32 values cannot express (a 64-bit seed): writes the elements themselves.
using ExactInit = std::function<void(std::span<std::byte> elements, uint64_t seed)>;

namespace init {
Init constant(float value);
/// U(-bound, bound).
Init uniform(double bound);
/// N(0, std^2).
Init normal(double std);
}  // namespace init

/// One named tensor of a slab.
struct Entry {
  std::string slab, name;
  Type type;
  size_t offset = 0;  ///< bytes from the slab's start
  Init init;
  ExactInit exact_init = {};  ///< instead of `init`, where given
};

/// The slab of what the host can give again (the data set and its order): neither snapshots nor checkpoints hold it.
inline constexpr std::string_view feed_slab = "feed";

/// Every slab of a session. Entries are declared while a model is traced; memory appears at the first compile. A slab
/// is one contiguous block; entries start on 64-byte steps in declaration order.
class State {
 public:
  explicit State(Device device = Device::cpu(), uint64_t seed = 0) : device_(device), seed_(seed) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  /// Declares an entry, or finds the earlier one of that name; a different type is an Error. Returns its id.
  uint32_t declare(std::string_view slab, std::string_view name, const Type& type, Init init, const Where& where);
  /// The same with elements that f32 cannot hold.
  uint32_t declare_exact(std::string_view slab, std::string_view name, const Type& type, ExactInit init,
                         const Where& where);

  const std::vector<Entry>& entries() const { return entries_; }
  const Entry& entry(uint32_t id) const { return entries_[id]; }
  /// Id of an entry, or -1.
  int64_t find(std::string_view slab, std::string_view name) const;
  /// Entries of a slab in order.
  std::vector<uint32_t> slab(std::string_view slab) const;

  /// Gives memory and initial values to whatever was declared since the last call.
  void materialise();
  /// Grows when slabs move: programs then look their pointers up again.
  uint64_t version() const { return version_; }
  /// Address of an entry on the device.
  void* data(uint32_t id);

  /// Copies an entry to or from host memory; T must be the entry's element type (else an Error names it).
  template <class T>
  std::vector<T> get(std::string_view slab, std::string_view name);
  template <class T>
  void set(std::string_view slab, std::string_view name, std::span<const T> values);
  void read(uint32_t id, void* host);
  void write(uint32_t id, const void* host);

  /// A copy of every slab on the device, taken and put back without a detour over the host. Entries declared after it
  /// was taken are left alone by `restore`.
  using Snapshot = std::unordered_map<std::string, Memory>;
  void snapshot(Snapshot& into);
  void restore(const Snapshot& snapshot);

  /// Element type of `parameter` (f32; f64 for gradient checks and PINNs). Set it before the first declaration.
  DType parameter_type() const { return parameter_type_; }
  void set_parameter_type(DType type) { parameter_type_ = type; }
  /// Element type of activations: the parameters' own unless it is set. bf16 and f16 go beside f32 parameters and run
  /// on CUDA only; everything else must equal the parameters' type. Throws Error where it does not fit.
  DType compute_type() const { return compute_type_.value_or(parameter_type_); }
  void set_compute_type(DType type);

  /// Bytes of all declared slabs, and of those that have memory already.
  size_t bytes() const;
  size_t materialised_bytes() const;
  uint64_t seed() const { return seed_; }
  Device device() const { return device_; }

 private:
  struct Slab {
    Memory memory;
    size_t bytes = 0;  // declared
    size_t ready = 0;  // materialised
  };
  uint32_t required(std::string_view slab, std::string_view name, DType dtype);

  Device device_;
  uint64_t seed_;
  uint64_t version_ = 0;
  DType parameter_type_ = DType::f32;
  std::optional<DType> compute_type_;
  std::vector<Entry> entries_;
  size_t materialised_ = 0;
  std::unordered_map<std::string, uint32_t> by_name_;
  std::unordered_map<std::string, Slab> slabs_;
};

template <class T>
std::vector<T> State::get(std::string_view slab, std::string_view name) {
  const uint32_t id = required(slab, name, dtype_of<T>());
  std::vector<T> values(static_cast<size_t>(entries_[id].type.shape.numel()));
  read(id, values.data());
  return values;
}

template <class T>
void State::set(std::string_view slab, std::string_view name, std::span<const T> values) {
  const uint32_t id = required(slab, name, dtype_of<T>());
  if (static_cast<int64_t>(values.size()) != entries_[id].type.shape.numel())
    fail("{}/{} holds {} elements, {} were given", slab, name, entries_[id].type.shape.numel(), values.size());
  write(id, values.data());
}

}  // namespace ranvier
