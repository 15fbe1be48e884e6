// Writing and reading of traces.
#include "models/neurons/files.h"

#include <bit>
#include <cstring>
#include <fstream>
#include <sstream>

#include "engine/atomic_file.h"
#include "models/neurons/npy.h"
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

template <class T>
void widen(const char* from, std::vector<double>& to) {
  for (size_t i = 0; i < to.size(); ++i) {
    T value;
    std::memcpy(&value, from + i * sizeof(T), sizeof value);
    to[i] = static_cast<double>(value);
  }
}

NumberArray read_npy_array(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("{}: cannot be read", path);
  std::string bytes((std::istreambuf_iterator<char>(file)), {});
  if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY") != 0 || bytes[6] != 1)
    fail("{}: no NPY file, version 1", path);
  uint16_t length;
  std::memcpy(&length, bytes.data() + 8, 2);
  if (bytes.size() < 10u + length) fail("{}: ends in its header", path);
  const std::string header = bytes.substr(10, length);
  const bool order = header.find("'fortran_order': False") != std::string::npos;
  const auto type = [&](const char* name) { return header.find(name) != std::string::npos; };
  const size_t width = type("'<f8'") || type("'<i8'") ? 8 : type("'<f4'") || type("'<i4'") ? 4 : 0;
  if (!width || !order) fail("{}: not f8, f4, i8 or i4 in C order", path);
  const std::vector<int64_t> shape = header_shape(header, path);
  if (shape.empty() || shape.size() > 2) fail("{}: not of one or two axes", path);
  NumberArray array{static_cast<size_t>(shape[0]), shape.size() > 1 ? static_cast<size_t>(shape[1]) : 1, {}};
  const size_t data = bytes.size() - 10 - length;
  if (shape[0] < 0 || shape.back() < 0 || (array.columns && array.rows != data / width / array.columns) ||
      array.rows * array.columns * width != data)
    fail("{}: {} bytes are not {} x {} values", path, data, array.rows, array.columns);
  array.values.resize(array.rows * array.columns);
  const char* from = bytes.data() + 10 + length;
  if (type("'<f8'")) widen<double>(from, array.values);
  if (type("'<f4'")) widen<float>(from, array.values);
  if (type("'<i8'")) widen<int64_t>(from, array.values);
  if (type("'<i4'")) widen<int32_t>(from, array.values);
  return array;
}

Trace read_npy(const std::string& path) {
  const NumberArray array = read_npy_array(path);
  if (array.columns != 3) fail("{}: not a trace of shape (N, 3), t v u", path);
  Trace trace;
  for (size_t row = 0; row < array.rows; ++row) {
    const double* values = array.values.data() + 3 * row;
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
  std::string bytes = npy_header("<f8", {trace.t.size(), 3});
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

NumberArray read_array(const std::string& path) {
  if (path.ends_with(".npy")) return read_npy_array(path);
  std::ifstream file(path);
  if (!file) fail("{}: cannot be read", path);
  NumberArray array{0, 0, {}};
  int line_number = 0;
  for (std::string line; std::getline(file, line);) {
    ++line_number;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || line[0] == '#') continue;
    if (array.rows == 0 && line.find_first_of("0123456789") == std::string::npos) continue;  // names
    const std::string where = fmt::format("{}:{}", path, line_number);
    std::stringstream columns(line);
    size_t count = 0;
    for (std::string item; std::getline(columns, item, ','); ++count) array.values.push_back(number(item, where));
    if (array.rows == 0) array.columns = count;
    if (count != array.columns) fail("{}: {} values where the first row has {}", where, count, array.columns);
    ++array.rows;
  }
  if (array.rows == 0) fail("{}: no numbers", path);
  return array;
}

Trace read_trace(const std::string& path) { return path.ends_with(".npy") ? read_npy(path) : read_csv(path); }

}  // namespace ranvier::neuron
