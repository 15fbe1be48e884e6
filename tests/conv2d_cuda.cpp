// The CUDA convolution kernels by themselves: every family, pass and type against the plain loops, on shapes that reach
// all branches. In the emulator, in every legal order of threads and copies.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "engine/device.h"
#include "kernels/conv2d/conv2d.h"
#include "tests/case.h"
#if defined(RANVIER_HAS_CUDA)
#include "kernels/conv2d/cuda_plan.h"
#include "kernels/conv2d/geometry.cuh"
#endif

/// Of the emulator; null on a device.
extern "C" __attribute__((weak)) uint64_t emulator_multiply_adds();

namespace ranvier::kernels {
namespace {

#if defined(RANVIER_HAS_CUDA)

constexpr ConvPass passes[] = {ConvPass::forward, ConvPass::dgrad, ConvPass::wgrad};

class Conv2dCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda_support().usable) GTEST_SKIP() << "skipped: " << cuda_support().why;
  }
};

std::string text(const Conv2dDims& d, ConvPass pass) {
  std::string s = "pass " + std::to_string(static_cast<int>(pass)) + ", n h w c k r s stride pad drop =";
  for (int64_t v : {d.n, d.h, d.w, d.c, d.k, d.r, d.s, d.stride_h, d.stride_w, d.pad_h, d.pad_w, d.drop_h, d.drop_w})
    s += " " + std::to_string(v);
  return s;
}

int64_t size_of(const Conv2dDims& d, ConvPass pass, int operand) {  // 0: a, 1: b, 2: out
  const int64_t x = d.x_size(), f = d.filter_size(), y = d.y_size();
  const int64_t sizes[3][3] = {{x, f, y}, {y, f, x}, {x, y, f}};
  return sizes[static_cast<int>(pass)][operand];
}

using Values = std::vector<double>;

/// Whole numbers from -`largest` to `largest`.
Values whole(int64_t count, unsigned seed, int largest = 2) {
  std::mt19937 random(seed);
  Values values(static_cast<size_t>(count));
  for (double& v : values) v = static_cast<int>(random() % (2 * largest + 1)) - largest;
  return values;
}

/// Normal numbers, rounded to T.
template <class T>
Values normals(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Values values(static_cast<size_t>(count));
  for (double& v : values) v = to_float(from_float<T>(normal(random)));
  return values;
}

template <class T>
Memory on_device(const Values& values) {
  std::vector<T> typed;
  for (double v : values) typed.push_back(from_float<T>(static_cast<float>(v)));
  Memory memory(Device::cuda(), typed.size() * sizeof(T));
  copy_to_device(Device::cuda(), memory.data(), typed.data(), memory.bytes());
  return memory;
}

/// One launch of `launch(a, b, out, workspace)`; result and workspace start as NaN.
template <class T, class Launch>
Values run_with(const Conv2dDims& d, ConvPass pass, size_t workspace_bytes, const Values& a, const Values& b,
                Launch&& launch) {
  const Device device = Device::cuda();
  const Memory da = on_device<T>(a), db = on_device<T>(b);
  const Memory out(device, static_cast<size_t>(size_of(d, pass, 2)) * sizeof(T)), workspace(device, workspace_bytes);
  fill_bytes(device, out.data(), 0xff, out.bytes());
  fill_bytes(device, workspace.data(), 0xff, workspace.bytes());
  launch(static_cast<const T*>(da.data()), static_cast<const T*>(db.data()), static_cast<T*>(out.data()),
         workspace.data());
  std::vector<T> typed(out.bytes() / sizeof(T));
  copy_to_host(device, typed.data(), out.data(), out.bytes());
  synchronize(device);
  Values values;
  for (T v : typed) values.push_back(to_float(v));
  return values;
}

template <class T>
Values run(const Conv2dDims& d, ConvPass pass, ConvKernel kernel, const Values& a, const Values& b) {
  return run_with<T>(d, pass, conv2d_cuda_workspace(d, pass, sizeof(T), kernel), a, b,
                     [&](const T* da, const T* db, T* out, void* workspace) {
                       conv2d_cuda<T>(d, pass, kernel, da, db, out, workspace, stream_of(Device::cuda()));
                     });
}

