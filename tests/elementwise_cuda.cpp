// The CUDA interpreter of pointwise programs against the reference, bit for bit: random programs over all readings of
// inputs, types and sizes, in one launch and in several.
#include "kernels/elementwise/convert.h"
#include "kernels/elementwise/elementwise.h"
#include "tests/case.h"
#include "tests/guarded.h"
#if defined(RANVIER_HAS_CUDA)
#include "tests/on_device.h"

namespace ranvier::test {
namespace {

using namespace kernels;  // NOLINT(google-build-using-namespace)

class ElementwiseCuda : public testing::Test {
  void SetUp() override {
    if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device";
  }
};

/// Functions whose result has the same bits in every library.
constexpr Fn exact_fns[] = {Fn::neg,     Fn::abs,   Fn::sign, Fn::square,     Fn::relu,  Fn::add,   Fn::sub,    Fn::mul,
                            Fn::maximum, Fn::equal, Fn::less, Fn::less_equal, Fn::where, Fn::clamp, Fn::minimum};

struct Draw {
  std::mt19937 engine;
  int64_t below(int64_t n) { return static_cast<int64_t>(engine() % static_cast<uint64_t>(n)); }
};

/// An input of a result of `rows` x `columns`: of full size, or one value, a row, a column or a band of it.
PointwiseProgram::Input any_input(Draw& draw, int64_t rows, int64_t columns) {
  switch (draw.below(6)) {
    case 0:
      return {1, 1};
    case 1:
      return {columns, 1};
    case 2:
      return {rows, columns};
    default:
      return {0, 0};
  }
}

template <class T>
PointwiseProgram any_program(Draw& draw, int64_t rows, int64_t columns, int64_t most_steps) {
  using P = PointwiseProgram;
  P program{};
  program.inputs = 1 + draw.below(P::max_inputs);
  program.constants = draw.below(P::max_constants + 1);
  program.steps = 1 + draw.below(most_steps);
  for (int64_t k = 0; k < program.inputs; ++k) program.input[k] = any_input(draw, rows, columns);
  for (int64_t c = 0; c < program.constants; ++c) program.constant[c] = static_cast<double>(draw.below(9) - 4) * 0.5;
  const auto any_register = [&](int64_t s) {
    const int64_t at = draw.below(program.inputs + program.constants + 2 * s);
    if (at < program.inputs) return at;
    if (at < program.inputs + program.constants) return P::first_constant + at - program.inputs;
    return P::first_step + (at - program.inputs - program.constants) / 2;
  };
  for (int64_t s = 0; s < program.steps; ++s) {
    Fn fn = exact_fns[draw.below(std::size(exact_fns))];
    if (std::is_integral_v<T> && !is_integer_fn(fn)) fn = Fn::add;
    program.step[s] = {fn, static_cast<uint8_t>(any_register(s)), static_cast<uint8_t>(any_register(s)),
                       static_cast<uint8_t>(any_register(s))};
  }
  return program;
}

/// 16-bit types have no reference: they are run in f32 and rounded after every step, which one-step programs do.
template <class T>
std::vector<T> expected(const PointwiseProgram& program, int64_t n, const std::vector<std::vector<T>>& inputs) {
  if constexpr (!is_16_bit<T>) {
    std::vector<const void*> at;
    for (const auto& input : inputs) at.push_back(input.data());
    std::vector<T> out(static_cast<size_t>(n));
    pointwise_reference(program, n, at.data(), out.data());
    return out;
  } else {
    std::vector<std::vector<float>> registers(PointwiseProgram::first_step + PointwiseProgram::max_steps);
    const auto round = [](float x) { return to_float(from_float<T>(x)); };
    for (size_t k = 0; k < inputs.size(); ++k)
      for (int64_t i = 0; i < n; ++i) {
        const auto [period, inner] = program.input[k];
        registers[k].push_back(to_float(inputs[k][static_cast<size_t>(period ? i / inner % period : i)]));
      }
    for (int64_t c = 0; c < program.constants; ++c)
      registers[static_cast<size_t>(PointwiseProgram::first_constant + c)].assign(
          static_cast<size_t>(n), to_float(convert<T>(program.constant[c])));
    for (int64_t s = 0; s < program.steps; ++s) {
      const PointwiseStep& step = program.step[s];
      PointwiseProgram one{};
      one.inputs = 3, one.steps = 1, one.step[0] = {step.fn, 0, 1, 2};
      const void* at[] = {registers[step.a].data(), registers[step.b].data(), registers[step.c].data()};
      std::vector<float>& result = registers[static_cast<size_t>(PointwiseProgram::first_step + s)];
      result.resize(static_cast<size_t>(n));
      pointwise_reference(one, n, at, result.data());
      for (float& value : result) value = round(value);
    }
    std::vector<T> out;
    for (float value : registers[static_cast<size_t>(PointwiseProgram::first_step + program.steps - 1)])
      out.push_back(from_float<T>(value));
    return out;
  }
}

/// Equal values, any NaN equal to any other.
template <class T>
bool same(T a, T b) {
  if constexpr (std::is_integral_v<T>)
    return a == b;
  else
    return widen(a) == widen(b) || (widen(a) != widen(a) && widen(b) != widen(b));
}

template <class T>
void compare_programs(int programs, int64_t most_steps = PointwiseProgram::max_steps) {
  Draw draw{std::mt19937(7)};
  for (int number = 0; number < programs; ++number) {
    const int64_t sizes[] = {1, 3, 8, 16, 37, 64};
    const int64_t rows = sizes[draw.below(6)], columns = sizes[draw.below(6)], n = rows * columns;
    const PointwiseProgram program = any_program<T>(draw, rows, columns, most_steps);
    std::vector<std::vector<T>> inputs;
    std::vector<OnDevice<T>> on_device;
    std::vector<const void*> at;
    for (int64_t k = 0; k < program.inputs; ++k) {
      std::vector<T> values;
      const int64_t count = program.input[k].period ? program.input[k].period : n;
      for (int64_t i = 0; i < count; ++i) values.push_back(convert<T>(static_cast<double>(draw.below(65) - 32) * 0.25));
      on_device.emplace_back(values);
      at.push_back(on_device.back().data());
      inputs.push_back(std::move(values));
    }
    const std::vector<T> want = expected(program, n, inputs);
    for (const int64_t narrow : {most_narrow, int64_t{192}}) {
      OnDevice<T> out(n);
      pointwise_cuda(program, n, at.data(), out.data(), ranvier::cuda::stream(0), narrow);
      const std::vector<T> got = out.values();
      for (size_t i = 0; i < want.size(); ++i)
        ASSERT_TRUE(same(got[i], want[i]))
            << "program " << number << " element " << i << " of " << rows << " x " << columns << ", narrow " << narrow;
    }
  }
}

TEST_F(ElementwiseCuda, RandomProgramsOfFloats) { compare_programs<float>(150); }
TEST_F(ElementwiseCuda, RandomProgramsOfDoubles) { compare_programs<double>(60); }
TEST_F(ElementwiseCuda, RandomProgramsOfBf16) { compare_programs<bf16>(100); }
TEST_F(ElementwiseCuda, RandomProgramsOfF16) { compare_programs<f16>(60); }
TEST_F(ElementwiseCuda, RandomProgramsOfI32) { compare_programs<int32_t>(60); }
TEST_F(ElementwiseCuda, RandomProgramsOfI64) { compare_programs<int64_t>(60); }

TEST_F(ElementwiseCuda, ProgramsOfOneStep) {
  compare_programs<float>(120, 1);
  compare_programs<double>(60, 1);
  compare_programs<bf16>(120, 1);
  compare_programs<f16>(60, 1);
  compare_programs<int32_t>(60, 1);
  compare_programs<int64_t>(60, 1);
}

/// fn(x, dy) in f64, at x and dy as they are stored.
double exact(Fn fn, double x, double dy) {
  const double phi = std::exp(-x * x / 2) / std::sqrt(2 * 3.14159265358979323846),
               below = std::erfc(-x * std::sqrt(0.5)) / 2;
  const double sigmoid = 1 / (1 + std::exp(-x));
  switch (fn) {
    case Fn::exp:
      return std::exp(x);
    case Fn::tanh:
      return std::tanh(x);
    case Fn::sigmoid:
      return sigmoid;
    case Fn::silu:
      return x * sigmoid;
    case Fn::gelu:
      return x * below;
    default:
      return dy * (below + x * phi);
  }
}

/// Activations by themselves, in whole blocks and parts of one, beyond the ends of the short polynomials too.
template <class T>
void compare_activations() {
  const double half_ulp = sizeof(T) == 4 ? 0x1p-22 : std::is_same_v<T, bf16> ? 0x1p-8 : 0x1p-11;
  for (const Fn fn : {Fn::exp, Fn::tanh, Fn::sigmoid, Fn::silu, Fn::gelu, Fn::gelu_grad})
    for (const int64_t n : {0, 1, 7, 8, 9, 2049, 4096, 8205}) {
      std::vector<T> x, dy;
      for (int64_t i = 0; i < n; ++i) {
        x.push_back(convert<T>(static_cast<double>(i * 7919 % 16001 - 8000) * 1e-3));
        dy.push_back(convert<T>(static_cast<double>(i % 13 - 6) * 0.25));
      }
      OnDevice<T> on_x(x), on_dy(dy);
      const void* at[] = {on_x.data(), on_dy.data()};
      PointwiseProgram program{};
      program.inputs = operands_of(fn), program.steps = 1, program.step[0] = {fn, 0, 1, 0};
      OnDevice<T> out(n);
      pointwise_cuda(program, n, at, out.data(), ranvier::cuda::stream(0));
      const std::vector<T> got = out.values();
      for (size_t i = 0; i < got.size(); ++i) {
        const double v = widen(x[i]), want = exact(fn, v, widen(dy[i]));
        const double fit = fn == Fn::gelu || fn == Fn::gelu_grad ? (sizeof(T) == 2 ? 2.6e-5 : 2e-7) * 8 : 1e-30;
        ASSERT_TRUE(std::abs(widen(got[i]) - want) <= fit + 1.01 * half_ulp * std::abs(want) + 0x1p-25)
            << "function " << int(fn) << " at " << v << " gives " << widen(got[i]) << ", not " << want;
      }
    }
}
TEST_F(ElementwiseCuda, ActivationsByThemselves) {
  compare_activations<float>();
  compare_activations<bf16>();
  compare_activations<f16>();
}

/// More elements than one block takes, so that whole blocks and the last one both run.
TEST_F(ElementwiseCuda, ManyBlocks) {
  for (const int64_t n : {1023, 1024, 1025, 4096, 5003}) {
    PointwiseProgram program{};
    program.inputs = 2, program.constants = 1, program.constant[0] = 0.1, program.steps = 2;
    program.input[1] = {5, 1};
    program.step[0] = {Fn::mul, 0, PointwiseProgram::first_constant, 0};
    program.step[1] = {Fn::add, PointwiseProgram::first_step, 1, 0};
    const std::vector<std::vector<float>> inputs = {normal<float>(n, 1), normal<float>(5, 2)};
    OnDevice<float> x(inputs[0]), bias(inputs[1]);
    const void* at[] = {x.data(), bias.data()};
    const std::vector<float> want = expected(program, n, inputs);
    in_every_emulated_mode([&] {
      OnDevice<float> out(n);
      pointwise_cuda(program, n, at, out.data(), ranvier::cuda::stream(0));
      expect_same_bits(out.values(), want, "mul, add");
    });
    OnDevice<float> in_place(inputs[0]);
    const void* same[] = {in_place.data(), bias.data()};
    pointwise_cuda(program, n, same, in_place.data(), ranvier::cuda::stream(0));
    expect_same_bits(in_place.values(), want, "in place");
  }
}

TEST_F(ElementwiseCuda, CopiesAndFillsWriteAllAndOnlyTheirs) {
  for (const int64_t bytes : {0, 1, 15, 16, 17, 64, 4099}) {
    std::vector<uint8_t> values(static_cast<size_t>(bytes)), pattern;
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint8_t>(i * 37);
    for (size_t i = 0; i < values.size(); ++i) pattern.push_back(static_cast<uint8_t>(0x0807060504030201 >> i % 8 * 8));
    OnDevice<uint8_t> x(values);
    in_every_emulated_mode([&] {
      OnDevice<uint8_t> copied(bytes), filled(bytes);
      copy_cuda(bytes, x.data(), copied.data(), ranvier::cuda::stream(0));
      fill_cuda(bytes, 0x0807060504030201, filled.data(), ranvier::cuda::stream(0));
      EXPECT_EQ(copied.values(), values) << bytes;
      EXPECT_EQ(filled.values(), pattern) << bytes;
    });
  }
}

}  // namespace
}  // namespace ranvier::test
#endif
