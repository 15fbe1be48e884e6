// Emission with common-subexpression elimination, scopes, and printing of the traced list.
#include "engine/graph.h"

#include "engine/op.h"

namespace ranvier {
namespace {

uint64_t mix(uint64_t hash, const void* data, size_t bytes) {
  const auto* p = static_cast<const unsigned char*>(data);
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ p[i]) * 0x100000001b3ull;
  return hash;
}

uint64_t hash_of(const OpDef* op, const Attrs& attrs, std::span<const Tensor> inputs) {
  uint64_t hash = mix(0xcbf29ce484222325ull, &op, sizeof op);
  hash = mix(hash, attrs.bytes().data(), attrs.bytes().size());
  for (const Tensor& input : inputs) hash = mix(hash, &input.value, sizeof input.value);
  return hash;
}

}  // namespace

std::string_view name_of(Backend backend) { return backend == Backend::cpu ? "cpu" : "cuda"; }

Type Tensor::type() const {
  if (!graph) fail("an empty Tensor has no type: it was never given a value");
  return graph->type(value);
}

Tensor Graph::emit(const OpDef& op, const Attrs& attrs, std::span<const Tensor> inputs, const Where& where) {
  const Where& at = blamed_ ? blamed_->where : where;
  std::vector<Type> in_types;
  in_types.reserve(inputs.size());
  for (const Tensor& input : inputs) {
    if (input.graph != this)
      fail_at(at, "{}: {} belongs to another trace", op.name, input.graph ? "an operand" : "an empty operand");
    in_types.push_back(type(input.value));
  }
  const uint64_t hash = hash_of(&op, attrs, inputs);
  if (!op.effect) {
    auto [first, last] = by_hash_.equal_range(hash);
    for (auto it = first; it != last; ++it) {
      const Node& node = nodes_[it->second];
      const auto in = this->inputs(it->second);
      if (node.op == &op && node.attrs == attrs && in.size() == inputs.size() &&
          std::equal(in.begin(), in.end(), inputs.begin(), [](Value a, const Tensor& b) { return a == b.value; }))
        return {this, {it->second, 0}};
    }
  }
  std::vector<Type> out_types;
  try {
    out_types = op.infer(in_types, attrs);
  } catch (const Error& error) {
    std::string shapes;
    for (const Type& type : in_types) shapes += (shapes.empty() ? "" : ", ") + to_string(type);
    fail_at(at, "{}({}): {}{}{}", op.name, shapes, error.what(), scope_.empty() ? "" : " in scope ", scope_);
  }
  Node node;
  node.op = &op;
  node.attrs = attrs;
  node.first_in = static_cast<uint32_t>(edges_.size());
  node.n_in = static_cast<uint32_t>(inputs.size());
  node.first_out = static_cast<uint32_t>(types_.size());
  node.n_out = static_cast<uint32_t>(out_types.size());
  node.scope = blamed_ ? blamed_->scope : intern(scope_);
  node.where = at;
  for (const Tensor& input : inputs) edges_.push_back(input.value);
  types_.insert(types_.end(), out_types.begin(), out_types.end());
  const auto id = static_cast<uint32_t>(nodes_.size());
  nodes_.push_back(std::move(node));
  if (op.effect)
    effects_.push_back(id);
  else
    by_hash_.emplace(hash, id);
  return {this, {id, 0}};
}

std::string Graph::path(std::string_view name) const {
  return scope_.empty() ? std::string(name) : scope_ + "." + std::string(name);
}

void Graph::claim(const std::string& path, std::string_view what, const Where& where) {
  auto [it, fresh] = claimed_.emplace(fmt::format("{} {}", what, path), place(where));
  if (!fresh)
    fail_at(where, "{} '{}' is already used at {}: give it a name or scope of its own", what, path, it->second);
}

void Graph::blame(uint32_t node, const std::function<void()>& body) {
  const Node copy = nodes_[node];  // nodes_ grows while the body emits
  const Node* previous = blamed_;
  blamed_ = &copy;
  try {
    body();
  } catch (...) {
    blamed_ = previous;
    throw;
  }
  blamed_ = previous;
}

std::string_view Graph::intern(const std::string& text) {
  if (auto it = interned_.find(text); it != interned_.end()) return it->second;
  const std::string& kept = strings_.emplace_back(text);
  interned_.emplace(kept, kept);
  return kept;
}

std::string Graph::text() const {
  std::string text;
  for (uint32_t id = 0; id < nodes_.size(); ++id) {
    const Node& node = nodes_[id];
    text += fmt::format("%{} = {}(", id, node.op->name);
    for (size_t i = 0; const Value& in : inputs(id))
      text += fmt::format("{}%{}{}", i++ ? ", " : "", in.node, in.out ? fmt::format(".{}", in.out) : "");
    text += ") :";
    for (const Type& type : output_types(id)) text += " " + to_string(type);
    text += fmt::format("  # {}{}{}\n", node.scope, node.scope.empty() ? "" : " ", place(node.where));
  }
  return text;
}

std::string Graph::dot() const {
  std::string dot = "digraph step {\n  node [shape=box fontname=\"monospace\"];\n";
  for (uint32_t id = 0; id < nodes_.size(); ++id) {
    const Node& node = nodes_[id];
    dot += fmt::format("  n{} [label=\"{}\\n{}\\n{}\"];\n", id, node.op->name,
                       node.n_out ? to_string(output_types(id)[0]) : "", node.scope);
    for (const Value& in : inputs(id)) dot += fmt::format("  n{} -> n{};\n", in.node, id);
  }
  return dot + "}\n";
}

Scope::Scope(Graph& graph, std::string_view name) : graph_(graph), previous_(graph.scope_) {
  graph_.scope_ = graph_.path(name);
}
Scope::~Scope() { graph_.scope_ = previous_; }

}  // namespace ranvier