Values reference(const Conv2dDims& d, ConvPass pass, const Values& a, const Values& b) {
  Values out(static_cast<size_t>(size_of(d, pass, 2)));
  conv2d_reference(d, pass, a.data(), b.data(), out.data());
  return out;
}

/// Calls `body` once, each time in the next of the emulator's modes.
template <class Body>
void in_the_next_emulated_mode(Body&& body) {
  static int next = 0;
  int mode = 0;
  const int chosen = next++ % (emulator_set_mode ? 6 : 1);
  test::in_every_emulated_mode([&] {
    if (mode++ == chosen) body();
  });
}

/// Sums of whole numbers are exact in f32, so that every kernel must give the one rounded sum.
template <class T>
void expect_exact(const Conv2dDims& d, ConvKernel kernel) {
  for (ConvPass pass : passes) {
    if (!conv2d_cuda_supports(d, pass, sizeof(T), kernel)) continue;
    SCOPED_TRACE(text(d, pass) + ", kernel " + std::to_string(static_cast<int>(kernel)) + ", " +
                 std::to_string(sizeof(T)) + " bytes");
    const Values a = whole(size_of(d, pass, 0), 1), b = whole(size_of(d, pass, 1), 2);
    Values want = reference(d, pass, a, b);
    for (double& v : want) v = to_float(from_float<T>(static_cast<float>(v)));
    in_the_next_emulated_mode([&] { ASSERT_EQ(run<T>(d, pass, kernel, a, b), want); });
  }
}

// Every pair of extents at which something changes: one tile and several, tails of rows, columns and the reduction,
// one chunk of channels and many, strides, padding and filters of both parities.
const std::vector<Conv2dDims> chunked = {
    {1, 1, 1, 8, 8, 1, 1},                 // one product
    {3, 5, 4, 8, 16, 3, 3, 1, 1, 1, 1},    // one chunk: a step is four taps
    {2, 6, 5, 24, 40, 3, 3, 1, 1, 1, 1},   // chunks of two taps in a step
    {1, 4, 7, 72, 24, 2, 3, 1, 1, 0, 1},   //
    {2, 5, 5, 64, 136, 1, 1, 1, 1, 0, 0},  // two column tiles
    {3, 7, 9, 32, 72, 3, 3, 1, 1, 1, 1},   // two row tiles
    {2, 9, 8, 16, 32, 3, 3, 2, 2, 1, 1},   // four classes of pixels in the gradient
    {1, 8, 9, 32, 8, 1, 1, 2, 2, 0, 0},    // classes that no tap reaches
    {2, 7, 8, 8, 24, 3, 2, 2, 1, 1, 0},    // strides that differ
    {1, 9, 9, 8, 8, 2, 2, 3, 3, 0, 0},     // stride beyond the filter
    {1, 4, 4, 8, 8, 3, 3, 1, 1, 2, 2},     // full correlation
    {1, 3, 3, 8, 16, 1, 1, 1, 1, 2, 2},    // outputs of nothing but padding
    {1, 5, 6, 8, 8, 5, 5, 1, 1, 2, 2},     //
    {0, 5, 5, 8, 8, 3, 3, 1, 1, 1, 1},     // empty batch
    {40, 9, 9, 8, 64, 3, 3, 1, 1, 1, 1},   // wgrad in several splits
};

const std::vector<Conv2dDims> odd = {
    {1, 1, 1, 1, 1, 1, 1},                 //
    {2, 5, 4, 3, 5, 3, 3, 1, 1, 1, 1},     //
    {1, 6, 7, 10, 7, 2, 3, 2, 1, 0, 1},    //
    {2, 4, 5, 8, 9, 3, 3, 1, 1, 1, 1},     // one of the two in chunks
    {1, 20, 3, 8, 8, 17, 1, 1, 1, 2, 0},   // a filter beyond the masks
    {0, 5, 5, 3, 8, 3, 3, 1, 1, 1, 1},     //
    {3, 12, 12, 5, 70, 3, 3, 1, 1, 1, 1},  // several tiles and splits
};

