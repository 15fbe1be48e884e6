// Convolution by oneDNN on NHWC: single-thread primitives over batch shards, so that thread counts change no bit.
#include <omp.h>

#include <algorithm>
#include <oneapi/dnnl/dnnl.hpp>
#include <stdexcept>
#include <string>
#include <utility>

#include "kernels/common/parallel.h"
#include "kernels/conv2d/conv2d.h"
#include "kernels/matmul/micro_kernel.h"

namespace ranvier::kernels {
namespace {

using dnnl::memory;

constexpr int64_t most_slots = 16;
constexpr int64_t wgrad_sum_budget = 16 << 20;  // bytes of filter gradients of all shards together

/// oneDNN primitives capture the number of OpenMP threads when they are made; ours must always run on one.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

const dnnl::engine& cpu_engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

/// A primitive for a shard of `images`, with the memory layouts it asked for.
struct ShardPrimitive {
  int64_t images = 0;
  dnnl::primitive primitive;
  memory::desc x, filter, y, scratch;
};

}  // namespace

struct Conv2dOnednn {
  Conv2dDims dims;
  ConvPass pass;
  int64_t shards, slots;
  memory::desc plain_filter;          // (k, r, s, c), as the caller holds it
  ShardPrimitive kinds[2];            // shards of n / shards images, and of one more
  dnnl::reorder to_filter, from_sum;  // filter into the layout of the primitives; wgrad's sum out of it
  size_t filter_bytes() const { return kinds[0].filter.get_size(); }
  size_t scratch_bytes() const { return std::max(kinds[0].scratch.get_size(), kinds[1].scratch.get_size()); }
};

namespace {

/// Shards of the batch: about half a MiB of activations each, an even number so that two threads share evenly.
int64_t shards_of(const Conv2dDims& d, ConvPass pass, int64_t filter_bytes) {
  constexpr int64_t aim = 512 << 10;
  const int64_t bytes = (d.x_size() + d.y_size()) * static_cast<int64_t>(sizeof(float));
  int64_t shards = shard_count(bytes, aim, 64);
  if (pass == ConvPass::wgrad) {  // each shard has a filter gradient of its own
    shards = std::clamp<int64_t>(wgrad_sum_budget / filter_bytes, 2, std::min<int64_t>(shards, 16));
  }
  return std::clamp<int64_t>(shards + shards % 2, 1, std::max<int64_t>(d.n, 1));
}

/// Padding below and to the right. oneDNN wants it to fit the output exactly: where strides leave pixels unused it is
/// negative.
std::pair<int64_t, int64_t> padding_behind(const Conv2dDims& d) {
  return {(d.p() - 1) * d.stride_h + d.r - d.h - d.pad_h, (d.q() - 1) * d.stride_w + d.s - d.w - d.pad_w};
}

ShardPrimitive make_primitive(const Conv2dDims& d, ConvPass pass, int64_t images, const memory::desc* filter_layout) {
  using Tag = memory::format_tag;
  constexpr auto f32 = memory::data_type::f32;
  constexpr auto direct = dnnl::algorithm::convolution_direct;
  const memory::desc x({images, d.c, d.h, d.w}, f32, Tag::nhwc), y({images, d.k, d.p(), d.q()}, f32, Tag::nhwc);
  const memory::desc filter =
      filter_layout != nullptr ? *filter_layout : memory::desc({d.k, d.c, d.r, d.s}, f32, Tag::any);
  const memory::dims stride = {d.stride_h, d.stride_w}, before = {d.pad_h, d.pad_w};
  const auto [below, right] = padding_behind(d);
  const memory::dims behind = {below, right};
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::engine& engine = cpu_engine();
  const dnnl::convolution_forward::primitive_desc forward(
      {dnnl::prop_kind::forward_training, direct, x, filter, y, stride, before, behind}, attributes, engine);
  if (pass == ConvPass::forward) {
    return {images, dnnl::convolution_forward(forward), x, forward.weights_desc(), y, forward.scratchpad_desc()};
  }
  if (pass == ConvPass::dgrad) {
    const dnnl::convolution_backward_data::primitive_desc made({direct, x, filter, y, stride, before, behind},
                                                               attributes, engine, forward);
    return {images, dnnl::convolution_backward_data(made), x, made.weights_desc(), y, made.scratchpad_desc()};
  }
  const dnnl::convolution_backward_weights::primitive_desc made({direct, x, filter, y, stride, before, behind},
                                                                attributes, engine, forward);
  return {images, dnnl::convolution_backward_weights(made), x, made.diff_weights_desc(), y, made.scratchpad_desc()};
}

memory at(const memory::desc& layout, const void* data) {
  return memory(layout, cpu_engine(), const_cast<void*>(data));
}

/// Runs the primitive of one shard; `filter` is an operand, or for wgrad the shard's own result.
void run_shard(const Conv2dOnednn& o, int64_t shard, const float* a, const float* b, float* out, void* filter,
               void* scratch) {
  const Conv2dDims& d = o.dims;
  const int64_t begin = shard_begin(d.n, o.shards, shard), images = shard_begin(d.n, o.shards, shard + 1) - begin;
  const ShardPrimitive& kind = o.kinds[images == o.kinds[0].images ? 0 : 1];
  const int64_t x_offset = begin * d.h * d.w * d.c, y_offset = begin * d.p() * d.q() * d.k;
  std::unordered_map<int, memory> arguments = {{DNNL_ARG_SCRATCHPAD, at(kind.scratch, scratch)}};
  if (o.pass == ConvPass::forward) {
    arguments.insert({{DNNL_ARG_SRC, at(kind.x, a + x_offset)},
                      {DNNL_ARG_WEIGHTS, at(kind.filter, filter)},
                      {DNNL_ARG_DST, at(kind.y, out + y_offset)}});
  } else if (o.pass == ConvPass::dgrad) {
    arguments.insert({{DNNL_ARG_DIFF_DST, at(kind.y, a + y_offset)},
                      {DNNL_ARG_WEIGHTS, at(kind.filter, filter)},
                      {DNNL_ARG_DIFF_SRC, at(kind.x, out + x_offset)}});
  } else {
    arguments.insert({{DNNL_ARG_SRC, at(kind.x, a + x_offset)},
                      {DNNL_ARG_DIFF_DST, at(kind.y, b + y_offset)},
                      {DNNL_ARG_DIFF_WEIGHTS, at(kind.filter, filter)}});
  }
  dnnl::stream stream(cpu_engine());
  kind.primitive.execute(stream, arguments);
}

void reorder(const dnnl::reorder& primitive, const memory& from, const memory& to) {
  dnnl::stream stream(cpu_engine());
  primitive.execute(stream, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
}

}  // namespace

bool conv2d_onednn_supports(const Conv2dDims& d) {
  const auto [below, right] = padding_behind(d);
  return below > -d.stride_h && right > -d.stride_w;
}

std::shared_ptr<Conv2dOnednn> conv2d_onednn_prepare(const Conv2dDims& dims, ConvPass pass) {
  conv2d_check(dims);
  auto o = std::make_shared<Conv2dOnednn>();
  o->dims = dims;
  o->pass = pass;
  if (dims.n == 0) return o;
  o->shards = shards_of(dims, pass, dims.filter_size() * static_cast<int64_t>(sizeof(float)));
  o->slots = std::min(o->shards, most_slots);
  try {
    const OneThread one_thread;
    const int64_t images = dims.n / o->shards;
    o->kinds[0] = make_primitive(dims, pass, images, nullptr);
    o->kinds[1] = dims.n % o->shards == 0 ? o->kinds[0] : make_primitive(dims, pass, images + 1, &o->kinds[0].filter);
    o->plain_filter = memory::desc({dims.k, dims.c, dims.r, dims.s}, memory::data_type::f32, memory::format_tag::ohwi);
    using Reorder = dnnl::reorder::primitive_desc;
    const memory::desc& layout = o->kinds[0].filter;
    if (pass == ConvPass::wgrad) {
      o->from_sum = dnnl::reorder(Reorder(cpu_engine(), layout, cpu_engine(), o->plain_filter));
    } else {
      o->to_filter = dnnl::reorder(Reorder(cpu_engine(), o->plain_filter, cpu_engine(), layout));
    }
  } catch (const dnnl::error& error) {
    throw std::runtime_error(std::string("conv2d: oneDNN has no primitive for this shape: ") + error.what());
  }
  return o;
}

size_t conv2d_onednn_workspace(const Conv2dOnednn& o) {
  if (o.dims.n == 0) return 0;
  const size_t filters = o.pass == ConvPass::wgrad ? static_cast<size_t>(o.shards) : 1;
  return Carver::line + filters * Carver::bytes<char>(static_cast<int64_t>(o.filter_bytes())) +
         static_cast<size_t>(o.slots) * Carver::bytes<char>(static_cast<int64_t>(o.scratch_bytes()));
}

void conv2d_onednn(const Conv2dOnednn& o, const float* a, const float* b, float* out, void* workspace) {
  const bool wgrad = o.pass == ConvPass::wgrad;
  if (o.dims.n == 0) {
    if (wgrad) std::fill_n(out, o.dims.filter_size(), 0.0f);
    return;
  }
  Carver carver(workspace);
  const auto filter_bytes = static_cast<int64_t>(Carver::bytes<char>(static_cast<int64_t>(o.filter_bytes())));
  const auto scratch_bytes = static_cast<int64_t>(Carver::bytes<char>(static_cast<int64_t>(o.scratch_bytes())));
  char* filters = carver.take<char>(filter_bytes * (wgrad ? o.shards : 1));
  char* scratch = carver.take<char>(scratch_bytes * o.slots);
  if (!wgrad) reorder(o.to_filter, at(o.plain_filter, b), at(o.kinds[0].filter, filters));
  parallel_for_slots(o.shards, o.slots, [&](int64_t shard, int64_t slot) {
    run_shard(o, shard, a, b, out, filters + (wgrad ? shard * filter_bytes : 0), scratch + slot * scratch_bytes);
  });
  if (!wgrad) return;
  const auto elements = static_cast<int64_t>(o.filter_bytes() / sizeof(float));
  auto* sum = reinterpret_cast<float*>(filters);
  const int64_t parts = shard_count(elements, 1 << 14);
  parallel_for(parts, [&](int64_t part) {
    for (int64_t shard = 1; shard < o.shards; ++shard) {
      const auto* other = reinterpret_cast<const float*>(filters + shard * filter_bytes);
      for (int64_t i = shard_begin(elements, parts, part); i < shard_begin(elements, parts, part + 1); ++i) {
        sum[i] += other[i];
      }
    }
  });
  reorder(o.from_sum, at(o.kinds[0].filter, sum), at(o.plain_filter, out));
}

}  // namespace ranvier::kernels
