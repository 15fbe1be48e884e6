// Lists of synapses from files: CSV, and SONATA's HDF5 where the library was there at configure time.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <sstream>

#include "models/neurons/connectivity.h"
#include "models/neurons/presets.h"
#if defined(RANVIER_HAS_HDF5)
#include <hdf5.h>
#endif

namespace ranvier::neuron {
namespace {

double constant_of(const Draw& d, const std::string& path, const char* column) {
  if (d.kind != Draw::Kind::constant) fail("{}: has no {}, and the projection's is no constant", path, column);
  return d.a;
}

uint32_t index_of(std::string_view text, const std::string& where) {
  uint32_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size())
    fail("{}: '{}' is not a neuron's number", where, text);
  return value;
}

void refuse_twice(bool given, const std::string& path, const char* column, const char* key) {
  if (given) fail("{}: has the column {}: {} of the projection has no effect", path, column, key);
}

std::vector<std::string> columns_of(std::string line) {
  if (!line.empty() && line.back() == '\r') line.pop_back();
  std::vector<std::string> items;
  std::stringstream stream(line);
  for (std::string item; std::getline(stream, item, ',');) items.push_back(item);
  return items;
}

}  // namespace

uint64_t edges_in_csv(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("{}: cannot be read", path);
  std::vector<char> piece(1 << 20);
  uint64_t lines = 0;
  do {
    file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    lines += static_cast<uint64_t>(std::count(piece.begin(), piece.begin() + file.gcount(), '\n'));
  } while (file);
  return lines;
}

Connections read_edges_csv(const std::string& path, const ConnectSpec& spec) {
  std::ifstream file(path);
  if (!file) fail("{}: cannot be read", path);
  std::string line;
  std::getline(file, line);
  const auto heading = columns_of(line);
  const std::vector<std::string> known = {"source", "target", "weight", "delay_ms"};
  if (heading.size() < 2 || heading.size() > 4 || !std::equal(heading.begin(), heading.end(), known.begin()))
    fail("{}:1: the heading is not source,target[,weight[,delay_ms]]", path);
  const double weight = heading.size() > 2 ? 0 : constant_of(spec.weight, path, "weight");
  const double delay = heading.size() > 3 ? 0 : constant_of(spec.delay, path, "delay_ms");
  if (heading.size() > 2) refuse_twice(spec.weight_given, path, "weight", "weight");
  if (heading.size() > 3) refuse_twice(spec.delay_given, path, "delay_ms", "delay_ms");
  std::vector<Edge> edges;
  for (int64_t number_of_line = 2; std::getline(file, line); ++number_of_line) {
    if ((line.empty() || line == "\r") && file.peek() == std::ifstream::traits_type::eof()) break;  // a last blank line
    const std::string where = fmt::format("{}:{}", path, number_of_line);
    const auto items = columns_of(line);
    if (items.size() != heading.size())
      fail("{}: {} columns where the heading has {}", where, items.size(), heading.size());
    edges.push_back({index_of(items[0], where), index_of(items[1], where),
                     static_cast<float>(items.size() > 2 ? number(items[2], where) : weight),
                     items.size() > 3 ? number(items[3], where) : delay});
  }
  return from_edges(edges, spec, path, 2);
}

