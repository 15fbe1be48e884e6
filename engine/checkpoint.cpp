// Saving and loading of slabs: everything is checked and read before the first entry changes.
#include "engine/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "engine/regex.h"

namespace ranvier::checkpoint {
namespace {

using safetensors::Header;
using safetensors::in_quotes;
using safetensors::Item;

std::string name_in_file(const Entry& entry) {
  return entry.slab == "parameters" ? entry.name : entry.slab + "/" + entry.name;
}

std::string slab_of(std::string_view name_in_file) {
  const size_t slash = name_in_file.find('/');
  return slash == std::string_view::npos ? "parameters" : std::string(name_in_file.substr(0, slash));
}

bool is_ours(const Header& header) {
  const auto format = header.metadata.find("format");
  return format != header.metadata.end() && format->second == "ranvier";
}

std::string model_of(const Metadata& metadata) {
  const auto model = metadata.find("model");
  return model == metadata.end() ? "" : model->second;
}

/// Refuses what `save` did not write, or wrote of another model.
void check_origin(const std::string& path, const Header& header, const LoadOptions& options) {
  if (!is_ours(header))
    fail("{}: is not a Ranvier checkpoint (its metadata says no such format); its weights may be loaded as such", path);
  const auto version = header.metadata.find("version");
  if (version == header.metadata.end() || version->second != "1")
    fail("{}: has checkpoint version {}, this program reads version '1'", path,
         version == header.metadata.end() ? "none" : in_quotes(version->second));
  const std::string model = model_of(header.metadata);
  if (!options.model.empty() && !model.empty() && model != options.model)
    fail("{}: is a checkpoint of model {}, not of {}", path, in_quotes(model), in_quotes(options.model));
}

/// Contents for an entry, read and converted but not yet in the state.
struct Pending {
  uint32_t entry;
  std::vector<std::byte> bytes;
};

void put(State& state, const std::vector<Pending>& pending) {
  state.materialise();
  for (const Pending& p : pending) state.write(p.entry, p.bytes.data());
}

// ---- weights of other programs ----

/// (a, c, h, w) to (a, h, w, c), elements of `size` bytes.
std::vector<std::byte> channels_last(const std::vector<std::byte>& from, int64_t a, int64_t c, int64_t h, int64_t w,
                                     size_t size) {
  std::vector<std::byte> to(from.size());
  for (int64_t n = 0; n < a; ++n)
    for (int64_t channel = 0; channel < c; ++channel)
      for (int64_t pixel = 0; pixel < h * w; ++pixel)
        std::memcpy(to.data() + static_cast<size_t>((n * h * w + pixel) * c + channel) * size,
                    from.data() + static_cast<size_t>((n * c + channel) * h * w + pixel) * size, size);
  return to;
}

/// A file's tensor under its name here.
struct Mapped {
  const Item* item;
  uint32_t entry;
  std::vector<int64_t> flatten;
};

class WeightLoader {
 public:
  WeightLoader(State& state, const std::string& path, const WeightOptions& options)
      : state_(state), file_(path), options_(options), ours_(is_ours(file_.header())) {}

  WeightReport run() {
    map_names();
    check_found();
    std::vector<Pending> pending;
    for (const Mapped& mapped : mapped_) pending.push_back({mapped.entry, contents(mapped)});
    put(state_, pending);
    return report_;
  }

 private:
  void map_names() {
    std::map<uint32_t, const Item*> taken;
    for (const Item& item : file_.header().items) {
      const std::optional<NamedItem> named = rename(item);
      if (!named) continue;
      const int64_t entry = find(named->name);
      if (entry < 0) {
        const std::string slab = slab_of(named->name);
        const bool chosen = std::find(options_.slabs.begin(), options_.slabs.end(), slab) != options_.slabs.end();
        if (!ours_ || chosen) report_.unused.push_back(item.name);  // our own moments and counters are no weights
        continue;
      }
      const auto [other, fresh] = taken.emplace(static_cast<uint32_t>(entry), &item);
      if (!fresh)
        fail("{}: tensors {} and {} both stand for {}", file_.path(), in_quotes(other->second->name),
             in_quotes(item.name), name_in_file(state_.entry(static_cast<uint32_t>(entry))));
      mapped_.push_back({&item, static_cast<uint32_t>(entry), named->flatten});
      report_.loaded.push_back(item.name);
    }
    for (const std::string& slab : options_.slabs)
      for (uint32_t id : state_.slab(slab))
        if (!taken.count(id)) report_.missing.push_back(name_in_file(state_.entry(id)));
  }

