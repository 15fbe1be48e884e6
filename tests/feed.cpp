// Steps that feed themselves: windows of an order and rings of results, by counters on the device, plain and captured.
#include <numeric>

#include "tests/case.h"

namespace ranvier::test {
namespace {

/// Where these tests run their programs.
Device device() { return checks_cuda_only() ? Device::cuda() : Device::cpu(); }

/// Values of a trace with the counter "counter" set to each of `counts`.
std::vector<std::vector<double>> run(const std::function<Tensor(Graph&, Tensor)>& build,
                                     const std::vector<int64_t>& counts) {
  State state(device());
  Graph graph(state);
  Program program = compile(graph, std::vector{build(graph, input(graph, "counter", {DType::i64, {}}))});
  std::vector<std::vector<double>> values;
  for (int64_t count : counts) {
    program.set<int64_t>("counter", std::span(&count, 1));
    std::vector<double> first;
    in_every_emulated_mode([&] {
      program.run_checked();
      const std::vector<double> checked = get(program, 0);
      program.run();
      EXPECT_EQ(get(program, 0), checked);
      if (first.empty()) first = checked;
      EXPECT_EQ(checked, first);
    });
    values.push_back(first);
  }
  return values;
}

template <class T>
std::vector<T> backwards(int64_t n) {
  std::vector<T> order(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) order[static_cast<size_t>(i)] = static_cast<T>(n - 1 - i);
  return order;
}

TEST(Feed, WindowsFollowTheOrder) {
  const std::vector<int64_t> counts = {0, 1, 2, 3, 7, int64_t{1} << 40, -1};
  for (int64_t batch : {1, 3, 7, 10}) {
    const auto wide = run(
        [&](Graph& g, Tensor counter) {
          return batch_window(constant<int64_t>(g, Shape{10}, backwards<int64_t>(10)), counter, batch);
        },
        counts);
    const auto narrow = run(
        [&](Graph& g, Tensor counter) {
          return batch_window(constant<int32_t>(g, Shape{10}, backwards<int32_t>(10)), counter, batch);
        },
        counts);
    for (size_t k = 0; k < counts.size(); ++k) {
      const int64_t batches = 10 / batch, at = ((counts[k] % batches) + batches) % batches;
      std::vector<double> wanted;
      for (int64_t i = 0; i < batch; ++i) wanted.push_back(static_cast<double>(9 - (at * batch + i)));
      EXPECT_EQ(wide[k], wanted) << batch << " at " << counts[k];
      EXPECT_EQ(narrow[k], wanted) << batch << " at " << counts[k];
    }
  }
}

TEST(Feed, WindowsBeyondOneBlock) {
  const auto values = run(
      [&](Graph& g, Tensor counter) {
        return batch_window(constant<int32_t>(g, Shape{1500}, backwards<int32_t>(1500)), counter, 700);
      },
      {1});
  for (size_t i = 0; i < 700; ++i) ASSERT_EQ(values[0][i], 799 - static_cast<double>(i));
}

TEST(Feed, RingsTakeValuesInTurn) {
  for (DType dtype : {DType::f32, DType::f64, DType::i32, DType::i64, DType::u8, DType::bf16, DType::f16})
    for (Shape row : {Shape{}, Shape{1}, Shape{3}, Shape{2, 5}, Shape{700}, Shape{0}}) {
      if (is_half(dtype) && device() == Device::cpu()) continue;
      for (int64_t size : {1, 4}) {
        State state(device());
        Graph graph(state);
        Shape whole{size};
        for (int64_t extent : row) whole.push_back(extent);
        const Tensor ring = input(graph, "ring", {dtype, whole}), value = input(graph, "value", {dtype, row});
        const Tensor counter = input(graph, "counter", {DType::i64, {}});
        Program program = compile(graph, std::vector{ring_write(ring, value, counter)});
        const Operand full{whole, {0, 100}, dtype}, one{row, {100, 200}, dtype};
        set(program, "ring", dtype, draw(full, 1, dtype)), set(program, "value", dtype, draw(one, 2, dtype));
        for (int64_t count : {int64_t{0}, int64_t{1}, int64_t{6}, int64_t{-1}}) {
          program.set<int64_t>("counter", std::span(&count, 1));
          std::vector<double> wanted = draw(full, 1, dtype);
          const std::vector<double> written = draw(one, 2, dtype);
          const int64_t at = ((count % size) + size) % size;
          std::copy(written.begin(), written.end(), wanted.begin() + at * row.numel());
          in_every_emulated_mode([&] {
            program.run_checked();
            EXPECT_EQ(get(program, 0), wanted) << name_of(dtype) << to_string(whole) << " at " << count;
          });
        }
      }
    }
}

// A step that knows nothing of the host: its counter, its order and its results stay on the device, also captured.
TEST(Feed, AStepFeedsItself) {
  for (int repeats : {0, 1, 3}) {
    State state(device());
    Graph graph(state);
    const auto zero = init::constant(0);
    const Tensor counter = read(graph, "session", "counter", {DType::i64, {}}, zero);
    const Tensor ring = read(graph, "session", "losses", {DType::f32, {4, 3}}, zero);
    const Tensor order = constant<int32_t>(graph, Shape{8}, backwards<int32_t>(8));
    const Tensor loss = cast(batch_window(order, counter, 3), DType::f32);
    assign(graph, "session", "losses", ring_write(ring, loss, counter));
    assign(graph, "session", "counter", count_update(counter));
    Program program = compile(graph, std::vector<Tensor>{});
    EXPECT_TRUE(program.plan().commits.empty()) << "written where they lie";
    if (repeats) program.capture(repeats);
    for (int run = 0; run < 6; ++run) program.run();
    const int steps = 6 * std::max(repeats, 1);
    EXPECT_EQ(state.get<int64_t>("session", "counter")[0], steps);
    const auto losses = state.get<float>("session", "losses");
    for (int step = steps - 4; step < steps; ++step)
      for (int i = 0; i < 3; ++i)
        EXPECT_EQ(losses[static_cast<size_t>(step % 4 * 3 + i)], static_cast<float>(7 - (step % 2 * 3 + i))) << step;
  }
}

TEST(Feed, BadOperandsNameTheLine) {
  State state;
  Graph graph(state);
  const Tensor order = input(graph, "order", {DType::i32, {8}}), counter = input(graph, "counter", {DType::i64, {}});
  const Tensor ring = input(graph, "ring", {DType::f32, {4, 3}}), row = input(graph, "row", {DType::f32, {3}});
  EXPECT_ERROR(batch_window(order, counter, 9), "tests/feed.cpp:");
  EXPECT_ERROR(batch_window(order, counter, 9), "a batch of 9 from 8 images");
  EXPECT_ERROR(batch_window(order, counter, 0), "a batch of 0");
  EXPECT_ERROR(batch_window(ring, counter, 2), "the order must be i32 or i64 (n)");
  EXPECT_ERROR(batch_window(order, order, 2), "the counter must be an i64 scalar");
  EXPECT_ERROR(ring_write(ring, ring, counter), "a place of the ring f32(3)");
  EXPECT_ERROR(ring_write(counter, counter, counter), "needs a first axis");
  EXPECT_ERROR(ring_write(ring, row, order), "the counter must be an i64 scalar");
}

}  // namespace
}  // namespace ranvier::test
