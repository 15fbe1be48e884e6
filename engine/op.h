// The contract of an op: what it infers, how it differentiates, and the variants that run it.
#pragma once
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/graph.h"
#include "kernels/common/stream.h"

namespace ranvier {

struct DeviceContext;
using Stream = kernels::CudaStream;  // null on the CPU

/// Where a variant runs.
enum class Backend : uint8_t { cpu, cuda };
std::string_view name_of(Backend);

/// What a variant may know of the node it runs: types and attributes, no data.
struct NodeView {
  const OpDef* op = nullptr;
  const Attrs* attrs_ = nullptr;
  std::span<const Type> in, out;
  std::string_view scope;
  Where where;

  template <class T>
  const T& attrs() const {
    return attrs_->as<T>();
  }
};

/// One execution of a node: pointers to its operands, results and scratch memory.
struct Call {
  const NodeView& node;
  std::span<void*const> inputs, outputs;
  void* workspace = nullptr;
  void* prepared = nullptr;
  Stream stream = nullptr;

  template <class T>
  const T* in(size_t i) const {
    return static_cast<const T*>(inputs[i]);
  }
  template <class T>
  T* out(size_t k) const {
    return static_cast<T*>(outputs[k]);
  }
};

/// Wraps the CUDA variants of an op's list: there are none in a build without the CUDA Toolkit.
#if defined(RANVIER_HAS_CUDA)
#define RANVIER_CUDA_VARIANTS(...) __VA_ARGS__
#else
#define RANVIER_CUDA_VARIANTS(...)
#endif

/// One way to run an op. The order of an op's variants is their default rank.
struct Variant {
  const char* name;
  Backend backend = Backend::cpu;
  /// Writes every element of every output; stream-ordered; allocates nothing; never synchronises.
  void (*run)(const Call&) = nullptr;
  /// Null means: every node of the op.
  bool (*supports)(const NodeView&) = nullptr;
  /// Scratch bytes needed while it runs (after `prepare`).
  size_t (*workspace)(const NodeView&, const void* prepared) = nullptr;
  /// What a library must build beforehand (a oneDNN primitive, a cuDNN plan); belongs to one program.
  std::shared_ptr<void> (*prepare)(const NodeView&, DeviceContext&) = nullptr;
  /// False where integer-valued operands may give a rounded result (Winograd, tf32, approximations).
  bool exact = true;
};

/// What a backward rule or a decomposition sees of its node.
class Vjp {
 public:
  Vjp(Graph& graph, uint32_t node) : graph_(graph), node_(node) {}

  /// Input `i` and output `k` of the node.
  Tensor x(size_t i) const { return graph_.tensor(graph_.inputs(node_)[i]); }
  Tensor y(uint32_t k = 0) const { return {&graph_, {node_, k}}; }
  size_t inputs() const { return graph_.inputs(node_).size(); }
  template <class T>
  const T& attrs() const {
    return graph_.node(node_).attrs.as<T>();
  }
  const Node& node() const { return graph_.node(node_); }
  uint32_t id() const { return node_; }
  Graph& graph() const { return graph_; }

  /// Gradient of the objective with respect to output `k`; zeros where nothing flowed.
  Tensor g(uint32_t k = 0);
  bool has_g(uint32_t k = 0) const { return k < g_.size() && g_[k].has_value(); }
  /// True when somebody asked for the gradient of input `i`.
  bool needs(size_t i) const { return i < needed_.size() && needed_[i]; }
  /// Sets the gradient of input `i` to what `make` emits, only if it is needed.
  template <class Make>
  void in(size_t i, Make&& make) {
    if (needs(i)) result_[i] = make();
  }
  /// For decompositions: declares output `k` of the fused op in primitive ops.
  void set_output(uint32_t k, Tensor value);

  // Filled by the sweep in grad.cpp.
  std::vector<std::optional<Tensor>> g_, result_, outputs_;
  std::vector<bool> needed_;

 private:
  Graph& graph_;
  uint32_t node_;
};

/// How a result depends on its operands.
enum class Smoothness : uint8_t {
  smooth,     ///< differentiable wherever it is defined
  piecewise,  ///< differentiable away from kinks and ties, which the op's declaration documents
  none,       ///< `grad` through it is a trace error (wrap in stop_gradient to mean it)
};

/// Which output may be written over which input, where that input dies in the step.
enum class InPlace : uint8_t {
  never,
  first,          ///< output 0 over input 0
  any_input,      ///< output 0 over any input of its size: the op reads element i of all of them before writing i
  same_position,  ///< output k over input k (optimizers: new parameter over parameter)
};

/// What an op means. Ops are constants; a node points at its OpDef, and an OpDef at its variants.
struct OpDef {
  const char* name;
  /// Returns the output types, or throws Error with the reason (the graph adds op and source line).
  std::vector<Type> (*infer)(std::span<const Type> in, const Attrs&);
  /// Emits the gradients of the inputs in ops: differentiable again.
  void (*vjp)(Vjp&) = nullptr;
  /// A fused op: the same maths in primitive ops. Reference, default gradient, and fallback where no variant runs.
  void (*decompose)(Vjp&) = nullptr;
  std::span<const Variant> variants = {};
  Smoothness smoothness = Smoothness::smooth;
  /// Floating-point operations of one run (2 a multiply-add); null counts one an output element.
  double (*flops)(const NodeView&) = nullptr;
  InPlace in_place = InPlace::never;
  /// Runs for what it does (assign), is never merged or pruned.
  bool effect = false;
  /// Attributes are a kernels::PointwiseProgram: the planner may merge it with its neighbours.
  bool pointwise = false;
  /// Output 0 is input 0 seen with another shape: no memory, no run.
  bool view = false;
};

}  // namespace ranvier
