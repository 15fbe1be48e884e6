// Declaration, layout and initial values of the persistent slabs.
#include "engine/state.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/common/philox.h"

namespace ranvier {
namespace {

constexpr size_t step_bytes = 64;
size_t aligned(size_t bytes) { return (bytes + step_bytes - 1) / step_bytes * step_bytes; }

std::string key(std::string_view slab, std::string_view name) { return fmt::format("{}/{}", slab, name); }

/// Converts f32 initial values to the entry's type.
void widen(std::span<const float> values, DType dtype, void* out) {
  for (size_t i = 0; i < values.size(); ++i) {
    switch (dtype) {
      case DType::f32:
        static_cast<float*>(out)[i] = values[i];
        break;
      case DType::f64:
        static_cast<double*>(out)[i] = values[i];
        break;
      case DType::i32:
        static_cast<int32_t*>(out)[i] = static_cast<int32_t>(values[i]);
        break;
      case DType::i64:
        static_cast<int64_t*>(out)[i] = static_cast<int64_t>(values[i]);
        break;
      case DType::u8:
        static_cast<uint8_t*>(out)[i] = static_cast<uint8_t>(values[i]);
        break;
      default:
        fail("state of type {} has no initial values", name_of(dtype));
    }
  }
}

}  // namespace

namespace init {

Init constant(float value) {
  return [value](std::span<float> values, const Shape&, uint64_t, uint64_t) {
    std::fill(values.begin(), values.end(), value);
  };
}

Init uniform(double bound) {
  return [bound](std::span<float> values, const Shape&, uint64_t seed, uint64_t stream) {
    const kernels::philox::Key key{seed, stream, 0};
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>((2.0 * kernels::philox::uniform(key, i) - 1.0) * bound);
  };
}

Init normal(double std) {
  return [std](std::span<float> values, const Shape&, uint64_t seed, uint64_t stream) {
    const kernels::philox::Key key{seed, stream, 0};
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(std * kernels::philox::normal(key, i));
  };
}

}  // namespace init

void State::set_compute_type(DType type) {
  const bool half = type == DType::bf16 || type == DType::f16;
  if (half && device_.backend == Backend::cpu)
    fail("compute type {}: the CPU computes in f32 or f64; bf16 and f16 need a CUDA device", name_of(type));
  if (type != parameter_type_ && !(half && parameter_type_ == DType::f32))
    fail("compute type {} does not go with {} parameters: it is theirs, or bf16 or f16 beside f32 ones", name_of(type),
         name_of(parameter_type_));
  compute_type_ = type;
}

uint32_t State::declare(std::string_view slab, std::string_view name, const Type& type, Init init, const Where& where) {
  const std::string full = key(slab, name);
  if (auto it = by_name_.find(full); it != by_name_.end()) {
    const Entry& known = entries_[it->second];
    if (known.type != type)
      fail_at(where, "{} is {} here but was declared as {}", full, to_string(type), to_string(known.type));
    return it->second;
  }
  Slab& block = slabs_[std::string(slab)];
  const auto id = static_cast<uint32_t>(entries_.size());
  entries_.push_back({std::string(slab), std::string(name), type, block.bytes, std::move(init)});
  block.bytes += aligned(type.bytes());
  by_name_.emplace(full, id);
  return id;
}

uint32_t State::declare_exact(std::string_view slab, std::string_view name, const Type& type, ExactInit init,
                              const Where& where) {
  const uint32_t id = declare(slab, name, type, nullptr, where);
  entries_[id].exact_init = std::move(init);
  return id;
}

int64_t State::find(std::string_view slab, std::string_view name) const {
  auto it = by_name_.find(key(slab, name));
  return it == by_name_.end() ? -1 : static_cast<int64_t>(it->second);
}

std::vector<uint32_t> State::slab(std::string_view slab) const {
  std::vector<uint32_t> ids;
  for (uint32_t id = 0; id < entries_.size(); ++id)
    if (entries_[id].slab == slab) ids.push_back(id);
  return ids;
}

void State::materialise() {
  if (materialised_ == entries_.size()) return;
  for (auto& [name, slab] : slabs_) {
    if (slab.ready == slab.bytes) continue;
    Memory grown(device_, slab.bytes);
    fill_bytes(device_, grown.data(), 0, slab.bytes);  // the gaps between entries are read by whole-slab kernels
    if (slab.ready) copy_on_device(device_, grown.data(), slab.memory.data(), slab.ready);
    slab.memory = grown;
    slab.ready = slab.bytes;
    ++version_;
  }
  std::vector<float> values;
  std::vector<std::byte> bytes;
  for (; materialised_ < entries_.size(); ++materialised_) {
    const Entry& entry = entries_[materialised_];
    values.assign(entry.exact_init ? 0 : static_cast<size_t>(entry.type.shape.numel()), 0.0f);
    if (entry.init) entry.init(values, entry.type.shape, seed_, kernels::philox::stream_hash(entry.name));
    bytes.resize(entry.type.bytes());
    if (entry.exact_init)
      entry.exact_init(bytes, seed_);
    else
      widen(values, entry.type.dtype, bytes.data());
    write(static_cast<uint32_t>(materialised_), bytes.data());
  }
}

void* State::data(uint32_t id) {
  const Entry& entry = entries_[id];
  return static_cast<std::byte*>(slabs_.at(entry.slab).memory.data()) + entry.offset;
}

uint32_t State::required(std::string_view slab, std::string_view name, DType dtype) {
  const int64_t id = find(slab, name);
  if (id < 0) fail("there is no state named {}/{}", slab, name);
  const Entry& entry = entries_[id];
  if (entry.type.dtype != dtype)
    fail("{}/{} is {}, asked for as {}", slab, name, to_string(entry.type), name_of(dtype));
  materialise();
  return static_cast<uint32_t>(id);
}

void State::read(uint32_t id, void* host) { copy_to_host(device_, host, data(id), entries_[id].type.bytes()); }
void State::write(uint32_t id, const void* host) { copy_to_device(device_, data(id), host, entries_[id].type.bytes()); }

void State::snapshot(Snapshot& into) {
  materialise();
  for (const auto& [name, slab] : slabs_) {
    if (name == feed_slab) continue;
    Memory& copy = into[name];
    if (copy.bytes() != slab.ready) copy = Memory(device_, slab.ready);
    copy_on_device(device_, copy.data(), slab.memory.data(), slab.ready);
  }
}

void State::restore(const Snapshot& snapshot) {
  for (const auto& [name, copy] : snapshot)
    copy_on_device(device_, slabs_.at(name).memory.data(), copy.data(), copy.bytes());
}

size_t State::materialised_bytes() const {
  size_t total = 0;
  for (const auto& [name, slab] : slabs_) total += slab.ready;
  return total;
}

size_t State::bytes() const {
  size_t total = 0;
  for (const auto& [name, slab] : slabs_) total += slab.bytes;
  return total;
}

}  // namespace ranvier
