// One description of an op case, checked in every mode: gradients of any order against central differences in f64,
// fused against decomposed, every variant against the reference, canaries around every buffer.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "engine/catalogue.h"
#include "engine/grad.h"
#include "engine/ops.h"
#include "engine/program.h"
#include "tests/emulated.h"
#include "tests/support/errors.h"

namespace ranvier::test {

/// How the elements of an operand are drawn.
struct Fill {
  double low = -1, high = 1;
  double away_from_zero = 0;  ///< keep |x| above this, for functions with a kink or pole at 0
  bool integers = false;      ///< small integers: any order of summation is exact
};

/// An operand of a case.
struct Operand {
  Shape shape;
  Fill fill = {};
  DType dtype = DType::f32;  ///< f32 stands for the floating type of the mode; i32 stays i32
  bool differentiable = true;
  bool wide = false;  ///< f32 where the mode is a 16-bit type: parameters and statistics
};

/// One op case: operands and the function that builds the results from them.
struct OpCase {
  std::string name;
  std::vector<Operand> operands;
  std::function<std::vector<Tensor>(std::vector<Tensor>)> build;
  bool exact = false;       ///< integer operands give integer results: variants declared exact must agree to the bit
  double tolerance = 2e-6;  ///< of variants: |d| <= tolerance * (1 + |reference|)
  /// Floating types that the op runs in on CUDA; f16 and bf16 are held to `half_ulps` units of their last place.
  std::vector<DType> cuda = {DType::f32};
  double half_ulps = 2;
  std::string vendor = "";  ///< "cublas" or "cudnn": the library must run some step of the case, in every type
};

inline const std::vector<DType> every_cuda_type = {DType::f32, DType::f64, DType::bf16, DType::f16};
inline const std::vector<DType> mixed_cuda_types = {DType::f32, DType::bf16, DType::f16};

inline OpCase op_case(std::string name, std::vector<Operand> operands, std::function<Tensor(std::vector<Tensor>)> build,
                      bool exact = false, double tolerance = 2e-6) {
  return {std::move(name), std::move(operands), [build](std::vector<Tensor> in) { return std::vector{build(in)}; },
          exact, tolerance};
}

/// The same case in every floating type on CUDA.
inline OpCase in_every_type(OpCase test, double half_ulps = 2) {
  test.cuda = every_cuda_type;
  test.half_ulps = half_ulps;
  return test;
}

/// Where a test of values runs: the CPU, and CUDA where there is a device or the emulator.
inline std::vector<Device> devices() {
  std::vector<Device> list = {Device::cpu()};
  if (cuda_support().usable) list.push_back(Device::cuda());
  return list;
}

#define EXPECT_ERROR(body, text)                                                    \
  EXPECT_NE(::ranvier::test::error_of([&] { body; }).find(text), std::string::npos) \
      << ::ranvier::test::error_of([&] { body; })

/// The value nearest to x in a floating type.
inline double rounded(double x, DType dtype) {
  if (dtype == DType::bf16) return kernels::to_float(kernels::from_float<kernels::bf16>(static_cast<float>(x)));
  if (dtype == DType::f16) return kernels::to_float(kernels::from_float<kernels::f16>(static_cast<float>(x)));
  return dtype == DType::f32 ? static_cast<float>(x) : x;
}

/// Operand values, the same in every mode but for the rounding to a 16-bit type.
inline std::vector<double> draw(const Operand& operand, uint64_t which, DType floating = DType::f32) {
  std::vector<double> values(static_cast<size_t>(operand.shape.numel()));
  uint64_t state = 0x9E3779B97F4A7C15ull * (which + 1);
  for (double& value : values) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    const double u = static_cast<double>(state >> 11) * 0x1p-53;
    value = operand.fill.low + u * (operand.fill.high - operand.fill.low);
    if (operand.fill.integers || !is_floating(operand.dtype)) value = std::floor(value);
    if (std::abs(value) < operand.fill.away_from_zero)
      value = std::copysign(operand.fill.away_from_zero + std::abs(value), value);
    if (is_floating(operand.dtype))  // equal bits in f32 and f64 runs
      value = rounded(static_cast<float>(value), floating == DType::f64 ? DType::f32 : floating);
  }
  return values;
}

