// Sums over many pairs against direct f64 sums on the same rounded operands: every unit up to 4,096, 64 of them beyond.
// (65,536 units: `ranvier bench coupling`.)
#include <numeric>

#include "tests/case.h"
#include "tests/support/direct_pairs.h"

namespace ranvier::test {
namespace {

const std::vector<CouplingLaw> laws = {
    {}, {CouplingLaw::gaussian, 0.7, 1, 0, 0.1}, {CouplingLaw::screened_power, 0.4, 2, 2.5, 0.02}};

/// sqrt(sum (a - b)^2 / sum b^2).
double relative_l2(const std::vector<double>& a, const std::vector<double>& b) {
  double difference = 0, size = 0;
  for (size_t k = 0; k < a.size(); ++k) difference += (a[k] - b[k]) * (a[k] - b[k]), size += b[k] * b[k];
  return std::sqrt(difference / size);
}

/// Elements of an output of (batch, units), or (units, width) by row, at the rows.
std::vector<double> at_rows(const Program& program, size_t output, const std::vector<int64_t>& rows, int64_t width,
                            int64_t n, bool by_row) {
  const std::vector<double> all = get(program, output);
  std::vector<double> found;
  for (int64_t i : rows)
    for (int64_t k = 0; k < width; ++k) found.push_back(by_row ? all[i * width + k] : all[k * n + i]);
  return found;
}

/// y, dx and dp of one program in a type, at the rows, beside the direct sums on equal operands.
void check_pairs(Device device, DType dtype, const CouplingLaw& law, int64_t batch, int64_t n,
                 const std::vector<int64_t>& rows, double tolerance) {
  constexpr int64_t axes = 2;
  const DType place = is_half(dtype) ? DType::f32 : dtype;
  State state(device);
  Graph graph(state);
  const Tensor x = input(graph, "x", {dtype, {batch, n}}), g = input(graph, "g", {dtype, {batch, n}}),
               p = input(graph, "p", {place, {n, axes}});
  const Tensor y = pair_apply(x, p, law);
  const Tensor wrt[] = {x, p};
  std::vector<Tensor> outputs = {y};
  for (const Tensor& d : grad(sum(cast(y, place) * cast(g, place)), wrt)) outputs.push_back(d);
  Program program = compile(graph, outputs, {.device = device});
  const Operand values{{batch, n}}, places{{n, axes}, {-1.5, 1.5}};
  const std::vector<double> xs = draw(values, 1, dtype), gs = draw(values, 2, dtype), ps = draw(places, 3, place);
  set(program, "x", dtype, xs), set(program, "g", dtype, gs), set(program, "p", place, ps);
  program.run();
  const DirectPairs want = direct_pairs(law, batch, n, axes, xs, gs, ps, rows);
  const std::string what =
      fmt::format("{} units, batch {}, kind {} power {}, {}", n, batch, law.kind, law.power, name_of(dtype));
  const double errors[] = {relative_l2(at_rows(program, 0, rows, batch, n, false), want.y),
                           relative_l2(at_rows(program, 1, rows, batch, n, false), want.dx),
                           relative_l2(at_rows(program, 2, rows, axes, n, true), want.dp)};
  for (double error : errors)
    EXPECT_TRUE(error <= tolerance) << what << ": " << fmt::format("{}", fmt::join(errors, " "));
}

/// The same of pair_squares: q, dx, dw and dp.
void check_squares(Device device, DType dtype, const CouplingLaw& law, int64_t batch, int64_t n,
                   const std::vector<int64_t>& rows, double tolerance) {
  constexpr int64_t axes = 2;
  State state(device);
  Graph graph(state);
  const Tensor x = input(graph, "x", {dtype, {batch, n}}), w = input(graph, "w", {dtype, {1, n}}),
               g = input(graph, "g", {dtype, {1, n}}), p = input(graph, "p", {dtype, {n, axes}});
  const Tensor q = pair_squares(x, w, p, law);
  const Tensor wrt[] = {x, w, p};
  std::vector<Tensor> outputs = {q};
  for (const Tensor& d : grad(sum(q * g), wrt)) outputs.push_back(d);
  Program program = compile(graph, outputs, {.device = device});
  const Operand one{{1, n}};
  const std::vector<double> xs = draw({{batch, n}}, 1), ws = draw(one, 2), gs = draw(one, 3),
                            ps = draw({{n, axes}, {-1.5, 1.5}}, 4);
  set(program, "x", dtype, xs), set(program, "w", dtype, ws), set(program, "g", dtype, gs),
      set(program, "p", dtype, ps);
  program.run();
  const DirectSquares want = direct_squares(law, batch, n, axes, xs, ws, gs, ps, rows);
  const double errors[] = {relative_l2(at_rows(program, 0, rows, 1, n, false), want.q),
                           relative_l2(at_rows(program, 1, rows, batch, n, false), want.dx),
                           relative_l2(at_rows(program, 2, rows, 1, n, false), want.dw),
                           relative_l2(at_rows(program, 3, rows, axes, n, true), want.dp)};
  for (double error : errors)
    EXPECT_TRUE(error <= tolerance) << fmt::format("squares of {} units, batch {}, kind {}, {}: {}", n, batch, law.kind,
                                                   name_of(dtype), fmt::join(errors, " "));
}

std::vector<int64_t> every(int64_t n) {
  std::vector<int64_t> rows(static_cast<size_t>(n));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}

std::vector<int64_t> sixty_four(int64_t n) {
  std::vector<int64_t> rows;
  for (int64_t k = 0; k < 64; ++k) rows.push_back((k * 7919 + 13) % n);
  return rows;
}

TEST(CouplingLarge, EveryUnitUpTo4096) {
  if (checks_cuda_only()) return;
  for (const CouplingLaw& law : laws) check_pairs(Device::cpu(), DType::f32, law, 3, 1100, every(1100), 1e-5);
  check_pairs(Device::cpu(), DType::f32, laws[0], 1, 4096, every(4096), 1e-5);
  check_pairs(Device::cpu(), DType::f32, laws[0], 9, 4096, every(4096), 1e-5);
  check_pairs(Device::cpu(), DType::f64, laws[0], 2, 1500, every(1500), 1e-10);
}

TEST(CouplingLarge, SixtyFourOf8192) {
  if (checks_cuda_only()) return;
  for (const CouplingLaw& law : laws)
    for (int64_t batch : {1, 12}) check_pairs(Device::cpu(), DType::f32, law, batch, 8192, sixty_four(8192), 1e-5);
}

TEST(CouplingLarge, SquaresOfEveryUnit) {
  if (checks_cuda_only()) return;
  for (const CouplingLaw& law : laws) check_squares(Device::cpu(), DType::f32, law, 5, 2048, every(2048), 1e-5);
  check_squares(Device::cpu(), DType::f32, laws[0], 2, 4096, every(4096), 1e-5);
  check_squares(Device::cpu(), DType::f64, laws[0], 3, 2048, every(2048), 1e-10);
}

/// More units than the dense form may have.
TEST(CouplingLarge, SquaresOfSixtyFour) {
  if (checks_cuda_only()) return;
  check_squares(Device::cpu(), DType::f32, laws[0], 5, 8192, sixty_four(8192), 1e-5);
  check_squares(Device::cpu(), DType::f32, laws[1], 40, 5000, sixty_four(5000), 1e-5);
  check_squares(Device::cpu(), DType::f64, laws[2], 2, 5000, sixty_four(5000), 1e-10);
}

/// bf16 operands and f32 on the device.
TEST(CouplingLarge, OnCuda) {
  if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device";
  for (const CouplingLaw& law : laws)
    for (auto [batch, n] : {std::pair<int64_t, int64_t>{1, 300}, {20, 270}}) {
      check_pairs(Device::cuda(), DType::bf16, law, batch, n, every(n), 4e-3);
      check_pairs(Device::cuda(), DType::f32, law, batch, n, every(n), 1e-5);
    }
}

/// All rows and parts of them in registers; more units than the dense form may have, of which the emulator gets few.
TEST(CouplingLarge, SquaresOnCuda) {
  if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device";
  const int64_t large = emulator_set_mode != nullptr ? 4130 : 16384;
  for (const CouplingLaw& law : laws)
    for (auto [batch, n] : {std::pair<int64_t, int64_t>{1, 300}, {70, 270}})
      check_squares(Device::cuda(), DType::f32, law, batch, n, every(n), 1e-5);
  check_squares(Device::cuda(), DType::f32, laws[1], 5, large, sixty_four(large), 1e-5);
}

/// The three kernels of few, some and many rows of bf16 at the sizes of the issue; the emulator gets smaller ones.
TEST(CouplingLarge, SixteenBitsOnCuda) {
  if (!cuda_support().usable) GTEST_SKIP() << "skipped: no CUDA device";
  const bool emulated = emulator_set_mode != nullptr;
  const int64_t whole = emulated ? 1100 : 4096, large = emulated ? 1544 : 16384;
  for (int64_t batch : {1, 12}) check_pairs(Device::cuda(), DType::bf16, laws[0], batch, whole, every(whole), 4e-3);
  for (int64_t batch : {4, 32, emulated ? 70 : 260})
    check_pairs(Device::cuda(), DType::bf16, laws[0], batch, large, sixty_four(large), 4e-3);
}

}  // namespace
}  // namespace ranvier::test