  struct NamedItem {
    std::string name;
    std::vector<int64_t> flatten;
  };

  /// The name here; nothing where a rule says to pass over the tensor.
  std::optional<NamedItem> rename(const Item& item) {
    NamedItem named{item.name, {}};
    for (const NameRule& rule : options_.names) {
      const std::optional<std::string> renamed = apply_rule(rule, named.name);
      if (!renamed) continue;
      if (rule.ignore) return std::nullopt;
      named.name = *renamed;
      if (!rule.flatten.empty()) named.flatten = rule.flatten;
    }
    return named;
  }

  std::optional<std::string> apply_rule(const NameRule& rule, const std::string& name) {
    if (!rule.regex)
      return name.starts_with(rule.from) ? std::optional(rule.to + name.substr(rule.from.size())) : std::nullopt;
    try {
      auto known = expressions_.find(rule.from);
      if (known == expressions_.end()) known = expressions_.emplace(rule.from, user_regex(rule.from)).first;
      if (!std::regex_search(name, known->second)) return std::nullopt;
      return std::regex_replace(name, known->second, rule.to, std::regex_constants::format_first_only);
    } catch (const std::regex_error& error) {
      fail("name map: the expression {} cannot be used: {}", in_quotes(rule.from), error.what());
    }
  }

  int64_t find(const std::string& name) const {
    for (const std::string& slab : options_.slabs) {
      if (const int64_t id = state_.find(slab, name); id >= 0) return id;
      if (name.starts_with(slab + "/"))
        if (const int64_t id = state_.find(slab, name.substr(slab.size() + 1)); id >= 0) return id;
    }
    return -1;
  }

  void check_found() const {
    const auto list = [](const std::vector<std::string>& names) {
      std::string text;
      for (size_t i = 0; i < std::min<size_t>(names.size(), 3); ++i) text += (i ? ", " : "") + in_quotes(names[i]);
      return text + (names.size() > 3 ? fmt::format(" and {} more", names.size() - 3) : "");
    };
    const std::string model = model_of(file_.header().metadata);
    const std::string says = model.empty() ? "" : fmt::format(" (the file says model {})", in_quotes(model));
    if (mapped_.empty())
      fail("{}: none of its {} tensors is a weight of this model{}; it has {}", file_.path(),
           file_.header().items.size(), says, report_.unused.empty() ? "none" : list(report_.unused));
    if (options_.strict && !report_.missing.empty())
      fail("{}: has no tensor for {}{}", file_.path(), list(report_.missing), says);
    if (options_.strict && !report_.unused.empty())
      fail("{}: this model has no place for {}{}", file_.path(), list(report_.unused), says);
  }