inline void set(Program& program, const std::string& name, DType dtype, const std::vector<double>& values) {
  const auto as = [&]<class T>() {
    std::vector<T> typed(values.begin(), values.end());
    program.set<T>(name, typed);
  };
  switch (dtype) {
    case DType::f64:
      return as.template operator()<double>();
    case DType::f32:
      return as.template operator()<float>();
    case DType::bf16:
    case DType::f16: {
      std::vector<uint16_t> bits;
      for (double value : values)
        bits.push_back(dtype == DType::bf16 ? kernels::from_float<kernels::bf16>(static_cast<float>(value)).bits
                                            : kernels::from_float<kernels::f16>(static_cast<float>(value)).bits);
      if (dtype == DType::bf16)
        return program.set<kernels::bf16>(name, {reinterpret_cast<const kernels::bf16*>(bits.data()), bits.size()});
      return program.set<kernels::f16>(name, {reinterpret_cast<const kernels::f16*>(bits.data()), bits.size()});
    }
    case DType::i32:
      return as.template operator()<int32_t>();
    case DType::i64:
      return as.template operator()<int64_t>();
    case DType::u8:
      return as.template operator()<uint8_t>();
    default:
      FAIL() << "no values of this type in tests";
  }
}

inline std::vector<double> get(const Program& program, size_t index) {
  switch (program.output_type(index).dtype) {
    case DType::f64:
      return program.get<double>(index);
    case DType::f32: {
      const auto v = program.get<float>(index);
      return {v.begin(), v.end()};
    }
    case DType::bf16: {
      std::vector<double> values;
      for (kernels::bf16 v : program.get<kernels::bf16>(index)) values.push_back(kernels::to_float(v));
      return values;
    }
    case DType::f16: {
      std::vector<double> values;
      for (kernels::f16 v : program.get<kernels::f16>(index)) values.push_back(kernels::to_float(v));
      return values;
    }
    case DType::i32: {
      const auto v = program.get<int32_t>(index);
      return {v.begin(), v.end()};
    }
    case DType::i64: {
      const auto v = program.get<int64_t>(index);
      return {v.begin(), v.end()};
    }
    default: {
      const auto v = program.get<uint8_t>(index);
      return {v.begin(), v.end()};
    }
  }
}

inline bool is_half(DType dtype) { return dtype == DType::bf16 || dtype == DType::f16; }

/// Type of an operand in the mode of a floating type.
inline DType in_mode(const Operand& operand, DType floating) {
  if (!is_floating(operand.dtype)) return operand.dtype;
  return operand.wide && is_half(floating) ? DType::f32 : floating;
}

/// Inputs "x0", "x1", ... of a trace for a case.
inline std::vector<Tensor> inputs(Graph& graph, const OpCase& test, DType floating) {
  std::vector<Tensor> in;
  for (size_t i = 0; i < test.operands.size(); ++i)
    in.push_back(input(graph, "x" + std::to_string(i), {in_mode(test.operands[i], floating), test.operands[i].shape}));
  return in;
}

/// Results of a case under plan options, and their types where wanted. Operands are rounded to `storage` first (f64
/// runs are the oracle of 16-bit ones on equal inputs).
inline std::vector<std::vector<double>> evaluate(const OpCase& test, DType floating, const PlanOptions& options,
                                                 DType storage = DType::f32, std::vector<DType>* types = nullptr) {
  State state(options.device);
  Graph graph(state, true);
  const std::vector<Tensor> results = test.build(inputs(graph, test, floating));
  Program program = compile(graph, results, options);
  for (size_t i = 0; i < test.operands.size(); ++i)
    set(program, "x" + std::to_string(i), in_mode(test.operands[i], floating),
        draw(test.operands[i], i, in_mode(test.operands[i], is_half(floating) ? floating : storage)));
  program.run_checked();
  std::vector<std::vector<double>> checked, plain;
  for (size_t k = 0; k < results.size(); ++k) checked.push_back(get(program, k));
  program.run();
  for (size_t k = 0; k < results.size(); ++k) plain.push_back(get(program, k));
  EXPECT_EQ(checked, plain) << test.name << ": run and run_checked differ";
  for (size_t k = 0; types && k < results.size(); ++k) types->push_back(results[k].dtype());
  return plain;
}

