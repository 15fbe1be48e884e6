// Direct convolution as an implicit matrix product: padded strips of the image, packed filters, register blocks.
#include <algorithm>
#include <vector>

#include "kernels/common/parallel.h"
#include "kernels/conv2d/conv2d.h"
#include "kernels/matmul/micro_kernel.h"

namespace ranvier::kernels {
namespace {

constexpr int64_t max_lanes = 16;           // shards with scratch memory of their own
constexpr int64_t strip_bytes = 192 << 10;  // padded image rows of one strip: a part of L2

/// A dense correlation of stride (step_h, step_w) over a source image (height, width, channels). Tap (0, 0) of output
/// (0, 0) lies at source row row0, column col0; whatever falls outside the source is zero. Output (i, j) goes to pixel
/// (out_row + i * out_step_h, out_col + j * out_step_w). Forward is one sweep; dgrad is one per residue of the strides.
struct Sweep {
  int64_t height, width, channels;
  int64_t row0, col0, step_h, step_w, taps_h, taps_w;
  int64_t rows, cols;
  int64_t out_row, out_col, out_step_h, out_step_w;

  int64_t depth() const { return taps_h * taps_w * channels; }
  int64_t strip_width() const { return (cols - 1) * step_w + taps_w; }  // source pixels under one output row
  int64_t row_elements() const { return strip_width() * channels; }
  bool inside() const {  // no tap ever falls on padding: the source is read in place
    return row0 >= 0 && col0 >= 0 && row0 + (rows - 1) * step_h + taps_h <= height && col0 + strip_width() <= width;
  }
  template <class T>
  int64_t strip_rows() const {  // output rows of one strip
    const int64_t fit = strip_bytes / static_cast<int64_t>(row_elements() * sizeof(T)) - taps_h;
    return std::clamp<int64_t>(fit / step_h + 1, 1, rows);
  }
  int64_t strip_elements(int64_t output_rows) const { return ((output_rows - 1) * step_h + taps_h) * row_elements(); }
};

Sweep forward_sweep(const Conv2dDims& d) {
  return {d.h, d.w, d.c, -d.pad_h, -d.pad_w, d.stride_h, d.stride_w, d.r, d.s, d.p(), d.q(), 0, 0, 1, 1};
}

/// The taps r = first + j * stride (j < count) that reach image rows i * stride + residue, and the row of dy that the
/// last of them reads for i = 0 (taps and rows of dy run in opposite directions).
struct Residue {
  int64_t first, count, row0, outputs;
};
Residue residue_of(int64_t residue, int64_t size, int64_t pad, int64_t taps, int64_t stride) {
  const int64_t first = (residue + pad) % stride;
  const int64_t count = first < taps ? (taps - first + stride - 1) / stride : 0;
  return {first, count, (residue + pad - first) / stride - (count - 1), (size - residue + stride - 1) / stride};
}

/// Copies the source rows under output rows [row, row + count) of image `source` into a strip without holes.
template <class T>
void fill_strip(const Sweep& s, const T* source, int64_t row, int64_t count, T* strip) {
  const int64_t source_rows = (count - 1) * s.step_h + s.taps_h, columns = s.strip_width(), c = s.channels;
  const int64_t left = std::clamp<int64_t>(-s.col0, 0, columns);
  const int64_t inner = std::clamp<int64_t>(s.width - s.col0, left, columns) - left;
  for (int64_t i = 0; i < source_rows; ++i, strip += columns * c) {
    const int64_t from = s.row0 + row * s.step_h + i;
    if (from < 0 || from >= s.height) {
      std::fill_n(strip, columns * c, T(0));
      continue;
    }
    std::fill_n(strip, left * c, T(0));
    std::copy_n(source + (from * s.width + s.col0 + left) * c, inner * c, strip + left * c);
    std::fill_n(strip + (left + inner) * c, (columns - left - inner) * c, T(0));
  }
}

/// Runs a sweep over all images. `packed` holds panels (depth, panel columns) of the filters; `strips` one strip a
/// lane.
template <class T>
void run_sweep(const Sweep& s, int64_t images, const T* source, const T* packed, T* strips, T* out, int64_t out_h,
               int64_t out_w, int64_t out_c) {
  const int64_t per_strip = s.strip_rows<T>(), strips_per_image = (s.rows + per_strip - 1) / per_strip;
  const int64_t units = images * strips_per_image, lanes = std::min(units, max_lanes);
  const bool inside = s.inside();
  const int64_t row_stride = (inside ? s.width : s.strip_width()) * s.channels;
  parallel_for(lanes, [&](int64_t lane) {
    T* strip = strips + lane * s.strip_elements(per_strip);
    for (int64_t unit = shard_begin(units, lanes, lane); unit < shard_begin(units, lanes, lane + 1); ++unit) {
      const int64_t n = unit / strips_per_image, part = unit % strips_per_image;
      const int64_t row = shard_begin(s.rows, strips_per_image, part);
      const int64_t count = shard_begin(s.rows, strips_per_image, part + 1) - row;
      const T* image = source + n * s.height * s.width * s.channels;
      const T* from = strip;
      if (inside) {
        from = image + ((s.row0 + row * s.step_h) * s.width + s.col0) * s.channels;
      } else {
        fill_strip(s, image, row, count, strip);
      }
      for (int64_t first = 0; first < out_c; first += panel_width<T>) {
        const T* panel = packed + first * s.depth();
        const int64_t columns = std::min(panel_width<T>, out_c - first);
        for (int64_t i = 0; i < count; ++i) {
          const int64_t to_row = s.out_row + (row + i) * s.out_step_h;
          T* to = out + ((n * out_h + to_row) * out_w + s.out_col) * out_c + first;
          const PanelOperand<T> rows{from + i * s.step_h * row_stride, s.step_w * s.channels, s.taps_h,
                                     s.taps_w * s.channels, row_stride};
          multiply_panel<T, false>(s.cols, rows, panel, to, s.out_step_w * out_c, columns, false);
        }
      }
    }
  });
}

template <class T>
int64_t strips_elements(const Sweep& s, int64_t images) {
  const int64_t per_strip = s.strip_rows<T>(), units = images * ((s.rows + per_strip - 1) / per_strip);
  return std::min(units, max_lanes) * s.strip_elements(per_strip);
}

template <class T>
void forward(const Conv2dDims& d, const T* x, const T* filter, T* y, void* workspace) {
  const Sweep s = forward_sweep(d);
  Carver carver(workspace);
  T* packed = carver.take<T>(s.depth() * padded_columns<T>(d.k));
  T* strips = carver.take<T>(strips_elements<T>(s, d.n));
  parallel_for(panel_count<T>(d.k), [&](int64_t panel) {
    const int64_t first = panel * panel_width<T>;
    pack_panel(filter, s.depth(), d.k, first, 1, s.depth(), packed + first * s.depth());
  });
  run_sweep(s, d.n, x, packed, strips, y, d.p(), d.q(), d.k);
}

/// Calls `body(sweep, vertical residue, horizontal residue)` for the stride_h x stride_w sweeps of dgrad.
template <class Body>
void for_dgrad_sweeps(const Conv2dDims& d, Body&& body) {
  for (int64_t i = 0; i < std::min(d.stride_h, d.h); ++i)
    for (int64_t j = 0; j < std::min(d.stride_w, d.w); ++j) {
      const Residue v = residue_of(i, d.h, d.pad_h, d.r, d.stride_h), h = residue_of(j, d.w, d.pad_w, d.s, d.stride_w);
      body(Sweep{d.p(), d.q(), d.k, v.row0, h.row0, 1, 1, v.count, h.count, v.outputs, h.outputs, i, j, d.stride_h,
                 d.stride_w},
           v, h);
    }
}

/// Image pixels of a residue that no tap reaches.
template <class T>
void clear_sweep(const Conv2dDims& d, const Sweep& s, T* dx) {
  for (int64_t n = 0; n < d.n; ++n)
    for (int64_t i = 0; i < s.rows; ++i)
      for (int64_t j = 0; j < s.cols; ++j) {
        const int64_t row = s.out_row + i * s.out_step_h, col = s.out_col + j * s.out_step_w;
        std::fill_n(dx + ((n * d.h + row) * d.w + col) * d.c, d.c, T(0));
      }
}

template <class T>
void dgrad(const Conv2dDims& d, const T* dy, const T* filter, T* dx, void* workspace) {
  for_dgrad_sweeps(d, [&](const Sweep& s, const Residue& v, const Residue& h) {
    if (s.depth() == 0) return clear_sweep(d, s, dx);
    Carver carver(workspace);
    T* packed = carver.take<T>(s.depth() * padded_columns<T>(d.c));
    T* strips = carver.take<T>(strips_elements<T>(s, d.n));
    parallel_for(panel_count<T>(d.c), [&](int64_t panel) {
      const int64_t first = panel * panel_width<T>, width = panel_columns<T>(d.c, first);
      T* to = packed + first * s.depth();
      for (int64_t i = v.count - 1; i >= 0; --i)
        for (int64_t j = h.count - 1; j >= 0; --j, to += d.k * width) {
          const T* tap = filter + ((v.first + i * d.stride_h) * d.s + h.first + j * d.stride_w) * d.c;
          pack_panel(tap, d.k, d.c, first, d.r * d.s * d.c, 1, to);
        }
    });
    run_sweep(s, d.n, dy, packed, strips, dx, d.h, d.w, d.c);
  });
}

/// How wgrad is cut: each unit owns one panel of output channels for one group of images, and a sum (r, s*c, panel).
struct WgradPlan {
  Sweep sweep;
  int64_t per_strip, panels, groups, lanes;
  int64_t strip_elements, dy_elements, sum_elements;  // per lane, per lane, per group
};

template <class T>
WgradPlan wgrad_plan(const Conv2dDims& d) {
  constexpr int64_t strip_pixels = 160;  // outputs of one strip: its dy panel and the taps on it share L1
  constexpr int64_t sum_bytes = 24 << 20;
  WgradPlan plan{};
  plan.sweep = forward_sweep(d);
  plan.per_strip = std::clamp<int64_t>(strip_pixels / d.q(), 1, plan.sweep.strip_rows<T>());
  plan.panels = panel_count<T>(d.k);
  plan.sum_elements = plan.sweep.depth() * padded_columns<T>(d.k);
  const int64_t fit = sum_bytes / static_cast<int64_t>(plan.sum_elements * sizeof(T));
  plan.groups =
      std::clamp<int64_t>(std::min(fit, max_lanes / std::min(plan.panels, max_lanes)), 1, std::max<int64_t>(d.n, 1));
  if (plan.groups > 1 && plan.panels * plan.groups % 2 == 1) --plan.groups;  // two threads share evenly
  plan.lanes = std::min(plan.panels * plan.groups, max_lanes);
  plan.strip_elements = plan.sweep.strip_elements(plan.per_strip);
  plan.dy_elements = plan.per_strip * d.q() * panel_width<T>;
  return plan;
}

/// Adds the products of the images [begin, end) to the sum (r, s*c, panel columns) of one panel.
template <class T>
void wgrad_unit(const Conv2dDims& d, const WgradPlan& plan, const T* x, const T* dy, int64_t begin, int64_t end,
                int64_t first, T* strip, T* dy_panel, T* sum) {
  const Sweep& s = plan.sweep;
  const int64_t width = panel_columns<T>(d.k, first), row_taps = s.taps_w * s.channels;
  const bool inside = s.inside();
  const int64_t row_stride = (inside ? s.width : s.strip_width()) * s.channels;
  std::fill_n(sum, s.depth() * width, T(0));
  for (int64_t n = begin; n < end; ++n) {
    const T* image = x + n * d.h * d.w * d.c;
    for (int64_t row = 0; row < s.rows; row += plan.per_strip) {
      const int64_t count = std::min(plan.per_strip, s.rows - row);
      const T* from = strip;
      if (inside) {
        from = image + ((s.row0 + row * s.step_h) * s.width + s.col0) * s.channels;
      } else {
        fill_strip(s, image, row, count, strip);
      }
      pack_panel(dy + (n * s.rows + row) * s.cols * d.k, count * s.cols, d.k, first, d.k, 1, dy_panel);
      for (int64_t r = 0; r < s.taps_h; ++r) {
        const PanelOperand<T> taps{from + r * row_stride, s.step_w * s.channels, count, s.cols, s.step_h * row_stride};
        multiply_panel<T, true>(row_taps, taps, dy_panel, sum + r * row_taps * width, width, width, true);
      }
    }
  }
}

/// Adds the sums of the groups in order and turns (depth, k) into (k, depth).
template <class T>
void wgrad_collect(const Conv2dDims& d, const WgradPlan& plan, const T* sums, T* dfilter) {
  const int64_t depth = plan.sweep.depth();
  parallel_for(plan.panels, [&](int64_t panel) {
    const int64_t first = panel * panel_width<T>, width = panel_columns<T>(d.k, first);
    const T* from = sums + first * depth;
    for (int64_t j = 0; j < std::min(width, d.k - first); ++j)
      for (int64_t i = 0; i < depth; ++i) {
        T sum = from[i * width + j];
        for (int64_t g = 1; g < plan.groups; ++g) sum += from[g * plan.sum_elements + i * width + j];
        dfilter[(first + j) * depth + i] = sum;
      }
  });
}

template <class T>
void wgrad(const Conv2dDims& d, const T* x, const T* dy, T* dfilter, void* workspace) {
  const WgradPlan plan = wgrad_plan<T>(d);
  Carver carver(workspace);
  T* sums = carver.take<T>(plan.groups * plan.sum_elements);
  T* strips = carver.take<T>(plan.lanes * plan.strip_elements);
  T* dys = carver.take<T>(plan.lanes * plan.dy_elements);
  const int64_t units = plan.panels * plan.groups;
  parallel_for(plan.lanes, [&](int64_t lane) {
    const int64_t end = shard_begin(units, plan.lanes, lane + 1);
    for (int64_t unit = shard_begin(units, plan.lanes, lane); unit < end; ++unit) {
      const int64_t group = unit / plan.panels, first = unit % plan.panels * panel_width<T>;
      wgrad_unit(d, plan, x, dy, shard_begin(d.n, plan.groups, group), shard_begin(d.n, plan.groups, group + 1), first,
                 strips + lane * plan.strip_elements, dys + lane * plan.dy_elements,
                 sums + group * plan.sum_elements + first * plan.sweep.depth());
    }
  });
  wgrad_collect(d, plan, sums, dfilter);
}

}  // namespace

template <class T>
size_t conv2d_native_workspace(const Conv2dDims& d, ConvPass pass) {
  const auto sweep_bytes = [&](const Sweep& s, int64_t out_c) {
    return Carver::bytes<T>(s.depth() * padded_columns<T>(out_c)) + Carver::bytes<T>(strips_elements<T>(s, d.n));
  };
  if (pass == ConvPass::forward) return Carver::line + sweep_bytes(forward_sweep(d), d.k);
  if (pass == ConvPass::dgrad) {
    size_t most = 0;
    for_dgrad_sweeps(d, [&](const Sweep& s, const Residue&, const Residue&) {
      if (s.depth() > 0) most = std::max(most, sweep_bytes(s, d.c));
    });
    return Carver::line + most;
  }
  const WgradPlan plan = wgrad_plan<T>(d);
  return Carver::line + Carver::bytes<T>(plan.groups * plan.sum_elements) +
         Carver::bytes<T>(plan.lanes * plan.strip_elements) + Carver::bytes<T>(plan.lanes * plan.dy_elements);
}

template <class T>
void conv2d_native(const Conv2dDims& d, ConvPass pass, const T* a, const T* b, T* out, void* workspace) {
  if (pass == ConvPass::forward) forward(d, a, b, out, workspace);
  if (pass == ConvPass::dgrad) dgrad(d, a, b, out, workspace);
  if (pass == ConvPass::wgrad) wgrad(d, a, b, out, workspace);
}

template size_t conv2d_native_workspace<float>(const Conv2dDims&, ConvPass);
template size_t conv2d_native_workspace<double>(const Conv2dDims&, ConvPass);
template void conv2d_native(const Conv2dDims&, ConvPass, const float*, const float*, float*, void*);
template void conv2d_native(const Conv2dDims&, ConvPass, const double*, const double*, double*, void*);

}  // namespace ranvier::kernels
