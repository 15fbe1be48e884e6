// The reverse sweep over ids: rules emit ops, fused ops without a rule are differentiated through their decomposition.
#include "engine/grad.h"

#include <algorithm>

#include "engine/op.h"
#include "engine/ops.h"

namespace ranvier {
namespace {

/// One sweep from `ys` to `wrt`. With `cut`, the values of `wrt` are leaves: nothing flows past them (a decomposition
/// is differentiated between its own ends only, or paths outside it would count twice).
class Sweep {
 public:
  Sweep(Graph& graph, std::span<const Tensor> wrt, bool cut, const Where& where)
      : graph_(graph), wrt_(wrt), cut_(cut), where_(where) {}

  std::vector<Tensor> run(std::span<const Tensor> ys, std::span<const Tensor> dys) {
    uint32_t last = 0;
    for (const Tensor& y : ys) last = std::max(last, y.value.node);
    mark(last);
    gradients_.resize(last + 1);
    for (size_t i = 0; i < ys.size(); ++i)
      if (depends(ys[i].value)) add_gradient(ys[i].value, dys[i]);
    for (uint32_t id = last + 1; id-- > 0;)
      if (on_path_[id] && !gradients_[id].empty()) visit(id);
    std::vector<Tensor> result;
    for (const Tensor& w : wrt_) result.push_back(gradient_of(w));
    return result;
  }

 private:
  bool is_wrt(Value v) const {
    return std::any_of(wrt_.begin(), wrt_.end(), [&](const Tensor& w) { return w.value == v; });
  }
  /// True when `v` is one of `wrt` or computed from one.
  bool depends(Value v) const { return wrt_node_[v.node] ? (is_wrt(v) || on_path_[v.node]) : on_path_[v.node]; }

  /// on_path_[id]: some input of the node depends on a `wrt`, so its rule must run.
  void mark(uint32_t last) {
    on_path_.assign(last + 1, false);
    wrt_node_.assign(last + 1, false);
    for (const Tensor& w : wrt_)
      if (w.value.node <= last) wrt_node_[w.value.node] = true;
    for (uint32_t id = 0; id <= last; ++id) {
      if (cut_ && wrt_node_[id]) continue;
      for (const Value& in : graph_.inputs(id))
        if (depends(in)) on_path_[id] = true;
    }
  }

  void add_gradient(Value v, Tensor g) {
    auto& slots = gradients_[v.node];
    if (slots.empty()) slots.resize(graph_.node(v.node).n_out);
    auto& slot = slots[v.out];
    slot = slot ? add(*slot, g, where_) : g;
  }

  void visit(uint32_t id) {
    const OpDef& op = *graph_.node(id).op;
    Vjp rule(graph_, id);
    rule.g_ = gradients_[id];
    const auto inputs = std::vector<Value>(graph_.inputs(id).begin(), graph_.inputs(id).end());
    rule.needed_.resize(inputs.size());
    rule.result_.resize(inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i)
      rule.needed_[i] = is_floating(graph_.type(inputs[i]).dtype) && depends(inputs[i]);
    if (op.smoothness == Smoothness::none || (!op.vjp && !op.decompose))
      fail_at(where_,
              "grad: the path goes through '{}' ({}), which is not differentiable; wrap it in stop_gradient to mean it",
              op.name, place(graph_.node(id).where));
    graph_.blame(id, [&] {
      if (op.vjp)
        op.vjp(rule);
      else
        vjp_through_decomposition(rule);
    });
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!rule.result_[i]) continue;
      if (rule.result_[i]->type() != graph_.type(inputs[i]))
        fail_at(graph_.node(id).where, "{}: its rule gives {} as the gradient of input {} of type {}", op.name,
                to_string(rule.result_[i]->type()), i, to_string(graph_.type(inputs[i])));
      add_gradient(inputs[i], *rule.result_[i]);
    }
  }

  Tensor gradient_of(const Tensor& w) {
    if (w.value.node < gradients_.size() && !gradients_[w.value.node].empty())
      if (const auto& slot = gradients_[w.value.node][w.value.out]) return *slot;
    return full(graph_, w.type(), 0.0, where_);
  }

  Graph& graph_;
  std::span<const Tensor> wrt_;
  bool cut_;
  Where where_;
  std::vector<bool> on_path_, wrt_node_;
  std::vector<std::vector<std::optional<Tensor>>> gradients_;
};

}  // namespace

