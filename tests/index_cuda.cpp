// CUDA kernels that move elements against the reference, bit for bit: every element size, 32- and 64-bit indices, packs
// of 16 bytes and single elements.
#include "kernels/index/index.h"
#include "kernels/index/strided.h"
#include "tests/case.h"
#include "tests/guarded.h"
#if defined(RANVIER_HAS_CUDA)
#include "tests/on_device.h"

namespace ranvier::test {
namespace {

using namespace kernels;  // NOLINT(google-build-using-namespace)

class IndexCuda : public testing::Test {
  void SetUp() override {
    if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device";
  }
};

Stream stream() { return ranvier::cuda::stream(0); }

std::vector<uint8_t> noise(int64_t bytes) {
  std::vector<uint8_t> values(static_cast<size_t>(bytes));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint8_t>(((i + 1) * 2654435761u) >> 24);
  return values;
}

/// Compares both results of moving `from` elements into `to` for every element size and width of indices.
void compare_moves(int64_t from, int64_t to,
                   const std::function<void(size_t element, const void* x, void* y)>& reference,
                   const std::function<void(size_t element, const void* x, void* y, int64_t narrow)>& kernel) {
  for (const size_t element : {size_t{1}, size_t{2}, size_t{4}, size_t{8}}) {
    const auto x = noise(from * static_cast<int64_t>(element));
    Guarded<uint8_t> want(to * static_cast<int64_t>(element));
    reference(element, x.data(), want.data());
    OnDevice<uint8_t> in(x);
    for (const int64_t narrow : {most_narrow, int64_t{0}})
      in_every_emulated_mode([&] {
        OnDevice<uint8_t> out(to * static_cast<int64_t>(element));
        kernel(element, in.data(), out.data(), narrow);
        EXPECT_EQ(out.values(), want.values()) << "element of " << element << " bytes, narrow " << narrow;
      });
  }
}

const SliceDims slices[] = {
    {{1, {10}}, {1, {3}}, {7}, {-3}},
    {{2, {2, 3}}, {2, {2, 2}}, {0, 1}, {1, 1}},
    {{4, {3, 8, 9, 5}}, {4, {3, 6, 7, 5}}, {0, 1, 2, 0}, {1, 1, 1, 1}},
    {{4, {3, 8, 9, 5}}, {4, {3, 8, 9, 5}}, {0, 0, 8, 0}, {1, 1, -1, 1}},
    {{4, {3, 8, 9, 5}}, {4, {2, 3, 2, 2}}, {2, 1, 0, 4}, {-2, 3, 5, -3}},
    {{4, {2, 8, 9, 16}}, {4, {2, 6, 7, 16}}, {0, 1, 2, 0}, {1, 1, 1, 1}},   // packs
    {{4, {2, 8, 9, 16}}, {4, {2, 6, 7, 16}}, {0, 7, 2, 0}, {1, -1, 1, 1}},  // packs of flipped rows
    {{2, {5, 48}}, {2, {5, 32}}, {0, 8}, {1, 1}},                           // packs for some sizes of element only
    {{2, {5, 47}}, {2, {5, 32}}, {0, 8}, {1, 1}},
    {{6, {2, 3, 2, 3, 2, 40}}, {6, {1, 2, 2, 2, 1, 40}}, {1, 0, 0, 2, 1, 0}, {1, 2, 1, -1, 1, 1}},
    {{3, {4, 5, 6}}, {3, {4, 0, 6}}, {0, 3, 0}, {1, 1, 1}},
    {{2, {31, 33}}, {2, {31, 31}}, {0, 1}, {1, 1}},
    {{0, {}}, {0, {}}},
    {{2, {1, 1}}, {2, {1, 1}}},
};

TEST_F(IndexCuda, SliceAndItsAdjoint) {
  for (const SliceDims& d : slices) {
    compare_moves(
        d.x.count(), d.y.count(), [&](size_t element, const void* x, void* y) { reference::slice(d, element, x, y); },
        [&](size_t element, const void* x, void* y, int64_t narrow) {
          kernels::cuda::slice(d, element, x, y, stream(), narrow);
        });
    compare_moves(
        d.y.count(), d.x.count(), [&](size_t element, const void* y, void* x) { reference::unslice(d, element, y, x); },
        [&](size_t element, const void* y, void* x, int64_t narrow) {
          kernels::cuda::unslice(d, element, y, x, stream(), narrow);
        });
  }
}

const PadDims reflections[] = {
    {{1, {4}}, {1, {9}}, {3}},
    {{4, {2, 5, 6, 3}}, {4, {2, 9, 10, 3}}, {0, 2, 2, 0}},
    {{4, {2, 5, 6, 16}}, {4, {2, 9, 10, 16}}, {0, 2, 2, 0}},
    {{3, {4, 3, 17}}, {3, {4, 7, 40}}, {0, 2, 16}},
    {{2, {1, 2}}, {2, {1, 4}}, {0, 1}},
    {{1, {1}}, {1, {1}}},
    {{0, {}}, {0, {}}},
    {{6, {2, 3, 2, 3, 2, 4}}, {6, {3, 4, 3, 6, 2, 7}}, {1, 0, 1, 1, 0, 3}},
};

template <class T>
void compare_reflect_adjoint(const PadDims& d) {
  const auto dy = normal<T>(d.y.count(), 5, 0, 100);
  Guarded<T> want(d.x.count());
  reference::pad_reflect_adjoint(d, dy.data(), want.data());
  OnDevice<T> in(dy);
  in_every_emulated_mode([&] {
    OnDevice<T> out(d.x.count());
    kernels::cuda::pad_reflect_adjoint(d, in.data(), out.data(), stream());
    expect_same_bits(out.values(), want.values(), "adjoint");
  });
}

TEST_F(IndexCuda, PadReflectAndItsAdjoint) {
  for (const PadDims& d : reflections) {
    compare_moves(
        d.x.count(), d.y.count(),
        [&](size_t element, const void* x, void* y) { reference::pad_reflect(d, element, x, y); },
        [&](size_t element, const void* x, void* y, int64_t narrow) {
          kernels::cuda::pad_reflect(d, element, x, y, stream(), narrow);
        });
    compare_reflect_adjoint<float>(d), compare_reflect_adjoint<double>(d), compare_reflect_adjoint<int32_t>(d),
        compare_reflect_adjoint<int64_t>(d);
  }
}

TEST_F(IndexCuda, Transpose) {
  const TransposeDims cases[] = {
      {{2, {2, 3}}, {1, 0}},
      {{2, {33, 50}}, {1, 0}},
      {{2, {64, 16}}, {1, 0}},
      {{4, {3, 17, 5, 7}}, {0, 2, 3, 1}},  // NCHW to NHWC
      {{4, {2, 3, 5, 7}}, {0, 2, 3, 1}},   // of few channels
      {{4, {2, 6, 7, 20}}, {0, 3, 1, 2}},  // and back
      {{4, {2, 1, 7, 32}}, {2, 1, 0, 3}},  // rows stay whole
      {{6, {2, 3, 4, 2, 3, 9}}, {5, 3, 1, 0, 2, 4}},
      {{6, {2, 9, 2, 2, 3, 8}}, {4, 2, 0, 3, 5, 1}},
      {{3, {4, 5, 6}}, {0, 1, 2}},
      {{3, {1, 1, 1}}, {2, 0, 1}},
      {{3, {9, 0, 10}}, {2, 0, 1}},
      {{0, {}}, {}},
  };
  for (const TransposeDims& d : cases)
    compare_moves(
        d.x.count(), d.x.count(),
        [&](size_t element, const void* x, void* y) { reference::transpose(d, element, x, y); },
        [&](size_t element, const void* x, void* y, int64_t) { kernels::cuda::transpose(d, element, x, y, stream()); });
}

TEST_F(IndexCuda, Concat) {
  const std::vector<int64_t> few{2, 0, 3, 1}, many(19, 1);
  for (const std::vector<int64_t>& extents : {few, many})
    for (const int64_t outer : {1, 3})
      for (const int64_t inner : {1, 5, 64}) {
        const ConcatDims d{outer, inner, static_cast<int>(extents.size()), extents.data()};
        int64_t total = 0;
        for (int64_t extent : extents) total += outer * extent * inner;
        const auto parts = [&](size_t element, const void* x) {
          std::vector<const void*> at;
          const auto* next = static_cast<const char*>(x);
          for (int64_t extent : extents)
            at.push_back(next), next += outer * extent * inner * static_cast<int64_t>(element);
          return at;
        };
        compare_moves(
            total, total,
            [&](size_t element, const void* x, void* y) { reference::concat(d, element, parts(element, x).data(), y); },
            [&](size_t element, const void* x, void* y, int64_t) {
              kernels::cuda::concat(d, element, parts(element, x).data(), y, stream());
            });
      }
}

template <class T, class I>
void compare_gather(const GatherDims& d, bool bad) {
  std::vector<I> at(static_cast<size_t>(d.count));
  for (int64_t j = 0; j < d.count; ++j) at[static_cast<size_t>(j)] = static_cast<I>((j * 37 + 11) % d.axis);
  if (bad && d.count > 2) at[1] = -1, at[2] = static_cast<I>(d.axis);
  const auto as = [](const std::vector<float>& values) {
    std::vector<T> typed;
    for (float v : values) typed.push_back(static_cast<T>(std::abs(v)));
    return typed;
  };
  const std::vector<T> x = as(normal<float>(d.outer * d.axis * d.inner, 1, 0, 50)),
                       dy = as(normal<float>(d.outer * d.count * d.inner, 2, 0, 50));
  Guarded<T> want(d.outer * d.count * d.inner), sum(d.outer * d.axis * d.inner);
  reference::gather(d, x.data(), at.data(), want.data());
  OnDevice<T> in(x), grad(dy);
  OnDevice<I> indices(at);
  for (const int64_t narrow : {most_narrow, int64_t{0}})
    in_every_emulated_mode([&] {
      OnDevice<T> out(d.outer * d.count * d.inner);
      kernels::cuda::gather(d, in.data(), indices.data(), out.data(), stream(), narrow);
      expect_same_bits(out.values(), want.values(), "gather");
    });
  if constexpr (sizeof(T) > 1) {
    reference::scatter_add(d, dy.data(), at.data(), sum.data());
    in_every_emulated_mode([&] {
      OnDevice<T> out(d.outer * d.axis * d.inner);
      kernels::cuda::scatter_add(d, grad.data(), indices.data(), out.data(), stream());
      expect_same_bits(out.values(), sum.values(), "scatter_add");
    });
  }
}

TEST_F(IndexCuda, GatherAndScatter) {
  for (const bool bad : {false, true})
    for (const GatherDims& d :
         {GatherDims{1, 50, 1, 70}, GatherDims{3, 5, 1, 9}, GatherDims{2, 9, 17, 30}, GatherDims{1, 7, 160, 40},
          GatherDims{4, 3, 2, 0}, GatherDims{1, 1, 3, 5}, GatherDims{2, 3, 32, 7}, GatherDims{0, 3, 2, 7}}) {
      compare_gather<float, int32_t>(d, bad), compare_gather<double, int64_t>(d, bad);
      compare_gather<int32_t, int32_t>(d, bad), compare_gather<int64_t, int64_t>(d, bad);
      compare_gather<uint8_t, int32_t>(d, bad);
    }
}

TEST_F(IndexCuda, BadIndicesGiveNanIn16BitTypesToo) {
  const GatherDims d{1, 2, 3, 2};
  OnDevice<bf16> x(std::vector<bf16>(6, bf16{0x3f80})), y(int64_t{6});
  OnDevice<int32_t> indices(std::vector<int32_t>{1, 2});
  kernels::cuda::gather(d, x.data(), indices.data(), y.data(), stream());
  for (int i = 0; i < 6; ++i) EXPECT_EQ(std::isnan(to_float(y.values()[static_cast<size_t>(i)])), i >= 3) << i;
  OnDevice<f16> hot(int64_t{6});
  kernels::cuda::one_hot(int64_t{2}, int64_t{3}, indices.data(), hot.data(), stream());
  std::vector<float> values;
  for (f16 v : hot.values()) values.push_back(to_float(v));
  EXPECT_EQ(values, (std::vector<float>{0, 1, 0, 0, 0, 1}));
}

TEST_F(IndexCuda, OneHot) {
  const std::vector<int32_t> labels{1, 0, 3, -1};
  Guarded<float> want(12);
  reference::one_hot<float, int32_t>(4, 3, labels.data(), want);
  OnDevice<int32_t> on_device(labels);
  OnDevice<float> out(int64_t{12});
  kernels::cuda::one_hot(int64_t{4}, int64_t{3}, on_device.data(), out.data(), stream());
  expect_same_bits(out.values(), want.values(), "one_hot");
  OnDevice<uint8_t> bytes(int64_t{12});
  kernels::cuda::one_hot(int64_t{4}, int64_t{3}, on_device.data(), bytes.data(), stream());
  EXPECT_EQ(bytes.values(), (std::vector<uint8_t>{0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}));
}

TEST_F(IndexCuda, DividersDivide) {
  for (uint32_t d : {1u, 2u, 3u, 5u, 7u, 10u, 64u, 641u, 65535u, 65536u, 65537u, 0x7ffffffeu, 0x7fffffffu}) {
    const Divider<uint32_t> divider(d);
    for (uint32_t n : {0u, 1u, 2u, d - 1, d, d + 1, 2 * d - 1, 0x7fffffffu, 0x7ffffffeu, 0x40000001u, 12345678u})
      if (n < 0x80000000u) {
        EXPECT_EQ(divider.quotient(n), n / d) << n << " / " << d;
      }
  }
}

}  // namespace
}  // namespace ranvier::test
#endif
