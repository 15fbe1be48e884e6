// Winograd F(4x4, 3x3) convolution in NHWC: tiles are transformed, multiplied and transformed back while they are in
// L2.
#include <algorithm>
#include <array>

#include "kernels/common/parallel.h"
#include "kernels/conv2d/conv2d.h"
#include "kernels/conv2d/winograd_transform.h"
#include "kernels/matmul/micro_kernel.h"

namespace ranvier::kernels {
namespace {

using namespace winograd;

constexpr int64_t lanes = V::width;
constexpr int planes = points * points;  // 36 independent matrix products
constexpr int tile_outputs = outputs * outputs;
constexpr int64_t most_slots = 16;
constexpr int64_t slot_budget = 12 << 20;  // bytes of scratch of all threads together

/// Images cut in tiles of 4x4 outputs, numbered row by row through the batch. Tile (i, j) reads the 6x6 source pixels
/// from (4i - pad_h, 4j - pad_w).
struct Tiling {
  int64_t images, in_h, in_w, in_c, out_h, out_w, out_c, pad_h, pad_w;
  int64_t down() const { return (out_h + outputs - 1) / outputs; }
  int64_t across() const { return (out_w + outputs - 1) / outputs; }
  int64_t tiles() const { return images * down() * across(); }
};

Tiling tiling_of(const Conv2dDims& d, ConvPass pass) {
  if (pass == ConvPass::dgrad) return {d.n, d.p(), d.q(), d.k, d.h, d.w, d.c, 2 - d.pad_h, 2 - d.pad_w};
  return {d.n, d.h, d.w, d.c, d.p(), d.q(), d.k, d.pad_h, d.pad_w};
}

/// Pointers to channel 0 of the Rows x Rows pixels from (row, col) of an image; those outside go to `outside`.
template <int Rows, class T>
RANVIER_FLATTEN void point_at(T* image, int64_t height, int64_t width, int64_t channels, int64_t row, int64_t col,
                              T* outside, T* pixels[]) {
  for (int i = 0; i < Rows; ++i) {
    const bool row_inside = row + i >= 0 && row + i < height;
    T* line = row_inside ? image + (row + i) * width * channels : outside;
    for (int j = 0; j < Rows; ++j) {
      const bool inside = row_inside && col + j >= 0 && col + j < width;
      pixels[i * Rows + j] = inside ? line + (col + j) * channels : outside;
    }
  }
}

/// Pointers to the 6x6 source pixels of a tile.
RANVIER_FLATTEN void source_pixels(const Tiling& t, const float* source, int64_t tile, const float* zeros,
                                   const float* pixels[planes]) {
  const int64_t per_image = t.down() * t.across(), n = tile / per_image, in_image = tile % per_image;
  const int64_t row = in_image / t.across() * outputs - t.pad_h, col = in_image % t.across() * outputs - t.pad_w;
  point_at<points>(source + n * t.in_h * t.in_w * t.in_c, t.in_h, t.in_w, t.in_c, row, col, zeros, pixels);
}

/// Pointers to the 4x4 output pixels of a tile.
template <class T>
RANVIER_FLATTEN void output_pixels(const Tiling& t, T* out, int64_t tile, T* outside, T* pixels[tile_outputs]) {
  const int64_t per_image = t.down() * t.across(), n = tile / per_image, in_image = tile % per_image;
  const int64_t row = in_image / t.across() * outputs, col = in_image % t.across() * outputs;
  point_at<outputs>(out + n * t.out_h * t.out_w * t.out_c, t.out_h, t.out_w, t.out_c, row, col, outside, pixels);
}

/// Calls body(first channel, load, store) for the registers that cover `channels`; only the last may be partial.
template <class Body>
RANVIER_FLATTEN void for_registers(int64_t channels, Body&& body) {
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) {
    body(
        c, [](const float* p) { return V::load(p); }, [](float* p, Reg v) { V::store(p, v); });
  }
  if (c < channels) {
    const int64_t rest = channels - c;
    body(
        c, [rest](const float* p) { return V::load(p, rest); }, [rest](float* p, Reg v) { V::store(p, v, rest); });
  }
}

// ---- forward and dgrad ------------------------------------------------------------------------------------------

/// How a batch is cut: blocks of tiles, each through all its stages on one thread, columns of the result in groups.
struct Plan {
  Tiling tiling;
  int64_t blocks, most_tiles, row;  // tiles in the largest block; elements of a row of V
  int64_t columns, group;           // padded columns of the filter; those of one group
  int64_t v_plane, m_plane, slots;
  int64_t filter_elements() const { return planes * tiling.in_c * columns; }
  size_t slot_bytes() const {
    return Carver::bytes<float>(planes * v_plane) + Carver::bytes<float>(planes * m_plane) +
           Carver::bytes<float>(tiling.in_c + lanes) + Carver::bytes<float>(tiling.out_c + lanes);
  }
};

/// Elements of a plane so that the 36 planes do not fall into the same cache sets.
int64_t spread(int64_t elements) { return elements % 1024 == 0 ? elements + lanes : elements; }

Plan plan_of(const Conv2dDims& d, ConvPass pass) {
  constexpr int64_t v_budget = 640 << 10, m_budget = 2 << 20;  // bytes, about L2
  Plan plan{};
  plan.tiling = tiling_of(d, pass);
  const int64_t tiles = plan.tiling.tiles();
  plan.row = padded_columns<float>(plan.tiling.in_c) + lanes;
  plan.columns = padded_columns<float>(plan.tiling.out_c);
  const int64_t v_bytes = planes * plan.row * static_cast<int64_t>(sizeof(float));
  const int64_t aim = std::clamp<int64_t>(v_budget / v_bytes, 48, 96);
  plan.blocks = std::max<int64_t>((tiles + aim - 1) / aim, 1);
  if (plan.blocks % 2 == 1 && tiles > 1) ++plan.blocks;  // two threads share evenly
  plan.most_tiles = (tiles + plan.blocks - 1) / plan.blocks;
  const int64_t m_bytes = planes * plan.most_tiles * panel_width<float> * static_cast<int64_t>(sizeof(float));
  plan.group =
      std::min(std::max<int64_t>(m_budget / std::max<int64_t>(m_bytes, 1), 1) * panel_width<float>, plan.columns);
  plan.v_plane = spread(plan.most_tiles * plan.row);
  plan.m_plane = spread(plan.most_tiles * plan.group);
  plan.slots = std::clamp<int64_t>(slot_budget / static_cast<int64_t>(plan.slot_bytes()), 2, most_slots);
  plan.slots = std::min(plan.slots, plan.blocks);
  return plan;
}

/// U = G g G^T for one panel of columns: planes of (depth, panel columns), `plane` elements apart. Element (depth p,
/// column j) of tap t is filter[tap[t] + p * depth_stride + j * column_stride].
void transform_filter(const float* filter_taps, const std::array<int64_t, 9>& tap, int64_t depth, int64_t columns,
                      int64_t first, int64_t depth_stride, int64_t column_stride, int64_t plane, float* u) {
  constexpr int64_t rows = 16;
  alignas(64) float packed[9][rows * panel_width<float>];
  const int64_t width = panel_columns<float>(columns, first);
  for (int64_t p0 = 0; p0 < depth; p0 += rows) {
    const int64_t count = std::min(rows, depth - p0);
    for (int t = 0; t < 9; ++t) {
      pack_panel(filter_taps + tap[t] + p0 * depth_stride, count, columns, first, depth_stride, column_stride,
                 packed[t]);
    }
    for (int64_t at = 0; at < count * width; at += lanes) {
      Reg g[taps], half[points][taps], full[points];
      for (int j = 0; j < taps; ++j) {
        Reg column[points];
        for (int i = 0; i < taps; ++i) g[i] = V::load(packed[i * taps + j] + at);
        filter(g, column);
        for (int i = 0; i < points; ++i) half[i][j] = column[i];
      }
      for (int i = 0; i < points; ++i) {
        filter(half[i], full);
        for (int j = 0; j < points; ++j) V::store(u + (i * points + j) * plane + p0 * width + at, full[j]);
      }
    }
  }
}

void transform_filters(const Conv2dDims& d, ConvPass pass, const float* taps_data, const Plan& plan, float* u) {
  const int64_t depth = plan.tiling.in_c, columns = plan.tiling.out_c, per_k = 9 * d.c;
  const bool turned = pass == ConvPass::dgrad;  // dgrad correlates with the filter turned by 180 degrees
  std::array<int64_t, 9> tap;
  for (int t = 0; t < 9; ++t) tap[t] = (turned ? 8 - t : t) * d.c;
  parallel_for(panel_count<float>(columns), [&](int64_t panel) {
    const int64_t first = panel * panel_width<float>;
    transform_filter(taps_data, tap, depth, columns, first, turned ? per_k : 1, turned ? 1 : per_k,
                     depth * plan.columns, u + first * depth);
  });
}

/// V = B^T d B for one tile: 36 rows of channels, `plane` elements apart.
RANVIER_FLATTEN void transform_input(const float* const pixels[planes], int64_t channels, int64_t plane, float* v) {
  for_registers(channels, [&](int64_t c, auto load, auto) {
    Reg half[points][points], in[points], out[points];
    for (int j = 0; j < points; ++j) {
      for (int i = 0; i < points; ++i) in[i] = load(pixels[i * points + j] + c);
      input(in, out);
      for (int i = 0; i < points; ++i) half[i][j] = out[i];
    }
    for (int i = 0; i < points; ++i) {
      input(half[i], out);
      for (int j = 0; j < points; ++j) V::store(v + (i * points + j) * plane + c, out[j]);
    }
  });
}

/// y = A^T m A for one tile and `channels` columns.
RANVIER_FLATTEN void transform_output(const float* m, int64_t plane, int64_t channels,
                                      float* const pixels[tile_outputs]) {
  for_registers(channels, [&](int64_t c, auto, auto store) {
    Reg half[outputs][points], in[points], out[outputs];
    for (int j = 0; j < points; ++j) {
      for (int i = 0; i < points; ++i) in[i] = V::load(m + (i * points + j) * plane + c);
      output(in, out);
      for (int i = 0; i < outputs; ++i) half[i][j] = out[i];
    }
    for (int i = 0; i < outputs; ++i) {
      output(half[i], out);
      for (int j = 0; j < outputs; ++j) store(pixels[i * outputs + j] + c, out[j]);
    }
  });
}

/// All stages of the tiles [begin, end).
void convolve_block(const Plan& plan, const float* source, const float* u, int64_t begin, int64_t end, float* out,
                    void* scratch) {
  const Tiling& t = plan.tiling;
  Carver carver(scratch);
  float* v = carver.take<float>(planes * plan.v_plane);
  float* m = carver.take<float>(planes * plan.m_plane);
  float* zeros = carver.take<float>(t.in_c + lanes);
  float* sink = carver.take<float>(t.out_c + lanes);
  std::fill_n(zeros, t.in_c + lanes, 0.0f);
  const float* pixels[planes];
  for (int64_t tile = begin; tile < end; ++tile) {
    source_pixels(t, source, tile, zeros, pixels);
    transform_input(pixels, t.in_c, plan.v_plane, v + (tile - begin) * plan.row);
  }
  for (int64_t start = 0; start < plan.columns; start += plan.group) {
    const int64_t stop = std::min(start + plan.group, plan.columns), row = stop - start;
    for (int e = 0; e < planes; ++e)
      for (int64_t first = start; first < stop; first += panel_width<float>) {
        const PanelOperand<float> rows{v + e * plan.v_plane, plan.row, 1, t.in_c, 0};
        multiply_panel<float, false>(end - begin, rows, u + (e * plan.columns + first) * t.in_c,
                                     m + e * plan.m_plane + first - start, row,
                                     std::min(panel_width<float>, stop - first), false);
      }
    float* to[tile_outputs];
    for (int64_t tile = begin; tile < end; ++tile) {
      output_pixels(t, out + start, tile, sink, to);
      transform_output(m + (tile - begin) * row, plan.m_plane, std::min(stop, t.out_c) - start, to);
    }
  }
}

void convolve(const Conv2dDims& d, ConvPass pass, const float* source, const float* filter, float* out,
              void* workspace) {
  const Plan plan = plan_of(d, pass);
  Carver carver(workspace);
  float* u = carver.take<float>(plan.filter_elements());
  char* scratch = carver.take<char>(plan.slots * static_cast<int64_t>(plan.slot_bytes()));
  transform_filters(d, pass, filter, plan, u);
  const int64_t tiles = plan.tiling.tiles();
  parallel_for_slots(plan.blocks, plan.slots, [&](int64_t block, int64_t slot) {
    convolve_block(plan, source, u, shard_begin(tiles, plan.blocks, block), shard_begin(tiles, plan.blocks, block + 1),
                   out, scratch + slot * static_cast<int64_t>(plan.slot_bytes()));
  });
}

// ---- wgrad ------------------------------------------------------------------------------------------------------

/// wgrad is cut by rows of points, not by planes of sums: a unit owns the 6 planes of one row for one group of tiles,
/// and computes only those of both operands. So the sums of a unit stay in L2 while it walks through its tiles.
struct WgradPlan {
  Tiling tiling;
  int64_t groups, block, row, columns;
  int64_t v_plane, y_plane, sum_plane, slots;
  int64_t sum_elements() const { return planes * sum_plane; }  // per group
  size_t slot_bytes() const {
    return Carver::bytes<float>(points * v_plane) + Carver::bytes<float>(points * y_plane) +
           Carver::bytes<float>(std::max(tiling.in_c, tiling.out_c) + lanes);
  }
};

WgradPlan wgrad_plan(const Conv2dDims& d) {
  constexpr int64_t operand_budget = 320 << 10, sum_budget = 8 << 20, pixel_budget = 1600 << 10;  // bytes
  WgradPlan plan{};
  plan.tiling = tiling_of(d, ConvPass::wgrad);
  plan.row = padded_columns<float>(d.c) + lanes;
  plan.columns = padded_columns<float>(d.k);
  const int64_t tile_bytes = points * (plan.row + plan.columns) * static_cast<int64_t>(sizeof(float));
  plan.block = std::clamp<int64_t>(operand_budget / tile_bytes, 32, 192);
  plan.sum_plane = d.c * plan.columns;
  // The six units of a group read the same pixels: groups whose pixels stay in L2 pay, unless their sums cost more.
  const int64_t pixel_bytes = (d.x_size() + d.y_size()) * static_cast<int64_t>(sizeof(float));
  const int64_t sum_bytes = plan.sum_elements() * static_cast<int64_t>(sizeof(float));
  plan.groups = std::min((pixel_bytes + pixel_budget - 1) / pixel_budget, plan.tiling.tiles() / plan.block);
  if (plan.groups * sum_bytes > sum_budget) plan.groups = 1;
  plan.groups = std::max<int64_t>(plan.groups, 1);
  plan.v_plane = spread(plan.block * plan.row);
  plan.y_plane = spread(plan.block * plan.columns);
  plan.slots = std::clamp<int64_t>(slot_budget / static_cast<int64_t>(plan.slot_bytes()), 2, most_slots);
  return plan;
}

/// Row Point of B^T d B for one tile: 6 rows of channels.
template <int Point>
RANVIER_FLATTEN void transform_input_row(const float* const pixels[planes], int64_t channels, int64_t plane, float* v) {
  for_registers(channels, [&](int64_t c, auto load, auto) {
    Reg half[points], out[points];
    for (int j = 0; j < points; ++j) {
      half[j] = input_point<Point>([&](int i) { return load(pixels[i * points + j] + c); });
    }
    input(half, out);
    for (int j = 0; j < points; ++j) V::store(v + j * plane + c, out[j]);
  });
}

/// Row Point of A dy A^T for one tile, written as row `at` of packed panels of `depth` rows: 6 planes.
template <int Point>
RANVIER_FLATTEN void transform_gradient_row(const float* const pixels[tile_outputs], int64_t channels, int64_t plane,
                                            int64_t depth, int64_t at, float* y) {
  for_registers(channels, [&](int64_t c, auto load, auto) {
    Reg half[outputs], out[points];
    for (int j = 0; j < outputs; ++j) {
      half[j] = output_adjoint_point<Point>([&](int i) { return load(pixels[i * outputs + j] + c); });
    }
    output_adjoint(half, out);
    const int64_t first = c / panel_width<float> * panel_width<float>;
    float* to = y + first * depth + at * panel_columns<float>(channels, first) + (c - first);
    for (int j = 0; j < points; ++j) V::store(to + j * plane, out[j]);
  });
}

/// The products of row Point over the tiles [begin, end), into 6 planes of packed panels (c, panel columns).
template <int Point>
void wgrad_unit(const WgradPlan& plan, const float* x, const float* dy, int64_t begin, int64_t end, float* sums,
                void* scratch) {
  const Tiling& t = plan.tiling;
  Carver carver(scratch);
  float* v = carver.take<float>(points * plan.v_plane);
  float* y = carver.take<float>(points * plan.y_plane);
  const int64_t zero_count = std::max(t.in_c, t.out_c) + lanes;
  float* zeros = carver.take<float>(zero_count);
  std::fill_n(zeros, zero_count, 0.0f);
  for (int64_t from = begin; from < end; from += plan.block) {
    const int64_t count = std::min(plan.block, end - from);
    for (int64_t i = 0; i < count; ++i) {
      const float* pixels[planes];
      source_pixels(t, x, from + i, zeros, pixels);
      transform_input_row<Point>(pixels, t.in_c, plan.v_plane, v + i * plan.row);
      output_pixels<const float>(t, dy, from + i, zeros, pixels);
      transform_gradient_row<Point>(pixels, t.out_c, plan.y_plane, count, i, y);
    }
    for (int j = 0; j < points; ++j)
      for (int64_t first = 0; first < plan.columns; first += panel_width<float>) {
        const int64_t width = panel_columns<float>(plan.columns, first);
        const PanelOperand<float> rows{v + j * plan.v_plane, plan.row, 1, count, 0};
        multiply_panel<float, true>(t.in_c, rows, y + j * plan.y_plane + first * count,
                                    sums + j * plan.sum_plane + first * t.in_c, width, width, from > begin);
      }
  }
}

/// Adds the groups in order, transforms back (G^T S G) and writes one panel of columns as (k, 3, 3, c).
void wgrad_collect(const WgradPlan& plan, const float* sums, int64_t first, float* dfilter) {
  constexpr int64_t rows = 16;
  alignas(64) float turned[9][rows * panel_width<float>];
  const int64_t depth = plan.tiling.in_c, width = panel_columns<float>(plan.columns, first);
  const int64_t used = std::min(width, plan.tiling.out_c - first);
  for (int64_t p0 = 0; p0 < depth; p0 += rows) {
    const int64_t count = std::min(rows, depth - p0);
    for (int64_t at = 0; at < count * width; at += lanes) {
      Reg half[taps][points], in[points], out[taps];
      for (int j = 0; j < points; ++j) {
        for (int i = 0; i < points; ++i) {
          const float* from = sums + (i * points + j) * plan.sum_plane + first * depth + p0 * width + at;
          in[i] = V::load(from);
          for (int64_t g = 1; g < plan.groups; ++g) in[i] = in[i] + V::load(from + g * plan.sum_elements());
        }
        filter_adjoint(in, out);
        for (int i = 0; i < taps; ++i) half[i][j] = out[i];
      }
      for (int i = 0; i < taps; ++i) {
        filter_adjoint(half[i], out);
        for (int j = 0; j < taps; ++j) V::store(turned[i * taps + j] + at, out[j]);
      }
    }
    for (int64_t t = 0; t < 9; ++t) {
      float* to = dfilter + (first * 9 + t) * depth + p0;
      int64_t k = 0;
      for (; count == rows && k + rows <= used; k += rows) {
        transpose_16x16(turned[t] + k, width, to + k * 9 * depth, 9 * depth);
      }
      for (; k < used; ++k)
        for (int64_t p = 0; p < count; ++p) to[k * 9 * depth + p] = turned[t][p * width + k];
    }
  }
}

void wgrad(const Conv2dDims& d, const float* x, const float* dy, float* dfilter, void* workspace) {
  using Unit = void (*)(const WgradPlan&, const float*, const float*, int64_t, int64_t, float*, void*);
  static constexpr Unit units[points] = {wgrad_unit<0>, wgrad_unit<1>, wgrad_unit<2>,
                                         wgrad_unit<3>, wgrad_unit<4>, wgrad_unit<5>};
  if (d.n == 0) {
    std::fill_n(dfilter, d.filter_size(), 0.0f);
    return;
  }
  const WgradPlan plan = wgrad_plan(d);
  Carver carver(workspace);
  float* sums = carver.take<float>(plan.groups * plan.sum_elements());
  char* scratch = carver.take<char>(plan.slots * static_cast<int64_t>(plan.slot_bytes()));
  const int64_t tiles = plan.tiling.tiles();
  parallel_for_slots(points * plan.groups, plan.slots, [&](int64_t unit, int64_t slot) {
    const int64_t group = unit / points, row = unit % points;
    units[row](plan, x, dy, shard_begin(tiles, plan.groups, group), shard_begin(tiles, plan.groups, group + 1),
               sums + group * plan.sum_elements() + row * points * plan.sum_plane,
               scratch + slot * static_cast<int64_t>(plan.slot_bytes()));
  });
  parallel_for(panel_count<float>(d.k),
               [&](int64_t panel) { wgrad_collect(plan, sums, panel * panel_width<float>, dfilter); });
}

}  // namespace