void vjp_through_decomposition(Vjp& rule) {
  std::vector<Tensor> ys, dys, wrt;
  const std::vector<Tensor> parts = decomposed(rule.graph(), rule.id());
  for (uint32_t k = 0; k < parts.size(); ++k)
    if (rule.has_g(k)) ys.push_back(parts[k]), dys.push_back(rule.g(k));
  std::vector<size_t> index;
  for (size_t i = 0; i < rule.inputs(); ++i) {
    // A value that is two operands at once has one gradient, the sum of both roles: it counts for the first of them.
    const bool again = std::any_of(wrt.begin(), wrt.end(), [&](const Tensor& w) { return w.value == rule.x(i).value; });
    if (again) rule.in(i, [&] { return full(rule.graph(), rule.x(i).type(), 0.0); });
    if (!again && rule.needs(i)) wrt.push_back(rule.x(i)), index.push_back(i);
  }
  const std::vector<Tensor> gs = Sweep(rule.graph(), wrt, true, rule.node().where).run(ys, dys);
  for (size_t j = 0; j < index.size(); ++j) rule.in(index[j], [&] { return gs[j]; });
}

Tensor Vjp::g(uint32_t k) {
  if (g_.size() <= k) g_.resize(k + 1);
  if (!g_[k]) g_[k] = full(graph_, graph_.type({node_, k}), 0.0);
  return *g_[k];
}

void Vjp::set_output(uint32_t k, Tensor value) {
  if (outputs_.size() <= k) outputs_.resize(k + 1);
  outputs_[k] = value;
}

std::vector<Tensor> decomposed(Graph& graph, uint32_t node) {
  const OpDef& op = *graph.node(node).op;
  if (!op.decompose) fail_at(graph.node(node).where, "{} has no decomposition into primitive ops", op.name);
  Vjp rule(graph, node);
  graph.blame(node, [&] { op.decompose(rule); });
  std::vector<Tensor> outputs;
  for (uint32_t k = 0; k < graph.node(node).n_out; ++k) {
    if (k >= rule.outputs_.size() || !rule.outputs_[k]) fail("{}: its decomposition leaves output {} out", op.name, k);
    outputs.push_back(*rule.outputs_[k]);
    if (outputs[k].type() != graph.type({node, k}))
      fail("{}: its decomposition gives {} for output {} of type {}", op.name, to_string(outputs[k].type()), k,
           to_string(graph.type({node, k})));
  }
  return outputs;
}

std::vector<Tensor> vjp(std::span<const Tensor> ys, std::span<const Tensor> dys, std::span<const Tensor> wrt,
                        Where where) {
  if (ys.empty()) fail_at(where, "grad: no result given");
  if (dys.size() != ys.size()) fail_at(where, "grad: {} gradients for {} results", dys.size(), ys.size());
  for (const std::span<const Tensor> tensors : {ys, dys, wrt})
    for (const Tensor& tensor : tensors)
      if (!tensor.valid() || tensor.graph != ys[0].graph)
        fail_at(where, "grad: {} tensor", tensor.valid() ? "another trace's" : "an empty");
  Graph& graph = *ys[0].graph;
  for (size_t i = 0; i < ys.size(); ++i) {
    if (!is_floating(ys[i].dtype())) fail_at(where, "grad: the result has type {}", to_string(ys[i].type()));
    if (dys[i].type() != ys[i].type())
      fail_at(where, "grad: a gradient of type {} for a result of type {}", to_string(dys[i].type()),
              to_string(ys[i].type()));
  }
  for (const Tensor& w : wrt)
    if (!is_floating(w.dtype())) fail_at(where, "grad: with respect to a value of type {}", to_string(w.type()));
  return Sweep(graph, wrt, false, where).run(ys, dys);
}

std::vector<Tensor> grad(Tensor y, std::span<const Tensor> wrt, Where where) {
  if (!y.valid()) fail_at(where, "grad: an empty tensor");
  const Tensor one = full(*y.graph, y.type(), 1.0, where);
  return vjp(std::span(&y, 1), std::span(&one, 1), wrt, where);
}

Tensor grad(Tensor y, Tensor wrt, Where where) { return grad(y, std::span(&wrt, 1), where)[0]; }

}  // namespace ranvier
