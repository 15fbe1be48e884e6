// Lowering of a trace: pruning, aliases, variants, live ranges, assignments in place, offsets.
#include "engine/plan.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "engine/grad.h"
#include "engine/ops/core.h"

namespace ranvier {
namespace {

/// What "tf32,conv2d=native,reference" asks of an op: its own entry alone, else those that name no op, the last first.
struct Wish {
  std::vector<std::string_view> variants;
  bool by_name = false;
};

Wish wish_for(std::string_view op, std::string_view variants) {
  Wish wish;
  while (!variants.empty()) {
    const size_t comma = variants.find(',');
    const std::string_view item = variants.substr(0, comma);
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos) {
      if (!wish.by_name) wish.variants.insert(wish.variants.begin(), item);
    } else if (item.substr(0, equals) == op) {
      wish = {{item.substr(equals + 1)}, true};
    }
    variants = comma == std::string_view::npos ? std::string_view{} : variants.substr(comma + 1);
  }
  return wish;
}

bool runs(const Variant& variant, const NodeView& node, Backend backend) {
  return variant.backend == backend && (!variant.supports || variant.supports(node));
}

/// The variant of a node: the wished one, else the first that can run; null where none can. A variant that was asked of
/// the op by its name and does not run the node is an error, whether others do or the op would be decomposed.
const Variant* choose(const NodeView& node, const PlanOptions& options) {
  std::vector<const Variant*> able;
  for (const Variant& variant : node.op->variants)
    if (runs(variant, node, options.device.backend)) able.push_back(&variant);
  const Wish wish = wish_for(node.op->name, options.variants);
  for (const std::string_view name : wish.variants)
    for (const Variant* variant : able)
      if (name == variant->name) return variant;
  if (wish.by_name) {
    std::string known;
    for (const Variant* variant : able) known += fmt::format(" {}", variant->name);
    fail_at(node.where, "--variant {}={}: no such variant runs {} on {}; these do:{}", node.op->name, wish.variants[0],
            node.out.empty() ? "it" : to_string(node.out[0]), name_of(options.device.backend),
            known.empty() ? " none" : known);
  }
  return able.empty() ? nullptr : able[0];
}

/// Builds a Plan from a trace; one object a plan.
class Planner {
 public:
  Planner(Graph& graph, const PlanOptions& options) : graph_(graph), options_(options) {}

  Plan run(std::span<const Tensor> outputs) {
    lower(outputs);
    finish_graph_values(outputs);
    if (options_.fuse)
      fuse_pointwise(plan_.steps, plan_.values, kept(),
                     [&](const OpDef& op) { return wish_for(op.name, options_.variants).by_name; });
    choose_variants();
    renumber();
    snapshot_overwritten_state();
    live_ranges();
    assign_in_place();
    share_in_place();
    lay_out();
    return std::move(plan_);
  }

 private:
  // ---- lowering ----
  void lower(std::span<const Tensor> outputs) {
    std::vector<bool> wanted(graph_.size(), false);
    for (const Tensor& output : outputs) wanted[output.value.node] = true;
    for (uint32_t id = 0; id < graph_.size(); ++id)  // an input may always be set, even where nothing reads it
      if (graph_.node(id).op == &core::input_op) wanted[id] = true;
    for (uint32_t effect : graph_.effects()) wanted[effect] = true;
    const auto traced = static_cast<uint32_t>(graph_.size());
    for (uint32_t id = traced; id-- > 0;)
      if (wanted[id])
        for (const Value& in : graph_.inputs(id)) wanted[in.node] = true;
    for (uint32_t id = 0; id < traced; ++id)
      if (wanted[id] && !graph_.node(id).op->effect) lower_node(id);
  }

  uint32_t value_of(Value value) {
    if (!lowered_.count(value.node)) lower_node(value.node);
    return lowered_.at(value.node)[value.out];
  }

  void lower_node(uint32_t id) {
    if (lowered_.count(id)) return;
    const OpDef* op = graph_.node(id).op;
    if (op == &core::input_op || op == &core::read_op || op == &core::constant_op) {
      lowered_[id] = {leaf(id)};
    } else if (op->view) {
      const uint32_t source = value_of(graph_.inputs(id)[0]);
      lowered_[id] = {add_value(graph_.type({id, 0}), plan_.values[source].storage, plan_.values[source].producer)};
    } else {
      lower_step(id);
    }
  }

