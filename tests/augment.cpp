// Image augmentation: known pictures, adjoints by gradients, draws per image and epoch, identity in evaluation.
#include <array>

#include "kernels/common/philox.h"
#include "tests/case.h"

namespace ranvier::test {
namespace {

using Values = std::vector<double>;

const Operand flags{{3}, {0, 2}, DType::u8}, offsets{{3, 2}, {-4, 5}, DType::i32}, centres{{3, 2}, {-1, 7}, DType::i32};
const Shape images{3, 5, 6, 2};

TEST(Augment, GradientsAndVariants) {
  using Build = std::function<Tensor(std::vector<Tensor>)>;
  const std::vector<std::pair<Operand, Build>> cases = {
      {flags, [](auto x) { return flip(x[0], x[1]); }},
      {flags,
       [](auto x) {
         return flip_all(x[0]) * cast(reshape(x[1], {3, 1, 1, 1}), x[0].dtype());
       }},
      {offsets, [](auto x) { return translate(x[0], x[1]); }},
      {offsets, [](auto x) { return translate(x[0], x[1], Border::zero); }},
      {centres, [](auto x) { return cutout(x[0], x[1], 3); }},
      {centres, [](auto x) { return cutout(x[0], x[1], 4); }},
      {centres, [](auto x) { return cutout(x[0], x[1], 0); }},
  };
  for (const auto& [operand, build] : cases) {
    const OpCase smooth = op_case("augment", {{images}, operand}, [&](std::vector<Tensor> x) {
      return square(build({x[0] * sin(x[0]), x[1]}));
    });
    for (int order = 1; order <= 2; ++order) check_gradients(smooth, order);
    check_variants({"augment integers",
                    {{images, {-9, 9, 0, true}}, operand},
                    [&](std::vector<Tensor> x) {
                      const Tensor y = build(x), dx = grad(sum(y * y * y), x[0]);
                      return std::vector{y, dx, grad(sum(dx * dx), x[0])};
                    },
                    true});
  }
}

TEST(Augment, BytesAndOddSizes) {
  for (Shape shape : {Shape{3, 5, 7, 3}, Shape{3, 9, 8, 1}, Shape{3, 32, 32, 3}, Shape{3, 5, 5, 70}})
    for (DType dtype : {DType::u8, DType::f32}) {
      const Operand picture{shape, {0, 256, 0, true}, dtype};
      check_variants(op_case(
          "flip", {picture, flags}, [](auto x) { return flip(x[0], x[1]); }, true));
      check_variants(op_case(
          "flip_all", {picture}, [](auto x) { return flip_all(x[0]); }, true));
      for (Border border : {Border::zero, Border::reflect})
        check_variants(op_case(
            "translate", {picture, offsets}, [=](auto x) { return translate(x[0], x[1], border); }, true));
      check_variants(op_case(
          "cutout", {picture, centres}, [](auto x) { return cutout(x[0], x[1], 5); }, true));
    }
  const Operand none{{0, 4, 4, 3}, {0, 256}, DType::u8};
  check_variants(op_case(
      "flip", {none, {{0}, {0, 2}, DType::u8}}, [](auto x) { return flip(x[0], x[1]); }, true));
}

/// Results on a device of ops on images of a type, with integers that every type holds.
std::vector<Values> augmented(Device device, DType dtype, const Shape& shape) {
  const int64_t n = shape[0];
  State state(device);
  Graph graph(state, true);
  const Tensor x = input(graph, "x", {dtype, shape}), dy = input(graph, "dy", {dtype, shape});
  const Tensor f = input(graph, "f", {DType::u8, {n}}), o = input(graph, "o", {DType::i32, {n, 2}});
  std::vector<Tensor> results = {flip(x, f), cutout(x, o, 3), cutout(x, o, 4)};
  for (Border border : {Border::zero, Border::reflect}) {
    const Tensor moved = translate(x, o, border);
    results.push_back(moved);
    if (is_floating(dtype)) results.push_back(vjp(std::vector{moved}, std::vector{dy}, std::vector{x})[0]);
  }
  Program program = compile(graph, results);
  set(program, "x", dtype, draw({shape, {0, 100, 0, true}, dtype}, 1, dtype));
  set(program, "dy", dtype, draw({shape, {0, 60, 0, true}, dtype}, 2, dtype));
  set(program, "f", DType::u8, draw({{n}, {0, 2}, DType::u8}, 3));
  set(program, "o", DType::i32, draw({{n, 2}, {-13, 14}, DType::i32}, 4));
  program.run_checked();
  std::vector<Values> values;
  for (size_t k = 0; k < results.size(); ++k) values.push_back(get(program, k));
  return values;
}

TEST(Augment, CudaGivesTheBitsOfTheCpu) {
  if (!cuda_support().usable) return;
  for (Shape shape : {Shape{5, 5, 7, 3}, Shape{3, 1, 1, 1}, Shape{4, 2, 1, 5}, Shape{2, 9, 8, 1}, Shape{0, 4, 4, 3},
                      Shape{2, 3, 3, 70}, Shape{40, 8, 9, 3}})
    for (DType dtype : {DType::u8, DType::f32, DType::f64, DType::bf16, DType::f16}) {
      const auto wanted = augmented(Device::cpu(), is_half(dtype) ? DType::f32 : dtype, shape);
      in_every_emulated_mode(
          [&] { EXPECT_EQ(augmented(Device::cuda(), dtype, shape), wanted) << to_string(shape) << name_of(dtype); });
    }
}

TEST(Augment, CudaNormalizesLikeTheCpu) {
  if (!cuda_support().usable) return;
  // by the last two a division divides: only numbers of plain size have reciprocals that will do
  const std::vector<double> all = {0.4914, 0.4822, 0.4465, 0.1, 0.2, 255.0 / 77, 3e6, 1e7};
  for (Shape shape : {Shape{2, 5, 7, 3}, Shape{1, 1, 1, 1}, Shape{3, 4, 3, 8}, Shape{0, 4, 4, 3}, Shape{1, 32, 8, 3}}) {
    const std::span<const double> mean(all.data(), static_cast<size_t>(shape[3]));
    const auto normalized = [&](Device device, DType dtype) {
      State state(device);
      Graph graph(state);
      Program program =
          compile(graph, std::vector{normalize(input(graph, "x", {DType::u8, shape}), mean, mean, dtype)});
      set(program, "x", DType::u8, draw({shape, {0, 256}, DType::u8}, 1));
      program.run_checked();
      return get(program, 0);
    };
    for (DType dtype : {DType::f32, DType::f64, DType::bf16, DType::f16}) {
      Values wanted = normalized(Device::cpu(), is_half(dtype) ? DType::f32 : dtype);
      for (double& value : wanted) value = rounded(value, dtype);
      in_every_emulated_mode([&] { EXPECT_EQ(normalized(Device::cuda(), dtype), wanted) << name_of(dtype); });
    }
  }
}

TEST(Augment, KnownPictures) {
  for (const char* variants : {"", "reference"}) {
    State state;
    Graph graph(state);
    const Tensor x = input(graph, "x", {DType::u8, {1, 2, 3, 1}});
    const auto i32 = [&](std::vector<int32_t> v) {
      return constant<int32_t>(graph, Shape{1, 2}, std::span<const int32_t>(v));
    };
    const auto flag = [&](uint8_t v) { return constant<uint8_t>(graph, Shape{1}, std::span<const uint8_t>(&v, 1)); };
    Program program = compile(
        graph,
        std::vector{flip(x, flag(1)), flip(x, flag(0)), flip_all(x), translate(x, i32({1, -1}), Border::zero),
                    translate(x, i32({1, -1}), Border::reflect), cutout(x, i32({0, 2}), 2), cutout(x, i32({0, 0}), 1)},
        {.variants = variants});
    program.set<uint8_t>("x", std::vector<uint8_t>{1, 2, 3, 4, 5, 6});
    program.run();
    EXPECT_EQ(get(program, 0), (Values{3, 2, 1, 6, 5, 4}));
    EXPECT_EQ(get(program, 1), (Values{1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(get(program, 2), get(program, 0));
    EXPECT_EQ(get(program, 3), (Values{0, 4, 5, 0, 0, 0}));
    EXPECT_EQ(get(program, 4), (Values{5, 4, 5, 2, 1, 2}));
    EXPECT_EQ(get(program, 5), (Values{1, 0, 0, 4, 5, 6})) << "rows -1 and 0, columns 1 and 2";
    EXPECT_EQ(get(program, 6), (Values{0, 2, 3, 4, 5, 6}));
  }
}

TEST(Augment, NormalizeAgainstTheFormula) {
  const std::array<float, 3> mean = {0.4914f, 0.4822f, 0.4465f}, deviation = {0.2470f, 0.2435f, 0.2616f};
  for (DType dtype : {DType::f32, DType::f64})
    for (const char* variants : {"", "reference"}) {
      State state;
      Graph graph(state);
      const Tensor x = input(graph, "x", {DType::u8, {2, 5, 7, 3}});
      Program program = compile(graph, std::vector{normalize(x, mean, deviation, dtype)}, {.variants = variants});
      std::vector<uint8_t> values(210);
      for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint8_t>(i * 89);
      program.set<uint8_t>("x", values);
      program.run_checked();
      Values expected;
      for (size_t i = 0; i < values.size(); ++i)
        expected.push_back((values[i] / 255.0 - double{mean[i % 3]}) / double{deviation[i % 3]});
      expect_close(get(program, 0), expected, dtype == DType::f32 ? 5e-7 : 1e-15, "normalize");
    }
  State state;
  state.set_parameter_type(DType::f64);
  Graph graph(state);
  EXPECT_EQ(normalize(input(graph, "x", {DType::u8, {1, 2, 2, 3}}), mean, deviation).dtype(), DType::f64);
}

/// The images of a batch, each of one row 0 1 2 ... w - 1, after `build`.
struct Batch {
  Batch(int64_t count, int64_t w, const std::function<Tensor(Tensor, Tensor, Tensor)>& build, bool training = true)
      : n(count), graph(state, training) {
    const Tensor x = input(graph, "x", {DType::u8, {n, 1, w, 1}}), index = input(graph, "index", {DType::i64, {n}});
    program = compile(graph, std::vector{build(x, index, input(graph, "epoch", {DType::i64, {}}))});
    std::vector<uint8_t> values(static_cast<size_t>(n * w));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint8_t>(static_cast<int64_t>(i) % w);
    program.set<uint8_t>("x", values);
  }
  /// First pixel of every image.
  Values first(const std::vector<int64_t>& index, int64_t epoch) {
    program.set<int64_t>("index", index);
    program.set<int64_t>("epoch", std::span(&epoch, 1));
    program.run();
    const Values all = get(program, 0);
    Values result;
    for (size_t i = 0; i < all.size(); i += all.size() / static_cast<size_t>(n)) result.push_back(all[i]);
    return result;
  }
  State state{checks_cuda_only() ? Device::cuda() : Device::cpu(), 3};
  int64_t n;
  Graph graph;
  Program program;
};

TEST(Augment, AlternatingFlipShowsBothSides) {
  Batch batch(200, 4, [](Tensor x, Tensor index, Tensor epoch) { return alternating_flip(x, index, epoch); });
  std::vector<int64_t> index(200), reversed(200);
  for (size_t i = 0; i < 200; ++i) index[i] = static_cast<int64_t>(i * 7), reversed[199 - i] = index[i];
  const Values even = batch.first(index, 0), odd = batch.first(index, 1);
  double flipped = 0;
  for (size_t i = 0; i < 200; ++i) {
    EXPECT_EQ(even[i] + odd[i], 3) << "one of the two epochs mirrors";
    const bool coin =
        kernels::philox::bits(3, kernels::philox::stream_hash("flip"), 0, static_cast<uint64_t>(index[i])) >> 31;
    EXPECT_EQ(even[i] == 3, coin);
    flipped += even[i] == 3;
  }
  EXPECT_NEAR(flipped, 100, 36);
  EXPECT_EQ(batch.first(index, 2), even);
  batch.state.set<int64_t>("session", "rng", std::vector<int64_t>{3, 99});
  EXPECT_EQ(batch.first(index, 7), odd) << "whatever the step";
  Values turned = batch.first(reversed, 1);
  std::reverse(turned.begin(), turned.end());
  EXPECT_EQ(turned, odd) << "wherever the image stands in its batch";
}

TEST(Augment, RandomOnesDrawPerImageAndStep) {
  const std::vector<int64_t> none(400, 0);
  Batch flips(400, 4, [](Tensor x, Tensor, Tensor) { return random_flip(x); });
  const Values a = flips.first(none, 0);
  EXPECT_EQ(flips.first(none, 0), a);
  EXPECT_NEAR(static_cast<double>(std::count(a.begin(), a.end(), 3.0)), 200, 60);
  flips.state.set<int64_t>("session", "rng", std::vector<int64_t>{3, 1});
  EXPECT_NE(flips.first(none, 0), a);

  Batch shifts(400, 9, [](Tensor x, Tensor, Tensor) { return random_translate(x, 2); });
  const Values b = shifts.first(none, 0);
  for (double first : {0.0, 1.0, 2.0})  // reflection shows 1 and 2 for shifts of -1 and -2 too
    EXPECT_NEAR(static_cast<double>(std::count(b.begin(), b.end(), first)), first == 0 ? 80 : 160, 50) << first;

  Batch cuts(400, 9, [](Tensor x, Tensor, Tensor) { return random_cutout(full(*x.graph, x.type(), 1.0), 3); });
  const Values c = cuts.first(none, 0);  // the first pixel goes where the centre is column 0 or 1, and never its row
  EXPECT_NEAR(static_cast<double>(std::count(c.begin(), c.end(), 0.0)), 400 * 2 / 9.0, 45);
}

TEST(Augment, EvaluationIsTheIdentity) {
  Batch(
      2, 4,
      [](Tensor x, Tensor index, Tensor epoch) {
        for (const Tensor& y : {random_flip(x), alternating_flip(x, index, epoch), random_translate(x, 2),
                                random_cutout(x, 2), random_flip(x)})
          EXPECT_EQ(y.value, x.value);
        return x;
      },
      false);
}

TEST(Augment, BadOperandsNameTheLine) {
  State state;
  Graph graph(state, true);
  const Tensor x = input(graph, "x", {DType::u8, {3, 4, 4, 3}}), f = input(graph, "f", {DType::u8, {2}});
  const Tensor o = input(graph, "o", {DType::i32, {3}}), row = input(graph, "row", {DType::f32, {3, 4}});
  const std::vector<double> one = {0.5}, three = {0.5, 0.5, 0.5}, zero = {0.5, 0, 0.5}, nine(9, 0.5);
  EXPECT_ERROR(flip(x, f), "tests/augment.cpp:");
  EXPECT_ERROR(flip(x, f), "flags must be u8(3)");
  EXPECT_ERROR(flip(row, f), "needs images (n, h, w, c)");
  EXPECT_ERROR(random_flip(row), "is not (n, h, w, c)");
  EXPECT_ERROR(translate(x, o), "offsets must be i32(3, 2)");
  EXPECT_ERROR(random_translate(x, -1), "-1 pixels");
  EXPECT_ERROR(cutout(x, o, 2), "centres must be i32(3, 2)");
  EXPECT_ERROR(random_cutout(x, -2), "size -2 is negative");
  EXPECT_ERROR(alternating_flip(x, o, o), "element numbers are i64");
  EXPECT_ERROR(normalize(x, one, one), "1 values for the channels");
  EXPECT_ERROR(normalize(x, one, three), "1 means and 3 deviations");
  EXPECT_ERROR(normalize(x, nine, nine), "at most 8");
  EXPECT_ERROR(normalize(x, three, zero), "deviation 0 of channel 1 is not positive");
  EXPECT_ERROR(normalize(row, three, three), "needs u8 images");
  EXPECT_ERROR(normalize(x, three, three, DType::i32), "i32 is not a floating type");
}

}  // namespace
}  // namespace ranvier::test
