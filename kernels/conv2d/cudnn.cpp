// Convolution by cuDNN's graph interface, through its plain C descriptors.
#include "kernels/conv2d/cudnn.h"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "kernels/common/cudnn.h"

namespace ranvier::kernels {
namespace {

constexpr int64_t most_workspace = int64_t{64} << 20;
constexpr int64_t alignment = 16;

void check(cudnnStatus_t status, const char* what) { check_cudnn(status, "conv2d", what); }

/// One of cuDNN's descriptors, destroyed with its owner.
class Descriptor {
 public:
  Descriptor(cudnnBackendDescriptorType_t type, const char* what) : what_(what) {
    check(cudnnBackendCreateDescriptor(type, &raw_), what);
  }
  Descriptor(Descriptor&& other) noexcept : raw_(other.raw_), what_(other.what_) { other.raw_ = nullptr; }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (raw_) cudnnBackendDestroyDescriptor(raw_);
  }

  template <class T>
  void set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const std::vector<T>& values) {
    check(cudnnBackendSetAttribute(raw_, name, type, static_cast<int64_t>(values.size()), values.data()), what_);
  }
  void set(cudnnBackendAttributeName_t name, int64_t value) { set(name, CUDNN_TYPE_INT64, std::vector{value}); }
  void set(cudnnBackendAttributeName_t name, const std::vector<int64_t>& values) {
    set(name, CUDNN_TYPE_INT64, values);
  }
  void set(cudnnBackendAttributeName_t name, const Descriptor& part) {
    set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, std::vector{part.raw_});
  }
  void finalize() { check(cudnnBackendFinalize(raw_), what_); }
  cudnnBackendDescriptor_t raw() const { return raw_; }

 private:
  cudnnBackendDescriptor_t raw_ = nullptr;
  const char* what_;
};

/// Ids by which a run names its operands.
enum Operand : int64_t { x_id = 1, w_id, y_id };

/// A tensor of extents (n, c, h, w) in cuDNN's order, stored (n, h, w, c).
Descriptor tensor(Operand id, CudnnType type, int64_t n, int64_t h, int64_t w, int64_t c) {
  Descriptor d(CUDNN_BACKEND_TENSOR_DESCRIPTOR, "describing a tensor");
  d.set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, std::vector{cudnn_data_type(type)});
  d.set(CUDNN_ATTR_TENSOR_DIMENSIONS, {n, c, h, w});
  d.set(CUDNN_ATTR_TENSOR_STRIDES, {h * w * c, 1, w * c, c});
  d.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, int64_t{id});
  d.set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, alignment);
  d.finalize();
  return d;
}

/// Padding behind an axis: what the dropped outputs do not need.
int64_t behind(int64_t pad, int64_t stride, int64_t drop) { return pad - drop * stride; }

Descriptor convolution(const Conv2dDims& d) {
  Descriptor c(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, "describing a convolution");
  c.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, int64_t{2});
  c.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, std::vector{CUDNN_DATA_FLOAT});
  c.set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, std::vector{CUDNN_CROSS_CORRELATION});
  c.set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, {d.pad_h, d.pad_w});
  c.set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS,
        {behind(d.pad_h, d.stride_h, d.drop_h), behind(d.pad_w, d.stride_w, d.drop_w)});
  c.set(CUDNN_ATTR_CONVOLUTION_DILATIONS, {1, 1});
  c.set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, {d.stride_h, d.stride_w});
  c.finalize();
  return c;
}

/// What cuDNN calls the parts of each pass.
struct PassNames {
  cudnnBackendDescriptorType_t operation;
  cudnnBackendAttributeName_t convolution, x, w, y, alpha, beta;
};
PassNames names_of(ConvPass pass) {
  switch (pass) {
    case ConvPass::dgrad:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    case ConvPass::wgrad:
      return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
              CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
    case ConvPass::forward:
      break;
  }
  return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
}

Descriptor operation_graph(const Conv2dDims& d, ConvPass pass, CudnnType type, cudnnHandle_t handle) {
  const Descriptor x = tensor(x_id, type, d.n, d.h, d.w, d.c), w = tensor(w_id, type, d.k, d.r, d.s, d.c),
                   y = tensor(y_id, type, d.n, d.p(), d.q(), d.k), c = convolution(d);
  const PassNames names = names_of(pass);
  Descriptor operation(names.operation, "describing a pass");
  operation.set(names.convolution, c);
  operation.set(names.x, x);
  operation.set(names.w, w);
  operation.set(names.y, y);
  operation.set(names.alpha, CUDNN_TYPE_FLOAT, std::vector{1.0f});
  operation.set(names.beta, CUDNN_TYPE_FLOAT, std::vector{0.0f});
  operation.finalize();
  Descriptor graph(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "making a graph");
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation);
  graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, std::vector{handle});
  graph.finalize();
  return graph;
}