  void lower_step(uint32_t id) {
    PlanStep step;
    {
      const Node& node = graph_.node(id);
      step.op = node.op;
      step.attrs = node.attrs;
      step.scope = node.scope;
      step.where = node.where;
      for (const Value& in : graph_.inputs(id)) step.in_types.push_back(graph_.type(in));
      step.out_types.assign(graph_.output_types(id).begin(), graph_.output_types(id).end());
    }
    if (step.op->decompose && (options_.decompose || !choose(step.view(), options_))) {
      std::vector<uint32_t> outputs;
      for (const Tensor& part : decomposed(graph_, id)) outputs.push_back(value_of(part.value));
      lowered_[id] = outputs;
      return;
    }
    const std::vector<Value> inputs(graph_.inputs(id).begin(), graph_.inputs(id).end());
    for (const Value& in : inputs) step.in.push_back(value_of(in));
    const auto index = static_cast<int64_t>(plan_.steps.size());
    for (const Type& type : step.out_types) {
      Storage storage;
      storage.bytes = type.bytes();
      step.out.push_back(add_value(type, add_storage(storage), index));
    }
    lowered_[id] = step.out;
    plan_.steps.push_back(std::move(step));
  }

  uint32_t leaf(uint32_t id) {
    const Node& node = graph_.node(id);
    Storage storage;
    const Type type = graph_.type({id, 0});
    storage.bytes = type.bytes();
    if (node.op == &core::constant_op) {
      storage.kind = Storage::Kind::constant;
      storage.elements = node.attrs.bytes().subspan(sizeof(core::Leaf));
    } else if (node.op == &core::read_op) {
      storage.kind = Storage::Kind::state;
      storage.entry = bound(static_cast<uint32_t>(node.attrs.as<core::Leaf>().id), node.where);
      for (uint32_t s = 0; s < plan_.storages.size(); ++s)  // two names may be bound to one entry
        if (plan_.storages[s].kind == Storage::Kind::state && plan_.storages[s].entry == storage.entry)
          return add_value(type, s, -1);
    } else {
      storage.kind = Storage::Kind::input;
      storage.name = graph_.input_name(id);
    }
    return add_value(type, add_storage(storage), -1);
  }

  /// The entry that a trace's entry stands for under the program's bindings.
  uint32_t bound(uint32_t id, const Where& where) {
    const Entry& entry = graph_.state().entry(id);
    const auto it = options_.bindings.find(entry.slab);
    if (it == options_.bindings.end()) return id;
    const int64_t other = graph_.state().find(it->second, entry.name);
    if (other < 0)
      fail_at(where, "slab '{}' is bound to '{}', which has no entry '{}'", entry.slab, it->second, entry.name);
    const Type& type = graph_.state().entry(static_cast<uint32_t>(other)).type;
    if (type != entry.type)
      fail_at(where, "slab '{}' is bound to '{}', where '{}' is {} instead of {}", entry.slab, it->second, entry.name,
              to_string(type), to_string(entry.type));
    return static_cast<uint32_t>(other);
  }

  uint32_t add_storage(Storage storage) {
    plan_.storages.push_back(std::move(storage));
    return static_cast<uint32_t>(plan_.storages.size() - 1);
  }

  uint32_t add_value(const Type& type, uint32_t storage, int64_t producer) {
    plan_.values.push_back({type, storage, producer});
    return static_cast<uint32_t>(plan_.values.size() - 1);
  }

  void finish_graph_values(std::span<const Tensor> outputs) {
    for (const Tensor& output : outputs) plan_.outputs.push_back(value_of(output.value));
    for (uint32_t effect : graph_.effects()) {
      const Node& node = graph_.node(effect);
      const uint32_t entry = bound(static_cast<uint32_t>(node.attrs.as<core::Leaf>().id), node.where);
      if (is_assigned(entry))
        fail_at(node.where, "assign: the bindings of this program give {}/{} two values",
                graph_.state().entry(entry).slab, graph_.state().entry(entry).name);
      plan_.commits.push_back({value_of(graph_.inputs(effect)[0]), entry});
    }
  }

