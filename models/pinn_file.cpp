// A solution on disk: its networks in one safetensors file, with the architecture that they belong to.
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>

#include "engine/safetensors.h"
#include "models/pinn.h"

namespace ranvier::pinn {
namespace {

constexpr const char* kind = "ranvier.pinn.windows";
constexpr int64_t segment_columns = 9;

/// The parameters of a neuron in the order they are stored in.
std::vector<double> packed(const Neuron& n) {
  return {n.C, n.q2, n.q1, n.q0, n.a, n.b, n.v_b, n.c, n.d, n.v_peak, n.v0, n.u0};
}

safetensors::Source source(std::string name, Shape shape, std::vector<double> values) {
  return {std::move(name), {DType::f64, shape}, [values = std::move(values)](std::byte* to) {
            if (!values.empty()) std::memcpy(to, values.data(), values.size() * sizeof(double));  // no null pointers
          }};
}

/// The f64 tensor of that name; -1 in `shape` matches any extent.
std::vector<double> tensor(const safetensors::File& file, const std::string& name, const std::vector<int64_t>& shape) {
  const safetensors::Item* item = file.header().find(name);
  if (!item) fail("{}: no tensor {}", file.path(), safetensors::in_quotes(name));
  bool fits = item->type.dtype == DType::f64 && item->type.shape.rank() == static_cast<int>(shape.size());
  for (size_t axis = 0; fits && axis < shape.size(); ++axis)
    fits = shape[axis] < 0 || shape[axis] == item->type.shape[static_cast<int>(axis)];
  if (!fits)
    fail("{}: tensor '{}' is {}, this architecture has f64({})", file.path(), name, to_string(item->type),
         fmt::join(shape, ", "));
  const std::vector<std::byte> bytes = file.read(*item);
  std::vector<double> values(bytes.size() / sizeof(double));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

const std::string& text(const safetensors::File& file, const char* key) {
  const auto found = file.header().metadata.find(key);
  if (found == file.header().metadata.end()) fail("{}: is no PINN model: it does not say its '{}'", file.path(), key);
  return found->second;
}

/// Segments as two tensors: `prefix`networks and `prefix`segments.
void add_segments(std::vector<safetensors::Source>& to, const std::string& prefix, std::span<const Segment> segments,
                  int64_t parameters) {
  std::vector<double> networks, rows;
  for (const Segment& s : segments) {
    networks.insert(networks.end(), s.theta.begin(), s.theta.end());
    rows.insert(rows.end(),
                {s.start_ms, s.length_ms, s.current, s.phi0, s.rise, s.u0, s.spike ? 1.0 : 0.0, s.loss, s.fresh_loss});
  }
  const auto count = static_cast<int64_t>(segments.size());
  to.push_back(source(prefix + "networks", {count, parameters}, networks));
  to.push_back(source(prefix + "segments", {count, segment_columns}, rows));
}

std::vector<Segment> read_segments(const safetensors::File& file, const std::string& prefix, int64_t parameters) {
  const auto rows = tensor(file, prefix + "segments", {-1, segment_columns});
  const auto count = static_cast<int64_t>(rows.size()) / segment_columns;
  const auto networks = tensor(file, prefix + "networks", {count, parameters});
  std::vector<Segment> segments;
  for (int64_t k = 0; k < count; ++k) {
    const double* r = &rows[static_cast<size_t>(k * segment_columns)];
    Segment s;
    s.start_ms = r[0], s.length_ms = r[1], s.current = r[2], s.phi0 = r[3], s.rise = r[4], s.u0 = r[5];
    s.spike = r[6] != 0, s.loss = r[7], s.fresh_loss = r[8];
    s.theta.assign(networks.begin() + k * parameters, networks.begin() + (k + 1) * parameters);
    segments.push_back(std::move(s));
  }
  return segments;
}

}  // namespace

void Solution::save(const std::string& path) const {
  std::vector<double> steps;
  for (const Current::Step& s : current.steps) steps.insert(steps.end(), {s.t_ms, s.value});
  std::vector<safetensors::Source> sources;
  add_segments(sources, "", segments, shape.parameters());
  if (unmet) add_segments(sources, "unmet_", std::span(&*unmet, 1), shape.parameters());
  sources.push_back(source("spike_times_ms", {static_cast<int64_t>(spike_times_ms.size())}, spike_times_ms));
  sources.push_back(source("current", {static_cast<int64_t>(current.steps.size()), 2}, steps));
  sources.push_back(source("neuron", {12}, packed(neuron)));
  sources.push_back(source("frame", {4}, {A_mv, u_scale, duration_ms, reached_ms}));
  const nlohmann::ordered_json architecture = {{"widths", shape.widths}, {"activation", "tanh"}, {"form", "theta"}};
  safetensors::write(path,
                     {{"format", kind},
                      {"architecture", architecture.dump()},
                      {"neuron", neuron.name},
                      {"segment_columns", "start_ms length_ms current phi0 rise u0 spike loss fresh_loss"},
                      {"neuron_columns", "C q2 q1 q0 a b v_b c d v_peak v0 u0"},
                      {"failure", failure}},
                     sources);
}

Solution Solution::load(const std::string& path) {
  const safetensors::File file(path);
  if (text(file, "format") != kind)
    fail("{}: is a {} file, wanted {}", path, safetensors::in_quotes(text(file, "format")), kind);
  Solution solution;
  const auto architecture = nlohmann::json::parse(text(file, "architecture"), nullptr, false);
  if (!architecture.is_object() || !architecture.contains("widths") || !architecture["widths"].is_array() ||
      architecture.value("activation", "") != "tanh" || architecture.value("form", "") != "theta")
    fail("{}: unknown architecture {}", path, safetensors::in_quotes(text(file, "architecture")));
  for (const auto& width : architecture["widths"]) {
    if (!width.is_number_integer() || width.get<int64_t>() < 1 || width.get<int64_t>() > 65536)
      fail("{}: a layer's width is {}", path, safetensors::in_quotes(width.dump()));
    solution.shape.widths.push_back(width.get<int64_t>());
  }
  if (solution.shape.widths.size() < 2 || solution.shape.widths.front() != 1 || solution.shape.widths.back() != 2)
    fail("{}: a segment's network maps 1 input to 2 outputs, this one has widths {}", path,
         fmt::join(solution.shape.widths, "-"));
  solution.segments = read_segments(file, "", solution.shape.parameters());
  if (file.header().find("unmet_segments")) {
    const auto unmet = read_segments(file, "unmet_", solution.shape.parameters());
    if (unmet.size() != 1) fail("{}: {} networks of a failed window, one at most can be", path, unmet.size());
    solution.unmet = unmet.front();
  }
  solution.spike_times_ms = tensor(file, "spike_times_ms", {-1});
  const auto steps = tensor(file, "current", {-1, 2});
  solution.current.steps.clear();
  for (size_t k = 0; k + 1 < steps.size(); k += 2) solution.current.steps.push_back({steps[k], steps[k + 1]});
  const auto p = tensor(file, "neuron", {12});
  solution.neuron = {text(file, "neuron"), p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11]};
  const auto frame = tensor(file, "frame", {4});
  solution.A_mv = frame[0], solution.u_scale = frame[1], solution.duration_ms = frame[2],
  solution.reached_ms = frame[3];
  solution.failure = text(file, "failure");
  return solution;
}

}  // namespace ranvier::pinn
