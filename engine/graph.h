// The traced step: an append-only SSA list of nodes, with common-subexpression elimination, scopes and source lines.
#pragma once
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/error.h"
#include "engine/type.h"

namespace ranvier {

class Graph;
class State;
struct OpDef;

/// Output `out` of node `node`.
struct Value {
  uint32_t node = 0;
  uint32_t out = 0;
  bool operator==(const Value&) const = default;
  auto operator<=>(const Value&) const = default;
};

/// A handle to a value of a graph: no data, copied freely.
struct Tensor {
  Graph* graph = nullptr;
  Value value;

  Type type() const;  // by value: the graph's own list moves as it grows
  Shape shape() const { return type().shape; }
  DType dtype() const { return type().dtype; }
  bool valid() const { return graph != nullptr; }
  /// Output `k` of the node that made this tensor (for ops of several results).
  Tensor output(uint32_t k) const { return {graph, {value.node, k}}; }
};

/// A tensor together with the line that mentioned it: lets operators (+, *) know their place, which cannot take
/// defaulted arguments.
struct Located {
  Tensor tensor;
  Where where;
  Located(Tensor t, Where w = Where::current()) : tensor(t), where(w) {}  // implicit on purpose
};

/// The parameters of an op (stride, axes, ...): a trivially copyable struct kept as bytes, so that equality and hashing
/// need no code per op. Use 8-byte members only, so that there is no padding to compare.
class Attrs {
 public:
  Attrs() = default;
  template <class T>
  static Attrs of(const T& value) {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= 16);
    Attrs attrs;
    attrs.bytes_.resize(sizeof(T));
    std::memcpy(attrs.bytes_.data(), &value, sizeof(T));
    return attrs;
  }
  template <class T>
  const T& as() const {
    return *reinterpret_cast<const T*>(bytes_.data());
  }
  /// Free bytes, for attributes of variable length (a constant's data).
  static Attrs raw(std::span<const std::byte> bytes) {
    Attrs attrs;
    attrs.bytes_.assign(bytes.begin(), bytes.end());
    return attrs;
  }
  std::span<const std::byte> bytes() const { return bytes_; }
  bool operator==(const Attrs&) const = default;

 private:
  std::vector<std::byte> bytes_;
};

/// One operation of the list.
struct Node {
  const OpDef* op = nullptr;
  Attrs attrs;
  uint32_t first_in = 0, n_in = 0;
  uint32_t first_out = 0, n_out = 0;
  std::string_view scope;  // "block1.conv", owned by the graph
  Where where;
};

/// The append-only list. Ids only grow, so index order is a topological order.
class Graph {
 public:
  explicit Graph(State& state, bool training = false) : state_(&state), training_(training) {}
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /// Appends a node, or returns an equal earlier one (never for ops with effects). Shapes are inferred here, so a shape
  /// error appears at the line of the model that made it.
  Tensor emit(const OpDef& op, const Attrs& attrs, std::span<const Tensor> inputs, const Where& where);

  size_t size() const { return nodes_.size(); }
  const Node& node(uint32_t id) const { return nodes_[id]; }
  std::span<const Value> inputs(uint32_t id) const { return {edges_.data() + nodes_[id].first_in, nodes_[id].n_in}; }
  Type type(Value value) const { return types_[nodes_[value.node].first_out + value.out]; }
  std::span<const Type> output_types(uint32_t id) const {
    return {types_.data() + nodes_[id].first_out, nodes_[id].n_out};
  }
  Tensor tensor(Value value) { return {this, value}; }

  State& state() const { return *state_; }
  /// Layers that behave differently in training (batch norm, dropout, coupling) ask here.
  bool training() const { return training_; }
  void set_training(bool training) { training_ = training; }

  /// The current scope path, "" at the top.
  std::string scope() const { return scope_; }
  /// `name` under the current scope: "block1.conv.weight".
  std::string path(std::string_view name) const;

  /// Claims `path` for one use by `what`; a second claim is a trace error (two draws or inputs of one name).
  void claim(const std::string& path, std::string_view what, const Where& where);

  /// Name of an input node, as given to `input`.
  const std::string& input_name(uint32_t id) const { return input_names_.at(id); }
  void set_input_name(uint32_t id, std::string_view name) { input_names_.emplace(id, name); }

  /// Values that programs of this trace keep readable by name beside their outputs; see `probe` in ops.h.
  const std::vector<std::pair<std::string, Value>>& probes() const { return probes_; }
  void add_probe(std::string name, Value value) { probes_.emplace_back(std::move(name), value); }

  /// Nodes emitted by `body` report the place of `node` (backward rules blame the forward line).
  void blame(uint32_t node, const std::function<void()>& body);

  /// Values that run for their effect (assignments) rather than for a result.
  const std::vector<uint32_t>& effects() const { return effects_; }

  /// One line a node: id, op, inputs, types, scope, source line.
  std::string text() const;
  /// Graphviz DOT.
  std::string dot() const;

 private:
  friend class Scope;
  std::string_view intern(const std::string& text);

  State* state_;
  bool training_;
  std::vector<Node> nodes_;
  std::vector<Value> edges_;
  std::vector<Type> types_;
  std::vector<uint32_t> effects_;
  std::unordered_multimap<uint64_t, uint32_t> by_hash_;
  std::unordered_map<std::string, std::string> claimed_;
  std::unordered_map<uint32_t, std::string> input_names_;
  std::vector<std::pair<std::string, Value>> probes_;
  std::deque<std::string> strings_;
  std::unordered_map<std::string_view, std::string_view> interned_;
  std::string scope_;
  const Node* blamed_ = nullptr;
};

/// Opens a scope for as long as it lives: parameters and random streams below it carry its name.
class Scope {
 public:
  Scope(Graph& graph, std::string_view name);
  ~Scope();
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Graph& graph_;
  std::string previous_;
};

}  // namespace ranvier