/// Configurations that the heuristics propose in one of their modes, best first; none where the mode knows nothing.
std::vector<Descriptor> proposals(const Descriptor& graph, cudnnBackendHeurMode_t mode) {
  Descriptor heuristics(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "asking for plans");
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  heuristics.set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, std::vector{mode});
  std::vector<Descriptor> found;
  if (cudnnBackendFinalize(heuristics.raw()) != CUDNN_STATUS_SUCCESS) return found;
  int64_t count = 0;
  if (cudnnBackendGetAttribute(heuristics.raw(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0,
                               &count, nullptr) != CUDNN_STATUS_SUCCESS)
    return found;
  std::vector<cudnnBackendDescriptor_t> raw;
  for (int64_t i = 0; i < count; ++i) {
    found.emplace_back(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "asking for plans");
    raw.push_back(found.back().raw());
  }
  int64_t filled = 0;
  check(cudnnBackendGetAttribute(heuristics.raw(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count,
                                 &filled, raw.data()),
        "asking for plans");
  while (static_cast<int64_t>(found.size()) > filled) found.pop_back();
  return found;
}

/// Whether an engine adds in a fixed order and keeps the operands as they are, as far as cuDNN says of it.
bool acceptable(const Descriptor& configuration, CudnnType type) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR, "asking about a plan");
  cudnnBackendDescriptor_t raw = engine.raw();
  int64_t count = 0;
  check(cudnnBackendGetAttribute(configuration.raw(), CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &count, &raw),
        "asking about a plan");
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  check(cudnnBackendGetAttribute(raw, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, notes.size(), &count,
                                 notes.data()),
        "asking about a plan");
  const auto noted = [&](cudnnBackendNumericalNote_t note) {
    return std::find(notes.begin(), notes.begin() + count, note) != notes.begin() + count;
  };
  if (noted(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC) || noted(CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION))
    return false;
  return type != CudnnType::f32 ||
         !(noted(CUDNN_NUMERICAL_NOTE_TENSOR_CORE) || noted(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS));
}

struct Plan {
  Descriptor descriptor;
  size_t workspace;
};

/// The plan of a configuration, or none where it cannot be built or needs too much scratch.
std::optional<Plan> plan_of(const Descriptor& configuration, cudnnHandle_t handle) {
  Descriptor plan(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "making a plan");
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
  plan.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, std::vector{handle});
  if (cudnnBackendFinalize(plan.raw()) != CUDNN_STATUS_SUCCESS) return {};
  int64_t workspace = 0, count = 0;
  check(cudnnBackendGetAttribute(plan.raw(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                                 &workspace),
        "asking for a plan's scratch");
  if (workspace > most_workspace) return {};
  return Plan{std::move(plan), static_cast<size_t>(workspace)};
}

Plan choose(const Conv2dDims& d, ConvPass pass, CudnnType type, int rank, CudaStream stream) {
  const cudnnHandle_t handle = cudnn_handle(stream);
  const Descriptor graph = operation_graph(d, pass, type, handle);
  int left = rank;
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK})
    for (const Descriptor& configuration : proposals(graph, mode)) {
      if (!acceptable(configuration, type)) continue;
      std::optional<Plan> plan = plan_of(configuration, handle);
      if (plan && left-- == 0) return std::move(*plan);
    }
  throw std::runtime_error("conv2d: cuDNN has " + std::to_string(rank - left) +
                           " deterministic plans within 64 MB of scratch for this shape and type, plan " +
                           std::to_string(rank + 1) + " was asked for");
}

}  // namespace

struct CudnnConv::Parts {
  ConvPass pass;
  Plan plan;
};

CudnnConv::CudnnConv(const Conv2dDims& dims, ConvPass pass, CudnnType type, int rank, CudaStream stream)
    : parts_(new Parts{pass, choose(dims, pass, type, rank, stream)}) {}
CudnnConv::~CudnnConv() = default;

size_t CudnnConv::workspace() const { return parts_->plan.workspace; }

void CudnnConv::run(const void* a, const void* b, void* out, void* workspace, CudaStream stream) const {
  const ConvPass pass = parts_->pass;
  const std::vector<int64_t> ids = pass == ConvPass::forward ? std::vector<int64_t>{x_id, w_id, y_id}
                                   : pass == ConvPass::dgrad ? std::vector<int64_t>{y_id, w_id, x_id}
                                                             : std::vector<int64_t>{x_id, y_id, w_id};
  Descriptor operands(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "naming operands");
  operands.set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, ids);
  operands.set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
               std::vector<void*>{const_cast<void*>(a), const_cast<void*>(b), out});
  operands.set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, std::vector{workspace});
  operands.finalize();
  check(cudnnBackendExecute(cudnn_handle(stream), parts_->plan.descriptor.raw(), operands.raw()), "a pass");
}

bool cudnn_conv_supports(const Conv2dDims& d) {
  return d.n > 0 && behind(d.pad_h, d.stride_h, d.drop_h) >= 0 && behind(d.pad_w, d.stride_w, d.drop_w) >= 0;
}

}  // namespace ranvier::kernels
