// Tolerant readers of JSON, CSV and checkpoints.
#include "tools/view/run_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <fstream>
#include <sstream>

#include "engine/safetensors.h"

namespace ranvier::view {
namespace {

namespace fs = std::filesystem;
constexpr uintmax_t size_limit = 64 << 20;

/// Cells of a line.
std::vector<std::string_view> cells(std::string_view line) {
  std::vector<std::string_view> list;
  while (true) {
    const size_t comma = std::min(line.find(','), line.size());
    list.push_back(line.substr(0, comma));
    if (comma == line.size()) return list;
    line.remove_prefix(comma + 1);
  }
}

std::vector<float> floats_of(const safetensors::File& file, const safetensors::Item& item) {
  const auto bytes = file.read(item);
  const int64_t count = item.type.shape.numel();
  std::vector<float> values(static_cast<size_t>(count));
  safetensors::convert(item.type.dtype, bytes.data(), DType::f32, reinterpret_cast<std::byte*>(values.data()), count);
  return values;
}

}  // namespace

bool RunFiles::has(const char* name) const {
  std::error_code ignored;  // no link either: it could lead out of the run folders
  return fs::is_regular_file(fs::symlink_status(folder_ / name, ignored));
}

std::string RunFiles::text(const char* name) {
  if (!has(name)) return {};
  std::error_code error;
  const uintmax_t size = fs::file_size(folder_ / name, error);
  if (!error && size > size_limit) {
    problem(fmt::format("{}: {} MB are more than a page shows", name, size >> 20));
    return {};
  }
  std::ifstream file(folder_ / name, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  if (!file) problem(fmt::format("{}: cannot be read", name));
  return content.str();
}

Json RunFiles::object(const char* name) {
  const std::string content = text(name);
  if (content.empty()) {
    if (has(name)) problem(fmt::format("{}: empty", name));
    return nullptr;
  }
  Json parsed = Json::parse(content, nullptr, false);
  if (parsed.is_object()) return parsed;
  problem(fmt::format("{}: half-written or no JSON object", name));
  return nullptr;
}

std::vector<Json> RunFiles::lines(const char* name) {
  std::vector<Json> list;
  const std::string content = text(name);
  int64_t number = 0;
  for (size_t at = 0; at < content.size();) {
    const size_t end = content.find('\n', at);
    ++number;
    Json parsed = Json::parse(content.substr(at, end == std::string::npos ? end : end - at), nullptr, false);
    if (parsed.is_object())
      list.push_back(std::move(parsed));
    else
      problem(end == std::string::npos ? fmt::format("{}: line {} is half-written", name, number)
                                       : fmt::format("{}: line {} is no JSON object", name, number));
    if (end == std::string::npos) break;
    at = end + 1;
  }
  return list;
}

const std::vector<double>* RunFiles::Table::find(std::string_view name) const {
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return &columns[i];
  return nullptr;
}

void RunFiles::Table::thin(std::string_view by, size_t most) {
  const std::vector<double>* key = find(by);
  if (!key || rows() <= most) return;
  const size_t count = most / 2, all = rows();
  std::vector<size_t> kept{0};
  for (size_t k = 0; k < count; ++k) {
    const auto from = key->begin() + static_cast<std::ptrdiff_t>(all * k / count);
    const auto to = key->begin() + static_cast<std::ptrdiff_t>(all * (k + 1) / count);
    const auto [low, high] = std::minmax_element(from, to);
    kept.push_back(static_cast<size_t>(low - key->begin())), kept.push_back(static_cast<size_t>(high - key->begin()));
  }
  kept.push_back(all - 1);
  std::sort(kept.begin(), kept.end());
  kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
  for (std::vector<double>& column : columns) {
    std::vector<double> thinned;
    for (const size_t row : kept) thinned.push_back(column[row]);
    column = std::move(thinned);
  }
}

RunFiles::Table RunFiles::table(const char* name) {
  Table result;
  const std::string content = text(name);
  std::string_view rest = content;
  int64_t number = 0, left_out = 0;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const bool whole = end != std::string_view::npos;
    std::string_view line = rest.substr(0, whole ? end : rest.size());
    rest.remove_prefix(whole ? end + 1 : rest.size());
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (++number == 1) {
      for (const std::string_view cell : cells(line)) result.names.emplace_back(cell);
      result.columns.resize(result.names.size());
      continue;
    }
    if (line.empty()) continue;
    const auto parts = cells(line);
    std::vector<double> row;
    for (const std::string_view part : parts) {
      double value = 0;
      const auto parsed = std::from_chars(part.data(), part.data() + part.size(), value);
      if (parsed.ec == std::errc{} && parsed.ptr == part.data() + part.size()) row.push_back(value);
    }
    if (!whole || row.size() != result.names.size() || parts.size() != row.size()) {
      if (left_out++ == 0)
        problem(fmt::format("{}: line {} is {}", name, number, whole ? "no row of numbers" : "half-written"));
      continue;
    }
    for (size_t k = 0; k < row.size(); ++k) result.columns[k].push_back(row[k]);
  }
  return result;
}

Json RunFiles::filters(const char* name) {
  if (!has(name)) return nullptr;
  try {
    const safetensors::File file((folder_ / name).string());
    for (const safetensors::Item& item : file.header().items) {
      const auto& shape = item.type.shape;  // (K, R, S, 3)
      if (shape.rank() != 4 || shape[3] != 3 || shape[0] > 512 || shape[1] > 16 || shape[2] > 16) continue;
      if (item.name.find("parameters") == std::string::npos && item.name.find("ema") == std::string::npos &&
          item.name.find("weight") == std::string::npos)
        continue;
      const std::vector<float> values = floats_of(file, item);
      std::vector<int> shown;
      const size_t each = values.size() / static_cast<size_t>(shape[0]);
      for (size_t k = 0; k < static_cast<size_t>(shape[0]); ++k) {  // grey is 0; the largest weight spans the range
        const auto own = std::span(values).subspan(k * each, each);
        float most = 1e-12f;
        for (const float w : own) most = std::max(most, std::abs(w));
        for (const float w : own) shown.push_back(static_cast<int>(std::lround(127.5f + 127.5f * w / most)));
      }
      return {{"tensor", item.name}, {"count", shape[0]}, {"height", shape[1]}, {"width", shape[2]}, {"values", shown}};
    }
  } catch (const std::exception& error) {
    problem(fmt::format("{}: {}", name, error.what()));
  }
  return nullptr;
}

Json RunFiles::coupling(const char* name) {
  if (!has(name)) return nullptr;
  Json layers = Json::array();
  try {
    const safetensors::File file((folder_ / name).string());
    for (const safetensors::Item& item : file.header().items) {
      constexpr std::string_view ending = ".coupling.positions", fixed = "buffers/";
      const auto& shape = item.type.shape;  // (units, axes)
      if (!item.name.ends_with(ending) || shape.rank() != 2 || shape[0] > 4096 || shape[1] > 3) continue;
      const std::string stem = item.name.substr(0, item.name.size() - std::string_view("positions").size());
      const bool is_fixed = stem.starts_with(fixed);
      if (!is_fixed && stem.find('/') != std::string::npos) continue;  // an optimizer's, not the layer's own
      const auto* size = file.header().find(stem + "log_size");
      const auto* myelin = file.header().find(stem + "logit_myelin");
      const auto fits = [&](const auto* of) {
        return of && of->type.shape.rank() == 1 && of->type.shape[0] == shape[0];
      };
      if (!fits(size) || !fits(myelin)) continue;
      const std::vector<float> places = floats_of(file, item);
      Json layer = {
          {"name", item.name.substr(is_fixed ? fixed.size() : 0)}, {"axes", shape[1]}, {"learned", !is_fixed}};
      auto text = layer["name"].get<std::string>();
      layer["name"] = text.substr(0, text.size() - ending.size());
      for (size_t axis = 0; axis < static_cast<size_t>(shape[1]); ++axis)
        for (size_t i = axis; i < places.size(); i += static_cast<size_t>(shape[1]))
          layer[std::string(1, "xyz"[axis])].push_back(places[i]);
      for (const float value : floats_of(file, *size)) layer["size"].push_back(std::exp(value));
      for (const float value : floats_of(file, *myelin)) layer["myelin"].push_back(1 / (1 + std::exp(-value)));
      layers.push_back(std::move(layer));
    }
  } catch (const std::exception& error) {
    problem(fmt::format("{}: {}", name, error.what()));
  }
  return layers.empty() ? Json() : layers;
}

double RunFiles::age() const {
  std::error_code error;
  fs::file_time_type newest = fs::file_time_type::min();
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    const auto time = fs::last_write_time(entry.path(), error);
    if (!error) newest = std::max(newest, time);
  }
  if (newest == fs::file_time_type::min()) return INFINITY;
  return std::chrono::duration<double>(fs::file_time_type::clock::now() - newest).count();
}

}  // namespace ranvier::view
