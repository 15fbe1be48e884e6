// States for the tests of checkpoints: filled, compared bit by bit, and one-line errors looked through.
#pragma once
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "engine/state.h"

namespace ranvier::testing {

inline void expect_parts(const std::string& text, std::initializer_list<const char*> parts) {
  for (const char* part : parts) EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' in: " << text;
  EXPECT_EQ(text.find('\n'), std::string::npos) << "more than one line: " << text;
}

/// Declares an entry and gives it elements 0, 1, 2, ... plus `start`.
template <class T>
void put(State& state, const char* slab, const char* name, Shape shape, double start) {
  state.declare(slab, name, {dtype_of<T>(), shape}, nullptr, Where::current());
  std::vector<T> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(start + static_cast<double>(i));
  state.set<T>(slab, name, values);
}

inline void declare_model(State& state, double start) {
  put<float>(state, "parameters", "conv.weight", {4, 3, 3, 2}, start);
  put<double>(state, "parameters", "conv.scale", {3}, start + 0.1);
  put<float>(state, "buffers", "norm.running_mean", {4}, start);
  put<float>(state, "momentum", "conv.weight", {4, 3, 3, 2}, start + 0.5);
  put<int64_t>(state, "counters", "step", {}, start);
  put<int32_t>(state, "counters", "order", {5}, start);
  put<uint8_t>(state, "counters", "seen", {7}, start);
  put<float>(state, "parameters", "nothing", {0, 3}, 0);
}

inline std::vector<std::byte> bytes_of(State& state, uint32_t id) {
  state.materialise();
  std::vector<std::byte> bytes(state.entry(id).type.bytes());
  state.read(id, bytes.data());
  return bytes;
}

inline void expect_equal(State& a, State& b) {
  ASSERT_EQ(a.entries().size(), b.entries().size());
  for (uint32_t id = 0; id < a.entries().size(); ++id) {
    const int64_t other = b.find(a.entry(id).slab, a.entry(id).name);
    ASSERT_GE(other, 0);
    EXPECT_EQ(bytes_of(a, id), bytes_of(b, static_cast<uint32_t>(other))) << a.entry(id).slab << a.entry(id).name;
  }
}

}  // namespace ranvier::testing