  /// Storages that must exist whatever fusion does, as a mask over values (every alias counts).
  std::vector<bool> kept() const {
    std::vector<bool> storage(plan_.storages.size(), false);
    for (uint32_t value : plan_.outputs) storage[plan_.values[value].storage] = true;
    for (const Commit& commit : plan_.commits) storage[plan_.values[commit.value].storage] = true;
    std::vector<bool> value(plan_.values.size());
    for (size_t v = 0; v < plan_.values.size(); ++v) value[v] = storage[plan_.values[v].storage];
    return value;
  }

  void choose_variants() {
    DeviceContext context{options_.device, options_.prepare ? stream_of(options_.device) : nullptr};
    for (PlanStep& step : plan_.steps) {
      const NodeView node = step.view();
      step.variant = choose(node, options_);
      if (!step.variant)
        fail_at(step.where, "{}: nothing on {} runs {}", step.op->name, name_of(options_.device.backend),
                step.in_types.empty() ? "it" : to_string(step.in_types[0]));
      if (step.variant->prepare && options_.prepare) step.prepared = step.variant->prepare(node, context);
      if (step.variant->workspace && (options_.prepare || !step.variant->prepare))
        step.workspace_bytes = step.variant->workspace(node, step.prepared.get());
      if (step.workspace_bytes) {
        Storage storage;
        storage.bytes = step.workspace_bytes;
        step.workspace = add_storage(storage);
        plan_.largest_workspace = std::max(plan_.largest_workspace, step.workspace_bytes);
      }
    }
  }

  /// Producers as indices into the steps that fusion left.
  void renumber() {
    for (PlanValue& value : plan_.values) value.producer = -1;
    std::vector<int64_t> by_storage(plan_.storages.size(), -1);
    for (size_t s = 0; s < plan_.steps.size(); ++s)
      for (uint32_t out : plan_.steps[s].out) by_storage[plan_.values[out].storage] = static_cast<int64_t>(s);
    for (PlanValue& value : plan_.values) value.producer = by_storage[value.storage];
  }

  // ---- state ----
  bool is_assigned(uint32_t entry) const {
    return std::any_of(plan_.commits.begin(), plan_.commits.end(), [&](const Commit& c) { return c.entry == entry; });
  }

  /// An assigned value that is itself the old content of a slab that changes gets a copy, taken before slabs change; an
  /// output that is a slab's content always does, since the slab may have changed or moved when the output is read.
  void snapshot_overwritten_state() {
    const auto snapshot = [&](uint32_t value, bool always) {
      const Storage& storage = plan_.storages[plan_.values[value].storage];
      if (storage.kind != Storage::Kind::state || (!always && !is_assigned(storage.entry))) return value;
      PlanStep step;
      step.op = &core::copy_op;
      step.scope = "snapshot";
      step.in = {value};
      step.in_types = step.out_types = {plan_.values[value].type};
      step.variant = choose(step.view(), options_);
      Storage copy;
      copy.bytes = storage.bytes;
      const uint32_t result =
          add_value(plan_.values[value].type, add_storage(copy), static_cast<int64_t>(plan_.steps.size()));
      step.out = {result};
      plan_.steps.push_back(std::move(step));
      return result;
    };
    for (uint32_t& output : plan_.outputs) output = snapshot(output, true);
    for (Commit& commit : plan_.commits) commit.value = snapshot(commit.value, false);
  }

  void live_ranges() {
    const auto end = static_cast<int64_t>(plan_.steps.size());
    for (Storage& storage : plan_.storages) storage.first = std::numeric_limits<int64_t>::max(), storage.last = -1;
    const auto touch = [&](uint32_t storage, int64_t at) {
      plan_.storages[storage].first = std::min(plan_.storages[storage].first, at);
      plan_.storages[storage].last = std::max(plan_.storages[storage].last, at);
    };
    for (int64_t s = 0; s < end; ++s) {
      const PlanStep& step = plan_.steps[s];
      for (uint32_t in : step.in) touch(plan_.values[in].storage, s);
      for (uint32_t out : step.out) touch(plan_.values[out].storage, s);
      if (step.workspace_bytes) touch(step.workspace, s);
    }
    for (const Commit& commit : plan_.commits) touch(plan_.values[commit.value].storage, end);
    for (uint32_t output : plan_.outputs) {
      touch(plan_.values[output].storage, end);
      Storage& storage = plan_.storages[plan_.values[output].storage];
      if (storage.kind == Storage::Kind::arena) storage.kind = Storage::Kind::output;
    }
  }