inline void expect_close(const std::vector<double>& a, const std::vector<double>& b, double tolerance,
                         const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (size_t i = 0; i < a.size(); ++i)
    ASSERT_TRUE(std::abs(a[i] - b[i]) <= tolerance * (1 + std::abs(b[i])))
        << what << " element " << i << ": " << a[i] << " against " << b[i];
}

/// True where this test program is to check CUDA kernels (emulated or real), the CPU being checked by another one.
inline bool checks_cuda_only() { return std::getenv("RANVIER_CHECK_CUDA") != nullptr; }

/// Skips every test, aloud, where CUDA alone is to be checked and there is no device.
class NeedsCuda : public testing::Environment {
 public:
  void SetUp() override {
    if (checks_cuda_only() && !cuda_support().usable)
      GTEST_SKIP() << "skipped: no CUDA device (" << cuda_support().why << ")";
  }
};
inline testing::Environment* const needs_cuda = testing::AddGlobalTestEnvironment(new NeedsCuda);

/// A scalar made of random-weighted results, differentiated `order` times (each time contracted with random weights),
/// against central differences of the order below, in f64. Error / max(1, |g|) at most `tolerance`.
inline void check_gradients(const OpCase& test, int order, double tolerance = 1e-6) {
  if (checks_cuda_only()) return;  // rules emit ops, so that one backend proves them for all
  State state;
  Graph graph(state, true);
  const std::vector<Tensor> in = inputs(graph, test, DType::f64);
  std::vector<Tensor> wrt;
  std::vector<size_t> wrt_index;
  for (size_t i = 0; i < in.size(); ++i)
    if (is_floating(in[i].dtype()) && test.operands[i].differentiable) wrt.push_back(in[i]), wrt_index.push_back(i);
  uint64_t which = 100;
  const auto contract = [&](const std::vector<Tensor>& parts) {
    Tensor total;
    for (const Tensor& part : parts) {
      if (!is_floating(part.dtype())) continue;
      const std::vector<double> weights = draw({part.shape(), {0.5, 1.5}}, which++);
      const Tensor term = sum(mul(part, constant<double>(graph, part.shape(), weights)));
      total = total.valid() ? add(total, term) : term;
    }
    return total;
  };
  Tensor objective = contract(test.build(in));
  for (int level = 1; level < order; ++level) objective = contract(grad(objective, wrt));
  std::vector<Tensor> outputs = {objective};
  for (const Tensor& g : grad(objective, wrt)) outputs.push_back(g);
  Program program = compile(graph, outputs, {.variants = "reference"});
  std::vector<std::vector<double>> values;
  for (size_t i = 0; i < in.size(); ++i) {
    values.push_back(draw(test.operands[i], i));
    set(program, "x" + std::to_string(i), in[i].dtype(), values[i]);
  }
  program.run();
  std::vector<std::vector<double>> gradients;
  for (size_t j = 0; j < wrt.size(); ++j) gradients.push_back(get(program, 1 + j));
  for (size_t j = 0; j < wrt.size(); ++j) {
    const size_t i = wrt_index[j];
    const size_t stride = std::max<size_t>(1, values[i].size() / 24);  // a sample of elements of large operands
    for (size_t e = 0; e < values[i].size(); e += stride) {
      const double x = values[i][e], h = 1e-4;
      const auto at = [&](double shift) {
        values[i][e] = x + shift;
        set(program, "x" + std::to_string(i), DType::f64, values[i]);
        program.run();
        values[i][e] = x;
        return program.scalar(0);
      };
      // fourth-order central difference: truncation h^4 / 30 f''''', about 1e-17 here
      const double slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
      set(program, "x" + std::to_string(i), DType::f64, values[i]);
      const double g = gradients[j][e];
      ASSERT_TRUE(std::abs(g - slope) / std::max(1.0, std::abs(slope)) <= tolerance)
          << test.name << " order " << order << " operand " << i << " element " << e << ": " << g << " against "
          << slope;
    }
  }
}