TEST_F(Conv2dCuda, GatherIsExactInBf16) {
  for (const Conv2dDims& d : chunked) expect_exact<bf16>(d, ConvKernel::gather);
}
TEST_F(Conv2dCuda, GatherIsExactInF16) {
  for (const Conv2dDims& d : {chunked[2], chunked[6]}) expect_exact<f16>(d, ConvKernel::gather);
}
TEST_F(Conv2dCuda, GatherIsExactInF32) {
  for (const Conv2dDims& d : chunked) expect_exact<float>(d, ConvKernel::gather);
}
TEST_F(Conv2dCuda, GatherIsExactOnOddChannels) {
  for (const Conv2dDims& d : odd) {
    expect_exact<bf16>(d, ConvKernel::gather);
    expect_exact<float>(d, ConvKernel::gather);
  }
  expect_exact<f16>(odd[2], ConvKernel::gather);
}
TEST_F(Conv2dCuda, Tf32IsExactOnSmallWholeNumbers) {
  for (const Conv2dDims& d : chunked) expect_exact<float>(d, ConvKernel::tf32);
  for (const Conv2dDims& d : {odd[1], odd[3]}) expect_exact<float>(d, ConvKernel::tf32);
}

// ---- one pixel of many images ----

const std::vector<Conv2dDims> positional = {
    {1, 1, 1, 8, 8, 1, 1},                      //
    {3, 3, 4, 24, 16, 3, 3, 1, 1, 1, 1},        // chunks of two taps in a step, borders everywhere
    {130, 2, 2, 64, 72, 3, 3, 1, 1, 1, 1},      // two tiles of images
    {5, 5, 4, 64, 32, 3, 3, 2, 2, 1, 1},        // stride 2
    {2, 5, 7, 64, 8, 2, 3, 3, 2, 0, 2},         // pixels that no tap reaches
    {70, 4, 3, 64, 64, 3, 3, 1, 1, 1, 1},       // wgrad: several splits a tap, tail of images
    {3, 2, 3, 128, 72, 3, 3, 1, 1, 1, 1},       // wgrad: wide tiles
    {2, 3, 3, 64, 16, 1, 1, 1, 1, 2, 2},        // outputs of nothing but padding
    {2, 1, 1, 64, 8, 3, 3, 1, 1, 1, 1},         // wgrad: taps that never meet the image
    {0, 5, 5, 64, 64, 3, 3, 1, 1, 1, 1},        //
    {3, 7, 7, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1},  // without the last row and column
};

TEST_F(Conv2dCuda, PositionalIsExact) {
  for (const Conv2dDims& d : positional) expect_exact<bf16>(d, ConvKernel::positional);
  expect_exact<f16>(positional[5], ConvKernel::positional);
}

TEST_F(Conv2dCuda, PositionalRefusesOtherTypesAndChannels) {
  const Conv2dDims d{3, 4, 4, 64, 64, 3, 3, 1, 1, 1, 1}, odd_channels{3, 4, 4, 60, 64, 3, 3, 1, 1, 1, 1};
  EXPECT_FALSE(conv2d_cuda_supports(d, ConvPass::forward, 4, ConvKernel::positional));
  EXPECT_FALSE(conv2d_cuda_supports(odd_channels, ConvPass::forward, 2, ConvKernel::positional));
  EXPECT_FALSE(conv2d_cuda_supports({3, 4, 4, 24, 64, 3, 3, 1, 1, 1, 1}, ConvPass::wgrad, 2, ConvKernel::positional));
  EXPECT_FALSE(conv2d_cuda_supports(d, ConvPass::forward, 2, ConvKernel::tf32));
}