#if defined(RANVIER_HAS_HDF5)
namespace {

/// An HDF5 handle, closed at the end.
struct Handle {
  hid_t id;
  herr_t (*close)(hid_t);
  Handle(hid_t id, herr_t (*close)(hid_t)) : id(id), close(close) {}
  Handle(const Handle&) = delete;
  ~Handle() {
    if (id >= 0) close(id);
  }
};

template <class T>
std::vector<T> read_column(hid_t file, const std::string& name, hid_t type, const std::string& path) {
  const Handle data(H5Dopen2(file, name.c_str(), H5P_DEFAULT), H5Dclose);
  if (data.id < 0) fail("{}: has no {}", path, name);
  const Handle space(H5Dget_space(data.id), H5Sclose);
  if (H5Sget_simple_extent_ndims(space.id) != 1) fail("{}: {} is not one column", path, name);
  std::vector<T> values(static_cast<size_t>(H5Sget_simple_extent_npoints(space.id)));
  if (H5Dread(data.id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0)
    fail("{}: {} cannot be read", path, name);
  return values;
}

std::string only_population(hid_t file, const std::string& path) {
  const Handle group(H5Gopen2(file, "/edges", H5P_DEFAULT), H5Gclose);
  if (group.id < 0) fail("{}: has no /edges: no SONATA edge file", path);
  H5G_info_t info;
  if (H5Gget_info(group.id, &info) < 0 || info.nlinks != 1) fail("{}: name one of its edge populations", path);
  char name[256];
  H5Lget_name_by_idx(group.id, ".", H5_INDEX_NAME, H5_ITER_INC, 0, name, sizeof name, H5P_DEFAULT);
  return name;
}

bool there(hid_t file, const std::string& group, const char* name) {
  return H5Lexists(file, group.c_str(), H5P_DEFAULT) > 0 && H5Lexists(file, (group + name).c_str(), H5P_DEFAULT) > 0;
}

/// Attributes of edge i are row edge_group_index[i] of group edge_group_id[i]; files without both have them in order.
void check_groups(hid_t file, const std::string& base, size_t edges, const std::string& path) {
  const bool known[] = {there(file, base, "/edge_group_id"), there(file, base, "/edge_group_index")};
  if (there(file, base, "/1")) fail("{}: {} has a second group of attributes: one, 0, is read", path, base);
  for (const bool index : {false, true}) {
    if (!known[index]) continue;
    const char* name = index ? "/edge_group_index" : "/edge_group_id";
    const auto rows = read_column<int64_t>(file, base + name, H5T_NATIVE_INT64, path);
    if (rows.size() != edges) fail("{}: {}{} has {} rows for {} edges", path, base, name, rows.size(), edges);
    for (size_t i = 0; i < rows.size(); ++i)
      if (rows[i] != (index ? static_cast<int64_t>(i) : 0))
        fail("{}: {}{} is {} in row {}: attributes are read in the order of the edges, from group 0", path, base, name,
             rows[i], i);
  }
}

/// The edges' group, and the open file.
std::string edges_of(const Handle& file, const std::string& population, const std::string& path) {
  if (file.id < 0) fail("{}: is no HDF5 file", path);
  return "/edges/" + (population.empty() ? only_population(file.id, path) : population);
}

}  // namespace

uint64_t edges_in_sonata(const std::string& path, const std::string& population) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // our own messages name the file
  const Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
  const std::string name = edges_of(file, population, path) + "/source_node_id";
  const Handle data(H5Dopen2(file.id, name.c_str(), H5P_DEFAULT), H5Dclose);
  if (data.id < 0) fail("{}: has no {}", path, name);
  const Handle space(H5Dget_space(data.id), H5Sclose);
  return static_cast<uint64_t>(std::max<hssize_t>(0, H5Sget_simple_extent_npoints(space.id)));
}

Connections read_edges_sonata(const std::string& path, const std::string& population, const ConnectSpec& spec) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // our own messages name the file
  const Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose);
  const std::string base = edges_of(file, population, path);
  const auto sources = read_column<int64_t>(file.id, base + "/source_node_id", H5T_NATIVE_INT64, path);
  const auto targets = read_column<int64_t>(file.id, base + "/target_node_id", H5T_NATIVE_INT64, path);
  if (sources.size() != targets.size()) fail("{}: {} sources and {} targets", path, sources.size(), targets.size());
  check_groups(file.id, base, sources.size(), path);
  std::vector<double> weight, delay;
  if (there(file.id, base + "/0", "/syn_weight"))
    weight = read_column<double>(file.id, base + "/0/syn_weight", H5T_NATIVE_DOUBLE, path);
  if (there(file.id, base + "/0", "/delay"))
    delay = read_column<double>(file.id, base + "/0/delay", H5T_NATIVE_DOUBLE, path);
  if (!weight.empty()) refuse_twice(spec.weight_given, path, "syn_weight", "weight");
  if (!delay.empty()) refuse_twice(spec.delay_given, path, "delay", "delay_ms");
  if (weight.empty()) weight.assign(sources.size(), constant_of(spec.weight, path, "0/syn_weight"));
  if (delay.empty()) delay.assign(sources.size(), constant_of(spec.delay, path, "0/delay"));
  if (weight.size() != sources.size() || delay.size() != sources.size())
    fail("{}: {} edges with {} weights and {} delays", path, sources.size(), weight.size(), delay.size());
  std::vector<Edge> edges(sources.size());
  for (size_t i = 0; i < edges.size(); ++i) {
    if (sources[i] < 0 || sources[i] >= spec.sources || targets[i] < 0 || targets[i] >= spec.targets)
      fail("{}: row {}: {} to {}, of {} and {} neurons", path, i, sources[i], targets[i], spec.sources, spec.targets);
    edges[i] = {static_cast<uint32_t>(sources[i]), static_cast<uint32_t>(targets[i]), static_cast<float>(weight[i]),
                delay[i]};
  }
  return from_edges(edges, spec, path, 0);
}
#else
uint64_t edges_in_sonata(const std::string& path, const std::string&) {
  fail("{}: this build has no HDF5 (libhdf5-dev)", path);
}
Connections read_edges_sonata(const std::string& path, const std::string&, const ConnectSpec&) {
  fail("{}: this build has no HDF5 (libhdf5-dev)", path);
}
#endif

}  // namespace ranvier::neuron