/// Whether fusion changes anything of a case on CUDA: other kernels run then than one by one.
inline bool fuses(const OpCase& test, DType floating) {
  const auto steps = [&](bool fuse) {
    State state(Device::cuda());
    Graph graph(state, true);
    const std::vector<Tensor> results = test.build(inputs(graph, test, floating));
    return make_plan(graph, results, {.device = Device::cuda(), .fuse = fuse, .prepare = false}).steps;
  };
  const std::vector<PlanStep> fused = steps(true), plain = steps(false);
  return !std::equal(fused.begin(), fused.end(), plain.begin(), plain.end(), [](const auto& a, const auto& b) {
    return a.op == b.op && a.attrs == b.attrs && a.in_types == b.in_types;
  });
}

/// CUDA variants against the f64 reference on equal inputs, in every type that the case names; the same bits in every
/// emulated mode, fused and unfused.
inline void check_cuda_variants(const OpCase& test) {
  for (DType floating : test.cuda) {
    const double ulp = floating == DType::bf16 ? 0x1p-8 : floating == DType::f16 ? 0x1p-11 : 0;
    const double tolerance = ulp                      ? test.half_ulps * ulp
                             : floating == DType::f32 ? test.tolerance
                                                      : test.tolerance * 1e-8;
    const auto oracle =
        evaluate(test, DType::f64, {.variants = "reference", .fuse = false}, is_half(floating) ? floating : DType::f32);
    const std::string name = test.name + " " + std::string(name_of(floating));
    const bool fused = fuses(test, floating);
    std::vector<std::vector<double>> first;
    std::vector<DType> types;
    in_every_emulated_mode([&] {
      types.clear();
      const auto result = evaluate(test, floating, {.device = Device::cuda(), .fuse = false}, DType::f32, &types);
      const bool initial = first.empty();
      if (initial) first = result;
      EXPECT_EQ(result, first) << name << ": bits depend on the order of threads";
      if (!initial && !fused) return;
      EXPECT_EQ(evaluate(test, floating, {.device = Device::cuda()}), first)
          << name << ": fusion, or in it the order of threads, changes bits";
    });
    for (size_t k = 0; k < oracle.size(); ++k) {
      std::vector<double> want = oracle[k];
      if (test.exact && is_half(types[k]))
        for (double& value : want) value = rounded(value, floating);
      expect_close(first[k], want, test.exact ? 0 : tolerance, test.name + " cuda " + std::string(name_of(floating)));
    }
  }
}

/// Whether any op has a variant of this name in this build.
inline bool has_variant(std::string_view name) {
  for (const OpDef* op : all_ops())
    for (const Variant& variant : op->variants)
      if (variant.name == name) return true;
  return false;
}

/// Steps of a case on CUDA for whose op a vendor has a variant, and those of them that it runs. Planning needs no GPU.
struct VendorSteps {
  int64_t offered = 0, taken = 0;
};
inline VendorSteps vendor_steps(const OpCase& test, DType floating, const std::string& vendor) {
  State state;
  Graph graph(state, true);
  const std::vector<Tensor> results = test.build(inputs(graph, test, floating));
  const Plan plan = make_plan(graph, results, {.device = Device::cuda(), .variants = vendor, .prepare = false});
  VendorSteps steps;
  for (const PlanStep& step : plan.steps) {
    steps.offered += std::any_of(step.op->variants.begin(), step.op->variants.end(),
                                 [&](const Variant& variant) { return variant.name == vendor; });
    steps.taken += step.variant->name == vendor;
  }
  return steps;
}