/// Every tile that a plan may name, also where this shape would be given another.
TEST_F(Conv2dCuda, EveryTileIsExact) {
  const auto check = [](const Conv2dDims& d, ConvPass pass, ConvKernel family, int bm, int bn, bool outside = false) {
    SCOPED_TRACE(text(d, pass) + " tile " + std::to_string(bm) + "x" + std::to_string(bn));
    const conv::Plan plan{family, false, bm, bn, 32, 6, outside};
    const Values a = whole(size_of(d, pass, 0), 1), b = whole(size_of(d, pass, 1), 2);
    Values want = reference(d, pass, a, b);
    for (double& v : want) v = to_float(from_float<bf16>(static_cast<float>(v)));
    const uint64_t before = emulator_multiply_adds ? emulator_multiply_adds() : 0;
    const size_t workspace = pass == ConvPass::wgrad ? static_cast<size_t>(6 * d.filter_size()) * 4 : 0;
    const Values got =
        run_with<bf16>(d, pass, workspace, a, b, [&](const auto* da, const auto* db, auto* out, void* w) {
          const Stream stream = stream_of(Device::cuda());
          if (pass == ConvPass::forward) conv::run_forward(plan, d, da, db, out, stream);
          if (pass == ConvPass::dgrad) conv::run_dgrad(plan, d, da, db, out, stream);
          if (pass == ConvPass::wgrad) conv::run_wgrad(plan, d, da, db, out, static_cast<float*>(w), stream);
        });
    EXPECT_EQ(got, want);
    if (emulator_multiply_adds) {  // the tile that was asked for, and no other
      EXPECT_EQ(static_cast<double>(emulator_multiply_adds() - before), conv::executed(d, pass, plan));
    }
  };
  const Conv2dDims d{140, 2, 1, 160, 96, 3, 3, 1, 1, 1, 1}, wide{20, 5, 4, 128, 136, 3, 3, 1, 1, 1, 1};
  for (ConvPass pass : {ConvPass::forward, ConvPass::dgrad}) {
    for (ConvKernel family : {ConvKernel::gather, ConvKernel::positional}) {
      check(d, pass, family, 128, 128);
      check(d, pass, family, 128, 64);
    }
    for (const bool outside : {false, true}) {
      check(d, pass, ConvKernel::positional, 256, 64, outside);
      check(d, pass, ConvKernel::positional, 128, 256, outside);
    }
  }
  check(wide, ConvPass::wgrad, ConvKernel::gather, 256, 128);
  check(wide, ConvPass::wgrad, ConvKernel::gather, 128, 128);
  check(wide, ConvPass::wgrad, ConvKernel::gather, 64, 128);
  check(wide, ConvPass::wgrad, ConvKernel::positional, 128, 128);
  check(wide, ConvPass::wgrad, ConvKernel::positional, 128, 64);
  check(wide, ConvPass::wgrad, ConvKernel::positional, 64, 64);
}

/// A plan's tiles are those of the kernel that runs, also where channels do not come in chunks.
TEST_F(Conv2dCuda, PlansOfWgradNameTheTilesThatRun) {
  if (!emulator_multiply_adds) GTEST_SKIP() << "skipped: only the emulator counts multiply-adds";
  for (const Conv2dDims& d : {Conv2dDims{9, 5, 4, 30, 70, 3, 3, 1, 1, 1, 1},
                              {9, 5, 4, 131, 33, 3, 3, 1, 1, 1, 1},
                              {9, 5, 4, 64, 136, 3, 3, 1, 1, 1, 1}}) {
    SCOPED_TRACE(text(d, ConvPass::wgrad));
    const Values a = whole(size_of(d, ConvPass::wgrad, 0), 1), b = whole(size_of(d, ConvPass::wgrad, 1), 2);
    const uint64_t before = emulator_multiply_adds();
    run<bf16>(d, ConvPass::wgrad, ConvKernel::best, a, b);
    EXPECT_EQ(2 * static_cast<double>(emulator_multiply_adds() - before),
              conv2d_cuda_flops(d, ConvPass::wgrad, 2, ConvKernel::best));
  }
}

