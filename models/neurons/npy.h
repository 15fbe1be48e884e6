// NPY headers, version 1: what NumPy's np.load reads.
#pragma once
#include <string>
#include <vector>

#include "engine/error.h"

namespace ranvier::neuron {

/// The bytes before the data of an array in C order; `type` is NumPy's, "<f8" or "<i8". At least `room` bytes, so that
/// a header with more rows can take its place.
inline std::string npy_header(const std::string& type, const std::vector<uint64_t>& shape, size_t room = 0) {
  std::string sides;
  for (const uint64_t side : shape) sides += fmt::format("{},", side);
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", type, sides);
  const size_t size = std::max((10 + header.size() + 64) / 64 * 64, room);
  header += std::string(size - 11 - header.size(), ' ') + "\n";
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size() & 0xff);
  bytes += static_cast<char>(header.size() >> 8);
  return bytes + header;
}

}  // namespace ranvier::neuron