  std::vector<std::byte> contents(const Mapped& mapped) const {
    const Item& item = *mapped.item;
    const Entry& entry = state_.entry(mapped.entry);
    const Shape& shape = item.type.shape;
    const size_t size = size_of(item.type.dtype);
    const bool permute =
        shape.rank() == 4 && (options_.layout == Layout::oihw || (options_.layout == Layout::from_file && !ours_));
    const Shape here = permute ? Shape{shape[0], shape[2], shape[3], shape[1]} : shape;
    const bool same_type = item.type.dtype == entry.type.dtype;
    const bool converts = is_floating(item.type.dtype) && is_floating(entry.type.dtype);
    if (here != entry.type.shape || (!same_type && !converts))
      fail("{}: tensor {} at offset {} is {}{}, {} needs {}; a rule of the name map may ignore it", file_.path(),
           in_quotes(item.name), item.begin, to_string(item.type), permute ? " in OIHW order" : "", name_in_file(entry),
           to_string(entry.type));
    std::vector<std::byte> bytes = file_.read(item);
    if (permute) bytes = channels_last(bytes, shape[0], shape[1], shape[2], shape[3], size);
    if (!mapped.flatten.empty() && shape.rank() == 2) {
      const std::vector<int64_t>& f = mapped.flatten;
      int64_t columns = 1;
      bool sound = f.size() == 3;
      for (int64_t extent : f) sound = sound && extent > 0 && !__builtin_mul_overflow(columns, extent, &columns);
      if (!sound || columns != shape[1]) {
        std::string extents;
        for (int64_t extent : f) extents += (extents.empty() ? "" : ", ") + std::to_string(extent);
        fail("{}: tensor {} is {}, which a flatten of [{}] does not fit", file_.path(), in_quotes(item.name),
             to_string(item.type), extents);
      }
      bytes = channels_last(bytes, shape[0], f[0], f[1], f[2], size);
    }
    if (same_type) return bytes;
    std::vector<std::byte> converted(entry.type.bytes());
    safetensors::convert(item.type.dtype, bytes.data(), entry.type.dtype, converted.data(), shape.numel());
    return converted;
  }

  State& state_;
  safetensors::File file_;
  const WeightOptions& options_;
  bool ours_;
  std::map<std::string, std::regex> expressions_;
  std::vector<Mapped> mapped_;
  WeightReport report_;
};

}  // namespace

void save(State& state, const std::string& path, const Metadata& metadata) {
  Metadata all = {{"format", "ranvier"}, {"layout", "KRSC"}, {"version", "1"}};
  for (const auto& [key, value] : metadata)
    if (!all.emplace(key, value).second) fail("{}: the metadata key {} is taken", path, in_quotes(key));
  state.materialise();
  std::vector<safetensors::Source> sources;
  for (uint32_t id = 0; id < state.entries().size(); ++id)
    if (state.entry(id).slab != feed_slab)
      sources.push_back(
          {name_in_file(state.entry(id)), state.entry(id).type, [&state, id](std::byte* to) { state.read(id, to); }});
  safetensors::write(path, all, sources);
}

Metadata load(State& state, const std::string& path, const LoadOptions& options) {
  const safetensors::File file(path);
  const Header& header = file.header();
  check_origin(path, header, options);
  const std::string model = model_of(header.metadata);
  const std::string says = model.empty() ? "" : fmt::format(" (the file says model {})", in_quotes(model));
  const auto chosen = [&](const std::string& slab) {
    if (slab == feed_slab) return false;
    return options.slabs.empty() || std::find(options.slabs.begin(), options.slabs.end(), slab) != options.slabs.end();
  };
  std::vector<std::pair<uint32_t, const Item*>> pairs;
  std::set<std::string> expected;
  for (uint32_t id = 0; id < state.entries().size(); ++id) {
    const Entry& entry = state.entry(id);
    if (!chosen(entry.slab)) continue;
    const std::string name = name_in_file(entry);
    const Item* item = header.find(name);
    if (!item) fail("{}: has no tensor {}, which this model needs{}", path, in_quotes(name), says);
    if (item->type != entry.type)
      fail("{}: tensor {} at offset {} is {}, this model needs {}{}", path, in_quotes(name), item->begin,
           to_string(item->type), to_string(entry.type), says);
    expected.insert(name);
    pairs.emplace_back(id, item);
  }
  for (const Item& item : header.items)
    if (!expected.count(item.name) && chosen(slab_of(item.name)))
      fail("{}: tensor {} at offset {} has no place in this model{}", path, in_quotes(item.name), item.begin, says);
  std::vector<Pending> pending;
  for (const auto& [id, item] : pairs) pending.push_back({id, file.read(*item)});
  put(state, pending);
  return header.metadata;
}

Metadata read_metadata(const std::string& path) { return safetensors::File(path).header().metadata; }

WeightReport load_weights(State& state, const std::string& path, const WeightOptions& options) {
  return WeightLoader(state, path, options).run();
}

}  // namespace ranvier::checkpoint