// Taps on padding are 1 - (19/21)^2 = 18.1 % of the work on 7 x 7 maps, and 1 - (7/9)^2 = 39.5 % on 3 x 3.
TEST_F(Conv2dCuda, PositionalLeavesPaddingOut) {
  const Conv2dDims maps[] = {{128, 7, 7, 32, 64, 3, 3, 1, 1, 1, 1},
                             {128, 3, 3, 64, 64, 3, 3, 1, 1, 1, 1},
                             {128, 7, 7, 32, 64, 3, 3, 1, 1, 1, 1, 1, 1}};
  const double share[] = {361.0 / 441, 49.0 / 81, 289.0 / 324};
  for (int i = 0; i < 3; ++i) {
    const Conv2dDims& d = maps[i];
    EXPECT_EQ(conv2d_cuda_flops(d, ConvPass::forward, 2, ConvKernel::gather),
              std::ceil(static_cast<double>(d.p() * d.q())) * 128 * 64 * 2 * static_cast<double>(9 * d.c));
    EXPECT_DOUBLE_EQ(conv2d_cuda_flops(d, ConvPass::forward, 2, ConvKernel::positional) /
                         conv2d_cuda_flops(d, ConvPass::forward, 2, ConvKernel::gather),
                     share[i]);
    EXPECT_EQ(conv2d_cuda_flops(d, ConvPass::forward, 2, ConvKernel::best),
              conv2d_cuda_flops(d, ConvPass::forward, 2, ConvKernel::positional));
    if (!emulator_multiply_adds) continue;
    const uint64_t before = emulator_multiply_adds();
    run<bf16>(d, ConvPass::forward, ConvKernel::positional, whole(d.x_size(), 1), whole(d.filter_size(), 2));
    EXPECT_EQ(2 * static_cast<double>(emulator_multiply_adds() - before),
              conv2d_cuda_flops(d, ConvPass::forward, 2, ConvKernel::positional));
  }
}

TEST_F(Conv2dCuda, FlopsAreWhatRuns) {
  if (!emulator_multiply_adds) GTEST_SKIP() << "skipped: only the emulator counts";
  const auto check = [](const Conv2dDims& d, ConvPass pass, ConvKernel kernel) {
    const uint64_t before = emulator_multiply_adds();
    run<bf16>(d, pass, kernel, whole(size_of(d, pass, 0), 1), whole(size_of(d, pass, 1), 2));
    EXPECT_EQ(2 * static_cast<double>(emulator_multiply_adds() - before), conv2d_cuda_flops(d, pass, 2, kernel))
        << text(d, pass);
  };
  const Conv2dDims d{33, 3, 2, 64, 32, 3, 3, 1, 1, 1, 1}, strided{9, 4, 3, 64, 96, 3, 3, 2, 2, 1, 1};
  for (ConvPass pass : passes)
    for (ConvKernel kernel : {ConvKernel::gather, ConvKernel::positional})
      check(d, pass, kernel), check(strided, pass, kernel);
}

// ---- few channels ----

const std::vector<Conv2dDims> few = {
    {1, 1, 1, 1, 1, 1, 1},                     //
    {2, 12, 12, 3, 24, 2, 2},                  // whitening
    {3, 9, 35, 3, 32, 3, 3, 1, 1, 1, 1},       // first layer; two tiles of columns
    {1, 18, 5, 4, 70, 3, 3, 1, 1, 1, 1},       // two blocks of output channels, tiles of rows
    {2, 15, 14, 3, 16, 7, 7, 2, 2, 3, 3},      //
    {2, 7, 9, 2, 5, 3, 2, 1, 2, 0, 1},         // output channels not in eights
    {1, 6, 6, 1, 64, 5, 5, 1, 1, 2, 2},        //
    {0, 6, 6, 3, 8, 3, 3, 1, 1, 1, 1},         //
    {20, 13, 13, 3, 8, 3, 3, 1, 1, 1, 1},      // wgrad in several splits
    {2, 9, 9, 3, 24, 3, 3, 1, 1, 1, 1, 1, 1},  // without the last row and column
};
TEST_F(Conv2dCuda, FewChannelsAreExact) {
  for (const Conv2dDims& d : few) {
    EXPECT_TRUE(conv2d_cuda_supports(d, ConvPass::forward, 2, ConvKernel::few_channels));
    expect_exact<bf16>(d, ConvKernel::few_channels);
    expect_exact<float>(d, ConvKernel::few_channels);
  }
  expect_exact<f16>(few[2], ConvKernel::few_channels);
}
TEST_F(Conv2dCuda, FewChannelsKnowTheirLimits) {
  EXPECT_FALSE(conv2d_cuda_supports(few[1], ConvPass::dgrad, 2, ConvKernel::few_channels));
  EXPECT_FALSE(conv2d_cuda_supports({1, 9, 9, 5, 8, 3, 3}, ConvPass::forward, 2, ConvKernel::few_channels));
  EXPECT_FALSE(conv2d_cuda_supports({1, 32, 32, 3, 64, 16, 16}, ConvPass::forward, 2, ConvKernel::few_channels));
  const Conv2dDims far_apart{1, 30, 30, 3, 8, 3, 3, 5, 5};
  EXPECT_FALSE(conv2d_cuda_supports(far_apart, ConvPass::forward, 2, ConvKernel::few_channels));
  expect_exact<bf16>(far_apart, ConvKernel::best);
}

