// The CUDA matrix products as raw kernels: every element type, orientation, tile and split, operands that are not
// aligned, and groups of products of different shapes.
#include "tests/case.h"

#if defined(RANVIER_HAS_CUDA)
#include "kernels/matmul/matmul.h"

namespace ranvier::test {
namespace {

using kernels::bf16;
using kernels::f16;
using kernels::GroupedProduct;
using kernels::MatmulCudaCut;
using kernels::MatmulDims;

#define RANVIER_NEEDS_CUDA()                                       \
  if (const CudaSupport support = cuda_support(); !support.usable) \
  GTEST_SKIP() << "skipped: no CUDA device (" << support.why << ")"

/// Device memory of exactly `count` elements from `offset` elements after an aligned address, filled with NaN.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count, size_t offset = 0)
      : memory_(Device::cuda(), (count + offset) * sizeof(T)), count_(count), offset_(offset) {
    fill_bytes(Device::cuda(), memory_.data(), 0xFF, memory_.bytes());
  }
  explicit DeviceArray(const std::vector<double>& values, size_t offset = 0) : DeviceArray(values.size(), offset) {
    std::vector<T> typed;
    for (double v : values) typed.push_back(kernels::narrow<T>(static_cast<kernels::compute_t<T>>(v)));
    copy_to_device(Device::cuda(), data(), typed.data(), count_ * sizeof(T));
  }
  T* data() const { return static_cast<T*>(memory_.data()) + offset_; }
  std::vector<double> host() const {
    std::vector<T> typed(count_);
    copy_to_host(Device::cuda(), typed.data(), data(), count_ * sizeof(T));
    std::vector<double> values;
    for (T v : typed) values.push_back(kernels::widen(v));
    return values;
  }

 private:
  Memory memory_;
  size_t count_, offset_;
};

std::vector<double> whole_numbers(int64_t count, uint64_t which) {
  return draw({{count}, {-2, 3, 0, true}}, which, DType::f32);
}

template <class T>
std::vector<double> rounded_to(std::vector<double> values) {
  for (double& v : values) v = rounded(v, dtype_of<T>());
  return values;
}

std::string name(const MatmulDims& d, const MatmulCudaCut& cut) {
  return fmt::format("batch {} m {} n {} k {} flags {}{} tile {} splits {}", d.batch, d.m, d.n, d.k, d.transpose_a,
                     d.transpose_b, cut.tile, cut.splits);
}

template <class T>
using RunProduct = std::function<void(const MatmulDims&, const MatmulCudaCut&, const T*, const T*, T*, void*)>;

/// Small whole numbers, whose products and sums are exact in every type: the result is the reference's, rounded once.
template <class T>
void expect_exact(const MatmulDims& d, const MatmulCudaCut& cut, size_t offset, const RunProduct<T>& run) {
  const auto a = whole_numbers(d.a_size(), 1), b = whole_numbers(d.b_size(), 2);
  std::vector<double> expected(static_cast<size_t>(d.c_size()));
  kernels::matmul_reference(d, a.data(), b.data(), expected.data());
  expected = rounded_to<T>(expected);
  in_every_emulated_mode([&] {
    const DeviceArray<T> x(a, offset), y(b, offset), out(expected.size(), offset);
    const Memory workspace(Device::cuda(), kernels::matmul_cuda_workspace<T>(d, cut));
    run(d, cut, x.data(), y.data(), out.data(), workspace.data());
    EXPECT_EQ(out.host(), expected) << name(d, cut) << " offset " << offset;
  });
}

template <class T>
void default_run(const MatmulDims& d, const MatmulCudaCut& cut, const T* a, const T* b, T* c, void* workspace) {
  kernels::matmul_cuda<T>(d, cut, a, b, c, workspace, stream_of(Device::cuda()));
}
void tf32_run(const MatmulDims& d, const MatmulCudaCut& cut, const float* a, const float* b, float* c,
              void* workspace) {
  kernels::matmul_cuda_tf32(d, cut, a, b, c, workspace, stream_of(Device::cuda()));
}

/// A cut into `splits` near-equal parts of whole stages.
MatmulCudaCut forced(const MatmulDims& d, int64_t tile, int64_t splits, int64_t stage_depth) {
  const int64_t stages = (d.k + stage_depth - 1) / stage_depth, per = (stages + splits - 1) / splits;
  return {tile, (stages + per - 1) / per, per * stage_depth};
}

template <class T>
void expect_exact_everywhere(const RunProduct<T>& run, bool has_large_tiles) {
  const int64_t stage_depth = 64 / static_cast<int64_t>(sizeof(T));
  struct Case {
    int64_t batch, m, n, k, splits;
    size_t offset;
  };
  // one stage, fewer stages than the pipeline has, more; tails in every index; rows of 16 bytes, of 4 and of neither
  const Case small[] = {{1, 1, 1, 1, 1, 0},   {1, 64, 64, 64, 1, 0},  {2, 72, 136, 40, 1, 0}, {1, 65, 33, 17, 1, 0},
                        {3, 5, 66, 34, 1, 0}, {1, 40, 48, 176, 2, 0}, {2, 17, 10, 210, 3, 0}, {1, 64, 8, 160, 1, 1}};
  const Case large[] = {{1, 136, 128, 72, 1, 0}, {1, 130, 129, 70, 2, 0}, {1, 128, 256, 224, 1, 0}};
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      const auto check = [&](const Case& c, int64_t tile) {
        const MatmulDims d{c.batch, c.m, c.n, c.k, ta, tb};
        expect_exact<T>(d, forced(d, tile, c.splits, stage_depth), c.offset, run);
      };
      for (const Case& c : small) check(c, 64);
      if (has_large_tiles)
        for (const Case& c : large) check(c, 128);
    }
}

