// Writing and reading of traces.
#include "models/neurons/files.h"

#include <bit>
#include <cstring>
#include <fstream>
#include <sstream>

#include "engine/atomic_file.h"
#include "models/neurons/presets.h"

namespace ranvier::neuron {
namespace {

static_assert(std::endian::native == std::endian::little, "NPY files are written in the machine's order");

void write_text(const std::string& path, const std::string& text, const std::string& what) {
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(text)), what);
  file.commit();
}

/// Numbers after `key` in an NPY header such as "'shape': (10001, 3)".
std::vector<int64_t> header_shape(const std::string& header, const std::string& path) {
  const auto key = header.find("'shape'");
  const auto open = header.find('(', key), close = header.find(')', key);
  if (key == std::string::npos || open == std::string::npos || close == std::string::npos)
    fail("{}: its header has no shape", path);
  std::vector<int64_t> shape;
  std::stringstream list(header.substr(open + 1, close - open - 1));
  for (std::string item; std::getline(list, item, ',');)
    if (item.find_first_of("0123456789") != std::string::npos) shape.push_back(std::stoll(item));
  return shape;
}

Trace read_npy(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("{}: cannot be read", path);
  std::string bytes((std::istreambuf_iterator<char>(file)), {});
  if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY") != 0 || bytes[6] != 1)
    fail("{}: no NPY file, version 1", path);
  uint16_t length;
  std::memcpy(&length, bytes.data() + 8, 2);
  if (bytes.size() < 10u + length) fail("{}: ends in its header", path);
  const std::string header = bytes.substr(10, length);
  if (header.find("'<f8'") == std::string::npos || header.find("'fortran_order': False") == std::string::npos)
    fail("{}: not f64 in C order", path);
  const std::vector<int64_t> shape = header_shape(header, path);
  const size_t data = bytes.size() - 10 - length;
  if (shape.size() != 2 || shape[1] != 3 || shape[0] < 0 || static_cast<uint64_t>(shape[0]) != data / 24 || data % 24)
    fail("{}: not a trace of shape (N, 3), t v u", path);
  Trace trace;
  for (int64_t row = 0; row < shape[0]; ++row) {
    double values[3];
    std::memcpy(values, bytes.data() + 10 + length + 24 * row, 24);
    trace.t.push_back(values[0]), trace.v.push_back(values[1]), trace.u.push_back(values[2]);
  }
  return trace;
}

Trace read_csv(const std::string& path) {
  std::ifstream file(path);
  if (!file) fail("{}: cannot be read", path);
  Trace trace;
  int line_number = 0;
  for (std::string line; std::getline(file, line);) {
    if (++line_number == 1 || line.empty()) continue;
    if (line.back() == '\r') line.pop_back();
    const std::string where = fmt::format("{}:{}", path, line_number);
    std::stringstream columns(line);
    double values[3];
    for (double& value : values) {
      std::string item;
      if (!std::getline(columns, item, ',')) fail("{}: fewer than three columns", where);
      value = number(item, where);
    }
    trace.t.push_back(values[0]), trace.v.push_back(values[1]), trace.u.push_back(values[2]);
  }
  return trace;
}

}  // namespace

// In pieces, so that a long trace is not in memory twice.
constexpr size_t rows_at_once = 1 << 14;

void write_trace_csv(const std::string& path, const Trace& trace) {
  AtomicFile file(path);
  std::string text = "t_ms,v_mv,u\n";
  for (size_t i = 0; i < trace.t.size(); ++i) {
    fmt::format_to(std::back_inserter(text), "{},{},{}\n", trace.t[i], trace.v[i], trace.u[i]);
    if (i % rows_at_once == 0) file.write(std::as_bytes(std::span(text)), "the trace"), text.clear();
  }
  file.write(std::as_bytes(std::span(text)), "the trace");
  file.commit();
}

void write_trace_npy(const std::string& path, const Trace& trace) {
  std::string header = fmt::format("{{'descr': '<f8', 'fortran_order': False, 'shape': ({}, 3), }}", trace.t.size());
  header += std::string(63 - (10 + header.size()) % 64, ' ') + "\n";
  std::string bytes("\x93NUMPY\x01\x00", 8);
  const auto length = static_cast<uint16_t>(header.size());
  bytes.append(reinterpret_cast<const char*>(&length), 2);
  bytes += header;
  AtomicFile file(path);
  for (size_t i = 0; i < trace.t.size(); ++i) {
    const double row[3] = {trace.t[i], trace.v[i], trace.u[i]};
    bytes.append(reinterpret_cast<const char*>(row), sizeof row);
    if (i % rows_at_once == 0) file.write(std::as_bytes(std::span(bytes)), "the trace"), bytes.clear();
  }
  file.write(std::as_bytes(std::span(bytes)), "the trace");
  file.commit();
}

void write_spikes_csv(const std::string& path, const std::vector<double>& spikes, int64_t neuron) {
  std::string text = "neuron,time_ms\n";
  for (double time : spikes) fmt::format_to(std::back_inserter(text), "{},{}\n", neuron, time);
  write_text(path, text, "the spikes");
}

Trace read_trace(const std::string& path) { return path.ends_with(".npy") ? read_npy(path) : read_csv(path); }

}  // namespace ranvier::neuron