bool conv2d_winograd_supports(const Conv2dDims& d, ConvPass) {
  return d.r == 3 && d.s == 3 && d.stride_h == 1 && d.stride_w == 1 && d.pad_h <= 2 && d.pad_w <= 2;
}

bool conv2d_winograd_pays(const Conv2dDims& d, ConvPass pass) {
  return conv2d_winograd_supports(d, pass) && std::min(d.c, d.k) >= 16;
}

size_t conv2d_winograd_workspace(const Conv2dDims& d, ConvPass pass) {
  if (pass == ConvPass::wgrad) {
    const WgradPlan plan = wgrad_plan(d);
    return 2 * Carver::line + Carver::bytes<float>(plan.groups * plan.sum_elements()) +
           static_cast<size_t>(plan.slots) * plan.slot_bytes();
  }
  const Plan plan = plan_of(d, pass);
  return 2 * Carver::line + Carver::bytes<float>(plan.filter_elements()) +
         static_cast<size_t>(plan.slots) * plan.slot_bytes();
}

void conv2d_winograd(const Conv2dDims& d, ConvPass pass, const float* a, const float* b, float* out, void* workspace) {
  if (pass == ConvPass::wgrad) {
    wgrad(d, a, b, out, workspace);
  } else if (d.n > 0) {
    convolve(d, pass, a, b, out, workspace);
  }
}

}  // namespace ranvier::kernels