/// Variants by NVIDIA's libraries, where this build has them and a GPU runs them (the emulator cannot): as close as our
/// own, but for the order of their sums. What a library does not run is said aloud, and is an error where `test.vendor`
/// says that it must.
inline void check_vendor_variants(const OpCase& test) {
  for (const std::string vendor : {"cublas", "cudnn"}) {
    if (!has_variant(vendor)) continue;
    for (DType floating : test.cuda) {
      const double ulp = floating == DType::bf16 ? 0x1p-8 : floating == DType::f16 ? 0x1p-11 : 0;
      const double tolerance =
          ulp ? (test.half_ulps + 1) * ulp : 10 * test.tolerance * (floating == DType::f64 ? 1e-8 : 1);
      const std::string name = test.name + " " + vendor + " " + std::string(name_of(floating));
      const bool must = test.vendor == vendor;
      if (!must && !cuda_support().usable) continue;
      const VendorSteps steps = vendor_steps(test, floating, vendor);
      EXPECT_TRUE(!must || steps.taken > 0) << name << " is compared with nothing";
      if (!cuda_support().usable || steps.offered == 0) continue;
      if (steps.taken == 0) {
        std::printf("skipped: %s: none of its %d steps\n", name.c_str(), static_cast<int>(steps.offered));
        continue;
      }
      const auto oracle = evaluate(test, DType::f64, {.variants = "reference", .fuse = false},
                                   is_half(floating) ? floating : DType::f32);
      try {
        const auto result = evaluate(test, floating, {.device = Device::cuda(), .variants = vendor});
        for (size_t k = 0; k < oracle.size(); ++k) expect_close(result[k], oracle[k], tolerance, name);
      } catch (const std::runtime_error& error) {
        if (must || std::string(error.what()).find("deterministic plans") == std::string::npos) throw;
        std::printf("skipped: %s: %s\n", name.c_str(), error.what());
      }
    }
  }
}

/// The same as a test of its own, of a case that the library runs in every type.
inline void check_vendor(OpCase test, const std::string& vendor) {
  if (!has_variant(vendor)) GTEST_SKIP() << "skipped: no variant " << vendor << " in this build";
  test.vendor = vendor;
  check_vendor_variants(test);
  if (!testing::Test::HasFailure() && !cuda_support().usable)
    GTEST_SKIP() << "skipped: planned for " << vendor << " and not run, no CUDA device (" << cuda_support().why << ")";
}

/// Default variants against the reference in f32 and f64, fused against unfused to the bit, decomposition against op;
/// the same for CUDA where there is a device, or the emulator.
inline void check_variants(const OpCase& test) {
  if (cuda_support().usable) check_cuda_variants(test);
  check_vendor_variants(test);
  if (checks_cuda_only()) return;
  for (DType floating : {DType::f32, DType::f64}) {
    const auto oracle = evaluate(test, floating, {.variants = "reference", .fuse = false});
    const auto fast = evaluate(test, floating, {.fuse = false});
    const auto fused = evaluate(test, floating, {});
    const auto parts = evaluate(test, floating, {.variants = "reference", .decompose = true});
    for (size_t k = 0; k < oracle.size(); ++k) {
      const double tolerance = test.exact ? 0 : floating == DType::f32 ? test.tolerance : test.tolerance * 1e-8;
      expect_close(fast[k], oracle[k], tolerance, test.name + " variant");
      EXPECT_EQ(fused[k], fast[k]) << test.name << ": fusion changes bits";
      expect_close(parts[k], oracle[k],
                   test.exact               ? 0
                   : floating == DType::f32 ? 20 * test.tolerance
                                            : 1e-12,
                   test.name + " decomposition");
    }
  }
}

}  // namespace ranvier::test