  /// Lets a step write over an operand that dies in it, where its op allows.
  void share_in_place() {
    for (size_t s = 0; s < plan_.steps.size(); ++s) {
      PlanStep& step = plan_.steps[s];
      const bool first = step.op->in_place == InPlace::first;
      if (!first && (step.op->in_place != InPlace::any_input || step.out.size() != 1)) continue;
      const uint32_t result = plan_.values[step.out[0]].storage;
      if (plan_.storages[result].kind != Storage::Kind::arena) continue;
      for (uint32_t in : step.in) {
        const uint32_t source = plan_.values[in].storage;
        const Storage& operand = plan_.storages[source];
        if (operand.kind != Storage::Kind::arena || operand.last != static_cast<int64_t>(s) || source == result ||
            operand.bytes != plan_.storages[result].bytes || plan_.values[in].type != plan_.values[step.out[0]].type)
          continue;
        if (first && (in != step.in[0] || reads_elsewhere(step, source))) continue;
        plan_.storages[source].last = plan_.storages[result].last;
        for (PlanValue& value : plan_.values)
          if (value.storage == result) value.storage = source;
        plan_.storages[result].bytes = 0;
        plan_.storages[result].last = -1;
        break;
      }
    }
  }

  /// Whether an operand other than the first lies in `storage`.
  bool reads_elsewhere(const PlanStep& step, uint32_t storage) const {
    return std::any_of(step.in.begin() + 1, step.in.end(),
                       [&](uint32_t in) { return plan_.values[in].storage == storage; });
  }

  /// Writes an assigned value straight into its slab where every reader of the old content has run by then.
  void assign_in_place() {
    std::vector<Commit> left;
    for (const Commit& commit : plan_.commits)
      if (!place_in_slab(commit)) left.push_back(commit);
    plan_.commits = left;
  }

  bool place_in_slab(const Commit& commit) {
    const uint32_t target = plan_.values[commit.value].storage;
    Storage& storage = plan_.storages[target];
    const int64_t producer = plan_.values[commit.value].producer;
    if (storage.kind != Storage::Kind::arena || producer < 0 || storage.first != producer) return false;
    for (const Commit& other : plan_.commits)
      if (other.entry != commit.entry && plan_.values[other.value].storage == target) return false;
    for (uint32_t s = 0; s < plan_.storages.size(); ++s) {
      const Storage& old = plan_.storages[s];
      if (old.kind != Storage::Kind::state || old.entry != commit.entry || s == target) continue;
      if (old.last > producer) return false;
      if (old.last == producer && !may_overwrite(plan_.steps[producer], s, target)) return false;
    }
    storage.kind = Storage::Kind::state;
    storage.entry = commit.entry;
    return true;
  }

  bool may_overwrite(const PlanStep& step, uint32_t old, uint32_t target) const {
    for (size_t i = 0; i < step.in.size(); ++i) {
      if (plan_.values[step.in[i]].storage != old) continue;
      if (step.op->in_place == InPlace::never) return false;
      if (step.op->in_place == InPlace::same_position &&
          (i >= step.out.size() || plan_.values[step.out[i]].storage != target))
        return false;
      if (step.op->in_place == InPlace::first && (i > 0 || plan_.values[step.out[0]].storage != target)) return false;
      if (step.op->in_place == InPlace::any_input && plan_.storages[old].bytes != plan_.storages[target].bytes)
        return false;
    }
    return true;
  }

