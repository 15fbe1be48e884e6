// What the CUDA convolutions decide before they launch: the order of pixels, the tiles of a plan, which shapes they
// take.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/conv2d/conv2d.h"
#if defined(RANVIER_HAS_CUDA)
#include "kernels/conv2d/cuda_plan.h"
#include "kernels/conv2d/geometry.cuh"
#endif

namespace ranvier::kernels {
namespace {

#if defined(RANVIER_HAS_CUDA)

/// Each pixel once, and none before one with more taps of both its row and its column.
TEST(ConvPixelOrder, TakesEveryPixelOnceTheBusiestFirst) {
  const Conv2dDims maps[] = {{1, 7, 7, 8, 8, 3, 3, 1, 1, 1, 1}, {1, 3, 3, 8, 8, 3, 3, 1, 1, 1, 1},
                             {1, 2, 9, 8, 8, 3, 3, 1, 1, 1, 1}, {1, 1, 1, 8, 8, 3, 3, 1, 1, 1, 1},
                             {1, 9, 8, 8, 8, 5, 3, 2, 1, 2, 0}, {1, 8, 7, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1}};
  const auto check = [](const conv::Taps& rows, const conv::Taps& columns, int height, int width, bool expects_order) {
    const conv::PixelOrder order{rows, columns};
    std::vector<int> seen(static_cast<size_t>(height * width));
    int last = 2;
    for (int at = 0; at < height * width; ++at) {
      const int pixel = order.pixel(at, width), i = pixel / width, j = pixel % width;
      ASSERT_TRUE(pixel >= 0 && pixel < height * width);
      ++seen[static_cast<size_t>(pixel)];
      const int busy = (i >= rows.begin && i < rows.end) +
                       (i >= rows.begin && i < rows.end && j >= columns.begin && j < columns.end);
      EXPECT_LE(busy, last) << "at " << at;
      last = busy;
    }
    EXPECT_EQ(seen, std::vector<int>(seen.size(), 1)) << height << " x " << width;
    if (expects_order) {
      EXPECT_EQ(last, 0);
    }
  };
  using conv::busiest;
  for (const Conv2dDims& d : maps) {
    const conv::Geometry g = conv::geometry_of(d);
    const bool bordered = d.h == 7 && d.p() == 7;
    check(busiest<ConvPass::forward>(g.h, g.p, g.r, g.stride_h, g.pad_h),
          busiest<ConvPass::forward>(g.w, g.q, g.s, g.stride_w, g.pad_w), g.p, g.q, bordered);
    check(busiest<ConvPass::dgrad>(g.h, g.p, g.r, g.stride_h, g.pad_h),
          busiest<ConvPass::dgrad>(g.w, g.q, g.s, g.stride_w, g.pad_w), g.h, g.w, bordered);
  }
  const conv::Taps seven = busiest<ConvPass::forward>(7, 7, 3, 1, 1), dead = busiest<ConvPass::dgrad>(7, 6, 3, 1, 1);
  EXPECT_EQ(seven.begin, 1);
  EXPECT_EQ(seven.end, 6);
  EXPECT_EQ(dead.begin, 1);
  EXPECT_EQ(dead.end, 5);  // the last row of x meets one row of the floored result
}

/// Tiles of 256 where they make blocks enough for every multiprocessor several times over, smaller ones on small maps.
TEST(ConvPlans, LargeTilesForManyChannels) {
  const auto tile = [](int64_t size, int64_t c, int64_t k, ConvPass pass) {
    const conv::Plan plan = conv::plan_of({2000, size, size, c, k, 3, 3, 1, 1, 1, 1}, pass, 2, ConvKernel::best);
    return std::to_string(plan.bm) + "x" + std::to_string(plan.bn) + (plan.pixels_outside ? " by pixels" : "");
  };
  EXPECT_EQ(tile(7, 256, 256, ConvPass::forward), "128x256");
  EXPECT_EQ(tile(7, 256, 256, ConvPass::dgrad), "128x256");
  EXPECT_EQ(tile(3, 256, 256, ConvPass::forward), "128x128 by pixels");
  EXPECT_EQ(tile(15, 64, 256, ConvPass::dgrad), "256x64");
  EXPECT_EQ(tile(15, 64, 64, ConvPass::wgrad), "64x128");
  EXPECT_EQ(conv::plan_of({2000, 7, 7, 256, 256, 3, 3, 1, 1, 1, 1}, ConvPass::wgrad, 2, ConvKernel::best).budget, 7);
  EXPECT_EQ(tile(7, 256, 256, ConvPass::wgrad), "256x128");
}

/// Beside each limit of 32-bit indices a shape just within it and one just beyond.
TEST(ConvPlans, ShapesBeyondIndicesAreRefused) {
  const auto takes = [](const Conv2dDims& d) {
    return conv2d_cuda_supports(d, ConvPass::forward, 2, ConvKernel::best);
  };
  EXPECT_TRUE(takes({1 << 14, 32, 32, 64, 64, 3, 3, 1, 1, 1, 1}));
  EXPECT_FALSE(takes({1 << 20, 64, 64, 64, 64, 3, 3, 1, 1, 1, 1}));  // pixels of x and y
  constexpr int64_t widest = (int64_t{1} << 29) - 1;                 // one row of y in eight million
  EXPECT_TRUE(takes({1, 1, 1, 8, 8, 1, 1, 255, 1, widest, 0}));
  EXPECT_FALSE(takes({1, 1, 1, 8, 8, 1, 1, 255, 1, widest + 1, 0}));
  EXPECT_FALSE(takes({1, 1, 1, 8, 8, 1, 1, 1, 255, 0, widest + 1}));
  EXPECT_TRUE(takes({1, 300, 300, 8, 8, 1, 1, 255, 255, 0, 0}));
  EXPECT_FALSE(takes({1, 300, 300, 8, 8, 1, 1, 256, 1, 0, 0}));
  EXPECT_FALSE(takes({1, 300, 300, 8, 8, 1, 1, 1, 256, 0, 0}));
  EXPECT_TRUE(takes({1, 1, 1, 8, int64_t{1} << 20, 1, 1, 1, 1, 0, 0}));
  EXPECT_FALSE(takes({1, 1, 1, int64_t{1} << 18, int64_t{1} << 17, 1, 1, 1, 1, 0, 0}));  // the filter's chunks
}

#endif

}  // namespace
}  // namespace ranvier::kernels
