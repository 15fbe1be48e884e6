// A 64-bit hash of what a saved state depends on, and of the state itself: tells one from another, keeps no secret.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <type_traits>
#include <vector>

namespace ranvier {

/// Takes values one by one; the same values in the same order give the same hash on every machine.
class Fingerprint {
 public:
  void add(const void* data, size_t bytes) {
    const auto* from = static_cast<const unsigned char*>(data);
    for (; bytes >= 8; bytes -= 8, from += 8) mix(word_of(from, 8));
    mix(word_of(from, bytes) ^ (uint64_t{bytes} + 1) << 56);  // the length counts: "" is not nothing
  }
  template <class V>
  void add(const V& value) requires std::is_arithmetic_v<V> || std::is_enum_v<V> {
    add(&value, sizeof value);
  }
  template <class V>
  void add(const std::vector<V>& values) requires std::is_arithmetic_v<V> {
    add(values.size()), add(values.data(), values.size() * sizeof(V));
  }
  void add(std::string_view text) { add(text.data(), text.size()); }
  uint64_t value() const { return hash_; }

 private:
  static uint64_t word_of(const unsigned char* from, size_t bytes) {
    uint64_t word = 0;
    if (bytes) std::memcpy(&word, from, bytes);
    return word;
  }
  void mix(uint64_t word) {
    hash_ = (hash_ ^ word) * 0x9e3779b97f4a7c15u;
    hash_ ^= hash_ >> 32;
  }

  uint64_t hash_ = 0xcbf29ce484222325u;
};

}  // namespace ranvier