  // ---- memory ----
  void lay_out() {
    std::vector<Storage*> arena;
    for (Storage& storage : plan_.storages) {
      const size_t bytes = aligned(storage.bytes);
      switch (storage.kind) {
        case Storage::Kind::arena:
          if (storage.last >= 0 && storage.bytes) arena.push_back(&storage);
          break;
        case Storage::Kind::output:
          storage.offset = plan_.output_bytes, plan_.output_bytes += bytes;
          break;
        case Storage::Kind::input:
          storage.offset = plan_.input_bytes, plan_.input_bytes += bytes;
          break;
        case Storage::Kind::constant:
          storage.offset = plan_.constant_bytes, plan_.constant_bytes += bytes;
          break;
        case Storage::Kind::state:
          break;
      }
    }
    plan_.peak_live_bytes = live_bound(arena);
    plan_.arena_bytes = place(arena);
    plan_.state_bytes = graph_.state().bytes();
  }

  Graph& graph_;
  const PlanOptions& options_;
  Plan plan_;
  std::unordered_map<uint32_t, std::vector<uint32_t>> lowered_;
};

}  // namespace

Plan make_plan(Graph& graph, std::span<const Tensor> outputs, const PlanOptions& options) {
  std::vector<Tensor> readable(outputs.begin(), outputs.end());
  std::vector<std::string> names;
  for (const auto& [name, value] : graph.probes()) {
    readable.push_back(graph.tensor(value));
    names.push_back(name);
  }
  Plan plan = Planner(graph, options).run(readable);
  plan.probes = std::move(names);
  return plan;
}

std::vector<std::string> steps_without(const Plan& plan, std::string_view variant) {
  std::vector<std::string> names;
  for (const PlanStep& step : plan.steps) {
    if (step.variant->name == variant) continue;
    const bool elsewhere = std::any_of(step.op->variants.begin(), step.op->variants.end(), [&](const Variant& v) {
      return v.backend == step.variant->backend && v.name == variant;
    });
    std::string name = elsewhere && !step.out_types.empty()
                           ? fmt::format("{} {}", step.op->name, to_string(step.out_types[0]))
                           : step.op->name;
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  }
  return names;
}

std::string PlanStep::label() const {
  return fmt::format("{}{}{} {}", scope, scope.empty() ? "" : " ", op->name,
                     out_types.empty() ? "" : to_string(out_types[0].shape));
}

std::string Plan::bill() const {
  const auto mb = [](size_t bytes) { return static_cast<double>(bytes) / 1e6; };
  std::string text;
  text += fmt::format("memory: {:.1f} MB in all\n",
                      mb(arena_bytes + output_bytes + input_bytes + constant_bytes + state_bytes));
  text += fmt::format("  scratch arena      {:9.2f} MB  (largest sum of live bytes {:.2f} MB, ratio {:.3f})\n",
                      mb(arena_bytes), mb(peak_live_bytes),
                      peak_live_bytes ? static_cast<double>(arena_bytes) / static_cast<double>(peak_live_bytes) : 1.0);
  text += fmt::format("  of it workspace    {:9.2f} MB  (the largest of any step)\n", mb(largest_workspace));
  text += fmt::format("  state slabs        {:9.2f} MB\n", mb(state_bytes));
  text += fmt::format("  inputs             {:9.2f} MB\n", mb(input_bytes));
  text += fmt::format("  outputs, constants {:9.2f} MB\n", mb(output_bytes + constant_bytes));
  return text;
}

std::string Plan::text() const {
  std::string text = "step op           variant    live MB  results <- operands  # scope, source line\n";
  for (size_t s = 0; s < steps.size(); ++s) {
    const PlanStep& step = steps[s];
    size_t live = 0;
    for (const Storage& storage : storages)
      if (storage.kind == Storage::Kind::arena && storage.first <= static_cast<int64_t>(s) &&
          storage.last >= static_cast<int64_t>(s))
        live += aligned(storage.bytes);
    text += fmt::format("{:4} {:<12} {:<10} {:8.2f} ", s, step.op->name, step.variant ? step.variant->name : "",
                        static_cast<double>(live) / 1e6);
    for (uint32_t out : step.out) text += " " + to_string(values[out].type);
    text += " <-";
    for (uint32_t in : step.in) text += " " + to_string(values[in].type);
    if (step.workspace_bytes)
      text += fmt::format(" + {:.2f} MB workspace", static_cast<double>(step.workspace_bytes) / 1e6);
    text += fmt::format("  # {} {}\n", step.scope, place(step.where));
  }
  return text;
}

}  // namespace ranvier