TEST(MatmulCuda, ExactInF32) {
  RANVIER_NEEDS_CUDA();
  expect_exact_everywhere<float>(default_run<float>, true);
}
TEST(MatmulCuda, ExactInF64) {
  RANVIER_NEEDS_CUDA();
  expect_exact_everywhere<double>(default_run<double>, false);
}
TEST(MatmulCuda, ExactInTf32) {
  RANVIER_NEEDS_CUDA();
  expect_exact_everywhere<float>(tf32_run, true);
}
TEST(MatmulCuda, ExactInBf16) {
  RANVIER_NEEDS_CUDA();
  expect_exact_everywhere<bf16>(default_run<bf16>, true);
}
TEST(MatmulCuda, ExactInF16) {
  RANVIER_NEEDS_CUDA();
  expect_exact_everywhere<f16>(default_run<f16>, true);
}

/// Tiles in shared memory are written by cp.async and read by ldmatrix without a bank conflict, in every orientation.
TEST(MatmulCuda, NoBankConflicts) {
  RANVIER_NEEDS_CUDA();
  if (!emulator_bank_conflicts) GTEST_SKIP() << "skipped: only the emulator counts bank conflicts";
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const int64_t tile : {64, 128}) {
        const MatmulDims d{1, 128, 128, 64, ta, tb};
        const auto run = [&]<class T>(const RunProduct<T>& product, const char* file) {
          const DeviceArray<T> a(whole_numbers(d.a_size(), 1)), b(whole_numbers(d.b_size(), 2)), c(d.c_size());
          const MatmulCudaCut cut = forced(d, tile, 1, 64 / static_cast<int64_t>(sizeof(T)));
          return bank_conflicts(file, [&] { product(d, cut, a.data(), b.data(), c.data(), nullptr); });
        };
        EXPECT_EQ(run.operator()<bf16>(default_run<bf16>, "mma_tile.cuh"), 0) << "reads, flags " << ta << tb;
        EXPECT_EQ(run.operator()<bf16>(default_run<bf16>, "cuda_tensor.cuh"), 0) << "writes, flags " << ta << tb;
        EXPECT_EQ(run.operator()<float>(tf32_run, "cuda_tensor.cuh"), 0) << "tf32 writes, flags " << ta << tb;
      }
}

TEST(MatmulCuda, DefaultCutsCoverTheDepthOnce) {
  for (const MatmulDims& d : {MatmulDims{1, 64, 10, 2048},
                              {1, 512, 10, 50000},
                              {1, 4096, 4096, 4096},
                              {7, 300, 200, 5000},
                              {1, 1, 1, 1},
                              {1, 128, 128, 255},
                              {1000000, 3, 3, 3},
                              {1, 0, 5, 3},
                              {1, 5, 3, 0},
                              {1, 1, 1, int64_t{1} << 40}}) {
    const auto check = [&](const MatmulCudaCut& cut, int64_t stage_depth) {
      EXPECT_GE(cut.splits, 1) << name(d, cut);
      EXPECT_LE(cut.splits, 64) << name(d, cut);
      EXPECT_EQ(cut.split_depth % stage_depth, 0) << name(d, cut);
      EXPECT_GE(cut.splits * cut.split_depth, d.k) << name(d, cut);
      EXPECT_LT((cut.splits - 1) * cut.split_depth, std::max<int64_t>(d.k, 1)) << name(d, cut) << ": an empty split";
    };
    check(kernels::matmul_cuda_cut<float>(d), 16);
    check(kernels::matmul_cuda_cut<double>(d), 8);
    check(kernels::matmul_cuda_cut<bf16>(d), 32);
  }
  // a weight gradient: few tiles, long depth
  EXPECT_EQ(kernels::matmul_cuda_cut<bf16>({1, 64, 10, 2048}).splits, 8);
  // a result that fills the device
  const MatmulCudaCut square = kernels::matmul_cuda_cut<bf16>({1, 4096, 4096, 4096});
  EXPECT_EQ(square.tile, 128);
  EXPECT_EQ(square.splits, 1);
}