// ---- any family ----

const ConvKernel kernels[] = {ConvKernel::best, ConvKernel::gather, ConvKernel::positional, ConvKernel::few_channels,
                              ConvKernel::tf32};
const std::vector<Conv2dDims> mixed = {{9, 4, 3, 64, 40, 3, 3, 1, 1, 1, 1},
                                       {2, 5, 6, 64, 72, 3, 3, 2, 2, 1, 1},
                                       {3, 20, 9, 3, 24, 3, 3, 1, 1, 1, 1},
                                       {2, 5, 5, 10, 7, 3, 3, 1, 1, 1, 1}};

template <class T>
void expect_close_and_repeatable(const Conv2dDims& d, ConvPass pass, ConvKernel kernel) {
  if (!conv2d_cuda_supports(d, pass, sizeof(T), kernel)) return;
  SCOPED_TRACE(text(d, pass) + ", kernel " + std::to_string(static_cast<int>(kernel)));
  const Values a = normals<T>(size_of(d, pass, 0), 3), b = normals<T>(size_of(d, pass, 1), 4);
  const auto magnitudes = [](Values v) {
    for (double& x : v) x = std::abs(x);
    return v;
  };
  const Values want = reference(d, pass, a, b), size = reference(d, pass, magnitudes(a), magnitudes(b));
  const double ulp = sizeof(T) == 4 ? 0x1p-24 : std::is_same_v<T, bf16> ? 0x1p-8 : 0x1p-11;
  const double operand = kernel == ConvKernel::tf32 ? 0x1p-10 : 0;  // both operands rounded by half of 2^-10
  Values first;
  test::in_every_emulated_mode([&] {
    const Values got = run<T>(d, pass, kernel, a, b);
    if (first.empty()) first = got;
    ASSERT_EQ(got, first) << "bits depend on the order of threads or copies";
  });
  for (size_t i = 0; i < want.size(); ++i)
    ASSERT_TRUE(std::abs(first[i] - want[i]) <= (16 * 0x1p-24 + operand) * size[i] + ulp * std::abs(want[i]))
        << i << ": " << first[i] << " against " << want[i];
}

TEST_F(Conv2dCuda, RealNumbersRoundLikeOneSum) {
  for (ConvPass pass : passes)
    for (ConvKernel kernel : kernels)
      for (const Conv2dDims& d : mixed) {
        expect_close_and_repeatable<bf16>(d, pass, kernel);
        if (kernel != ConvKernel::positional) expect_close_and_repeatable<float>(d, pass, kernel);
      }
  expect_close_and_repeatable<f16>(mixed[0], ConvPass::forward, ConvKernel::best);
}

