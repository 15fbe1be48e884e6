// From a plan to a launch: the instances of the tiled kernels that exist for an element type.
#pragma once
#include <stdexcept>

#include "kernels/conv2d/cuda_plan.h"
#include "kernels/conv2d/pixel_tile.cuh"
#include "kernels/conv2d/scalar_tile.cuh"
#include "kernels/conv2d/wgrad_tile.cuh"

namespace ranvier::kernels::conv {

using Tile256x128 = TileShape<256, 128, 64, 64>;
using Tile128x256 = TileShape<128, 256, 64, 64>;
using Tile256x64 = TileShape<256, 64, 64, 64>;
using Tile128x128 = TileShape<128, 128, 64, 64>;
using Tile128x64 = TileShape<128, 64, 64, 32>;
using Tile64x128 = TileShape<64, 128, 32, 64>;
using Tile64x64 = TileShape<64, 64, 32, 32>;

inline int64_t cover(int64_t n, int64_t tile) { return (n + tile - 1) / tile; }

[[noreturn]] inline void no_instance() { throw std::logic_error("conv2d: a plan without a kernel"); }

template <class T, ConvPass pass, bool positional, class Shape, bool tensor>
void run_pixels(const Plan& plan, const Conv2dDims& d, const T* source, const T* filter, T* out, CudaStream stream) {
  using Tile = PixelTile<T, pass, positional, Shape, Arithmetic<T, Shape, tensor>::template Product>;
  const bool forward = pass == ConvPass::forward;
  const int64_t height = forward ? d.p() : d.h, width = forward ? d.q() : d.w;
  const int64_t classes = forward || positional ? 1 : d.stride_h * d.stride_w;
  const int64_t rows = forward ? d.n * height * width : d.n * cover(height, d.stride_h) * cover(width, d.stride_w);
  const int64_t row_tiles = positional ? cover(d.n, Shape::bm) * height * width : cover(rows, Shape::bm);
  const int64_t tiles = row_tiles * cover(forward ? d.k : d.c, Shape::bn);
  const Geometry g = geometry_of(d);
  PixelOrder order;
  if (positional) {
    order.rows = busiest<pass>(g.h, g.p, g.r, g.stride_h, g.pad_h);
    order.columns = busiest<pass>(g.w, g.q, g.s, g.stride_w, g.pad_w);
    order.pixels_outside = plan.pixels_outside;
  }
  launch_tiles<Tile>(dim3(static_cast<unsigned>(tiles), 1, static_cast<unsigned>(classes)),
                     {g, source, filter, out, order}, stream);
}

template <class T, ConvPass pass, class Shape, bool tensor>
void run_scalar(const Plan& plan, const Conv2dDims& d, const T* a, const T* b, T* out, float* sums, CudaStream stream) {
  using Tile = ScalarTile<T, pass, Shape, Arithmetic<T, Shape, tensor>::template Product>;
  const Geometry g = geometry_of(d);
  const SplitPlan split{0, plan.unit, plan.budget};
  int64_t rows = d.k, columns = d.r * d.s * d.c, splits = 1;
  if constexpr (pass == ConvPass::forward) rows = d.n * d.p() * d.q(), columns = d.k;
  if constexpr (pass == ConvPass::dgrad) rows = d.n * d.h * d.w, columns = d.c;
  if constexpr (pass == ConvPass::wgrad) splits = split.splits(g, 0);
  launch_tiles<Tile>(
      dim3(static_cast<unsigned>(cover(rows, Shape::bm) * cover(columns, Shape::bn)), static_cast<unsigned>(splits)),
      {g, a, b, out, sums, split}, stream);
  if constexpr (pass == ConvPass::wgrad) add_splits<T>(g, split, sums, out, stream);
}

template <class T, bool positional, class Shape, bool tensor>
void run_filter(const Plan& plan, const Conv2dDims& d, const T* x, const T* dy, T* dfilter, float* sums,
                CudaStream stream) {
  using Tile = WgradTile<T, positional, Shape, Arithmetic<T, Shape, tensor>::template Product>;
  const Geometry g = geometry_of(d);
  const SplitPlan split{positional, plan.unit, plan.budget};
  const int64_t columns = positional ? d.c : d.r * d.s * d.c;
  launch_tiles<Tile>(dim3(static_cast<unsigned>(cover(d.k, Shape::bm) * cover(columns, Shape::bn)),
                          static_cast<unsigned>(split.all_splits(g))),
                     {g, x, dy, sums, split, Divider<uint32_t>(static_cast<uint64_t>(d.p() * d.q())),
                      Divider<uint32_t>(static_cast<uint64_t>(d.q()))},
                     stream);
  add_splits<T>(g, split, sums, dfilter, stream);
}

}  // namespace ranvier::kernels::conv