/// Operands, result and expectation of one product of a group.
template <class T>
struct Grouped {
  Grouped(const MatmulDims& d, bool symmetric, bool in_place, float alpha, float beta, uint64_t which)
      : a_values(whole_numbers(d.a_size(), which)),
        b_values(symmetric ? a_values : whole_numbers(d.b_size(), which + 1)),
        c_values(whole_numbers(d.c_size(), which + 2)),
        a(a_values),
        b(b_values),
        c(symmetrised(d, symmetric)),
        d_(static_cast<size_t>(d.c_size())) {
    product = {d.m, d.n, d.k, d.transpose_a, d.transpose_b, symmetric};
    product.a = a.data(), product.b = b.data(), product.c = c.data(), product.d = in_place ? c.data() : d_.data();
    expected.resize(c_values.size());
    kernels::matmul_reference(d, a_values.data(), b_values.data(), expected.data());
    for (size_t i = 0; i < expected.size(); ++i)
      expected[i] = alpha * expected[i] + (beta == 0 ? 0 : beta * c_values[i]);
    expected = rounded_to<T>(expected);
    if (beta == 0 && !in_place) product.c = nullptr;
  }
  std::vector<double> result() const { return product.d == c.data() ? c.host() : d_.host(); }
  std::vector<double>& symmetrised(const MatmulDims& d, bool symmetric) {
    for (int64_t i = 0; symmetric && i < d.m; ++i)
      for (int64_t j = 0; j < i; ++j)
        c_values[static_cast<size_t>(j * d.n + i)] = c_values[static_cast<size_t>(i * d.n + j)];
    return c_values;
  }

  std::vector<double> a_values, b_values, c_values, expected;
  DeviceArray<T> a, b, c, d_;
  GroupedProduct<T> product;
};

struct GroupCase {
  MatmulDims dims;
  bool symmetric, in_place;
};

template <class T>
void expect_group(float alpha, float beta, const std::vector<GroupCase>& cases) {
  std::vector<std::unique_ptr<Grouped<T>>> group;
  in_every_emulated_mode([&] {
    group.clear();
    std::vector<GroupedProduct<T>> products;
    for (const GroupCase& c : cases) {
      const uint64_t which = 10 * group.size() + 1;
      group.push_back(std::make_unique<Grouped<T>>(c.dims, c.symmetric, c.in_place, alpha, beta, which));
      products.push_back(group.back()->product);
    }
    const Memory workspace(Device::cuda(), kernels::matmul_grouped_workspace<T>(products));
    kernels::matmul_grouped<T>(products, alpha, beta, workspace.data(), stream_of(Device::cuda()));
    for (size_t i = 0; i < group.size(); ++i)
      EXPECT_EQ(group[i]->result(), group[i]->expected) << "product " << i << " alpha " << alpha << " beta " << beta;
  });
}

const std::vector<GroupCase> group_cases = {
    {{1, 70, 70, 40, false, true}, true, false},   // gram of a wide matrix, tails in the diagonal tiles
    {{1, 130, 130, 24, true, false}, true, true},  // of a tall one; three rows of tiles
    {{1, 64, 64, 600, false, true}, true, false},  // deep: split
    {{1, 65, 33, 72, false, false}, false, false}, {{1, 10, 130, 16, true, true}, false, true},
    {{1, 0, 5, 3, false, false}, false, false},    {{1, 5, 6, 0, false, false}, false, true},
    {{1, 24, 40, 520, true, false}, false, false}};

TEST(MatmulCuda, GroupsInBf16) {
  RANVIER_NEEDS_CUDA();
  expect_group<bf16>(1, 0, group_cases);
  expect_group<bf16>(2, -0.5, group_cases);
}
TEST(MatmulCuda, GroupsInF16) {
  RANVIER_NEEDS_CUDA();
  expect_group<f16>(2, 1, group_cases);
}
TEST(MatmulCuda, GroupsInF32) {
  RANVIER_NEEDS_CUDA();
  expect_group<float>(1, 0, group_cases);
  expect_group<float>(2, -0.5, group_cases);
}
TEST(MatmulCuda, GroupsOfMoreProductsThanALaunchTakes) {
  RANVIER_NEEDS_CUDA();
  std::vector<GroupCase> many;
  for (int64_t i = 0; i < 51; ++i) many.push_back({{1, 1 + i % 5, 3, 1 + i, i % 2 == 0, i % 3 == 0}, false, false});
  expect_group<bf16>(1, 1, many);
}

TEST(MatmulCuda, SymmetricProductsMustBeSquare) {
  GroupedProduct<float> product;
  product.m = 3, product.n = 4, product.symmetric = true;
  EXPECT_THROW(kernels::matmul_grouped_workspace<float>(std::span(&product, 1)), std::runtime_error);
}

}  // namespace
}  // namespace ranvier::test
#else
TEST(MatmulCuda, All) { GTEST_SKIP() << "skipped: this build has no CUDA backend"; }
#endif