/// <dy, conv(x, w)> = <dgrad(dy, w), x> = <wgrad(x, dy), w>: with few small whole numbers nothing is rounded.
TEST_F(Conv2dCuda, PassesAreAdjoint) {
  const auto dot = [](const Values& a, const Values& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  for (ConvKernel kernel : {ConvKernel::gather, ConvKernel::positional})
    for (const Conv2dDims& d :
         {Conv2dDims{2, 5, 4, 64, 24, 3, 3, 1, 1, 1, 1}, Conv2dDims{1, 6, 7, 64, 16, 2, 3, 2, 1, 1, 0}}) {
      Values x = whole(d.x_size(), 1, 1), w = whole(d.filter_size(), 2, 1), dy = whole(d.y_size(), 3, 1);
      const double y = dot(dy, run<bf16>(d, ConvPass::forward, kernel, x, w));
      EXPECT_EQ(y, dot(x, run<bf16>(d, ConvPass::dgrad, kernel, dy, w))) << text(d, ConvPass::dgrad);
      EXPECT_EQ(y, dot(w, run<bf16>(d, ConvPass::wgrad, kernel, x, dy))) << text(d, ConvPass::wgrad);
    }
}

// The last row and column of y: left out, they change no bit of the rest, nor of the gradient where their dy is zero.
TEST_F(Conv2dCuda, DroppedRowsChangeNothingElse) {
  for (const Conv2dDims& dense :
       {Conv2dDims{3, 7, 7, 64, 40, 3, 3, 1, 1, 1, 1}, Conv2dDims{2, 5, 9, 3, 24, 3, 3, 1, 1, 1, 1}})
    for (ConvKernel kernel : {ConvKernel::best, ConvKernel::gather, ConvKernel::positional, ConvKernel::few_channels}) {
      Conv2dDims live = dense;
      live.drop_h = live.drop_w = 1;
      const auto crop = [&](const Values& y) {
        Values part;
        for (int64_t n = 0; n < live.n; ++n)
          for (int64_t p = 0; p < live.p(); ++p)
            for (int64_t i = 0; i < live.q() * live.k; ++i)
              part.push_back(y[static_cast<size_t>((n * dense.p() + p) * dense.q() * dense.k + i)]);
        return part;
      };
      const Values x = normals<bf16>(dense.x_size(), 1), w = normals<bf16>(dense.filter_size(), 2);
      Values dy = normals<bf16>(dense.y_size(), 3);
      for (int64_t i = 0; i < dense.y_size(); ++i)
        if (i / (dense.k * dense.q()) % dense.p() >= live.p() || i / dense.k % dense.q() >= live.q())
          dy[static_cast<size_t>(i)] = 0;
      const auto supported = [&](ConvPass pass) { return conv2d_cuda_supports(dense, pass, 2, kernel); };
      if (supported(ConvPass::forward)) {
        EXPECT_EQ(run<bf16>(live, ConvPass::forward, kernel, x, w),
                  crop(run<bf16>(dense, ConvPass::forward, kernel, x, w)));
      }
      if (supported(ConvPass::dgrad)) {
        EXPECT_EQ(run<bf16>(live, ConvPass::dgrad, kernel, crop(dy), w),
                  run<bf16>(dense, ConvPass::dgrad, kernel, dy, w));
      }
      if (supported(ConvPass::wgrad)) {  // pixels are grouped otherwise: equal where sums are exact
        const Values whole_x = whole(dense.x_size(), 4);
        for (double& v : dy) v = std::trunc(v);
        EXPECT_EQ(run<bf16>(live, ConvPass::wgrad, kernel, whole_x, crop(dy)),
                  run<bf16>(dense, ConvPass::wgrad, kernel, whole_x, dy));
      }
    }
}

// Pixels of x that no tap reaches are never read, and what is read beyond a tensor counts as zero whatever lies there.
TEST_F(Conv2dCuda, NotANumberStaysWhereItIs) {
  const Conv2dDims d{2, 8, 8, 64, 8, 2, 2, 3, 3};  // rows and columns 2 and 5 are between the windows
  Values x = whole(d.x_size(), 1);
  for (int64_t i = 0; i < d.x_size(); ++i)
    if (i / (d.c * d.w) % d.h % 3 == 2 || i / d.c % d.w % 3 == 2) x[static_cast<size_t>(i)] = NAN;
  const Values w = whole(d.filter_size(), 2), dy = whole(d.y_size(), 3);
  for (ConvKernel kernel : {ConvKernel::gather, ConvKernel::positional}) {
    for (double v : run<bf16>(d, ConvPass::forward, kernel, x, w)) ASSERT_FALSE(std::isnan(v));
    for (double v : run<bf16>(d, ConvPass::wgrad, kernel, x, dy)) ASSERT_FALSE(std::isnan(v));
  }
  x[0] = NAN;  // and one that is read is not lost
  const Values y = run<bf16>(d, ConvPass::forward, ConvKernel::best, x, w);
  EXPECT_EQ(std::count_if(y.begin(), y.end(), [](double v) { return std::isnan(v); }), d.k);
}

#endif

}  // namespace
}  // namespace ranvier::kernels
