// The traced list: scopes, common subexpressions, claims, shape errors and printing.
#include "engine/graph.h"

#include <gtest/gtest.h>

#include "engine/grad.h"
#include "engine/op.h"
#include "engine/ops.h"
#include "tests/support/files.h"

namespace ranvier {
namespace {

using testing::error_of;

const Type three{DType::f32, {3}};

TEST(Graph, ScopesNestNameParametersAndEndWithTheirBlock) {
  State state;
  Graph graph(state);
  EXPECT_EQ(graph.scope(), "");
  {
    const Scope block(graph, "block1");
    EXPECT_EQ(graph.path("weight"), "block1.weight");
    {
      const Scope conv(graph, "conv");
      EXPECT_EQ(graph.scope(), "block1.conv");
      const Tensor w = parameter(graph, "weight", {3}, init::constant(0));
      EXPECT_EQ(graph.node(w.value.node).scope, "block1.conv");
    }
    EXPECT_EQ(graph.scope(), "block1");
    EXPECT_THROW(
        {
          const Scope inner(graph, "inner");
          throw Error("left by an exception");
        },
        Error);
    EXPECT_EQ(graph.scope(), "block1");
  }
  EXPECT_EQ(graph.scope(), "");
  EXPECT_GE(state.find("parameters", "block1.conv.weight"), 0);
  EXPECT_EQ(graph.path("weight"), "weight");
}

TEST(Graph, EqualNodesAreOneAndDifferentOnesAreNot) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", three), y = input(graph, "y", three);
  EXPECT_NE(x.value, y.value);
  EXPECT_EQ(sin(x).value, sin(x).value);
  EXPECT_NE(sin(x).value, sin(y).value);
  EXPECT_NE((x - y).value, (y - x).value);
  EXPECT_EQ((x * 2.0).value, (x * 2.0).value);
  EXPECT_NE((x * 2.0).value, (x * 2.5).value);
  EXPECT_EQ(full(graph, three, 0.5).value, full(graph, three, 0.5).value);
  EXPECT_NE(full(graph, three, 0.0).value, full(graph, three, -0.0).value);  // equal numbers, different bits
  EXPECT_NE(full(graph, three, 1).value, full(graph, {DType::f64, {3}}, 1).value);
  EXPECT_NE(sum(x, {0}).value, sum(x, {0}, true).value);
  EXPECT_EQ(reshape(x, {3, 1}).value, reshape(x, {-1, 1}).value);
  const size_t size = graph.size();
  const Scope scope(graph, "elsewhere");  // a scope is no part of a value
  EXPECT_EQ(sin(x).value, sin(x).value);
  EXPECT_EQ(graph.size(), size);
}

TEST(Graph, ALeafTypeHasNoStrayBytes) {
  // Attributes are compared as bytes: types built in memory of any earlier content must have equal ones.
  alignas(Type) unsigned char first[sizeof(Type)], second[sizeof(Type)];
  std::memset(first, 0x00, sizeof first);
  std::memset(second, 0xFF, sizeof second);
  auto* a = new (first) Type{DType::i32, {2, 3}};
  auto* b = new (second) Type{DType::i32, {2, 3}};
  EXPECT_EQ(*a, *b);
  EXPECT_EQ(Attrs::of(*a), Attrs::of(*b));
}

TEST(Graph, NamesAreClaimedOnceAndTheErrorSaysWhereBefore) {
  State state;
  Graph graph(state);
  const Where first = Where::current();
  graph.claim("a.b", "random stream", first);
  graph.claim("a.b", "input", first);  // another kind of name
  const std::string error = error_of([&] { graph.claim("a.b", "random stream", Where::current()); });
  EXPECT_NE(error.find("'a.b'"), std::string::npos) << error;
  EXPECT_NE(error.find(place(first)), std::string::npos) << error;
  EXPECT_EQ(error.find("tests/graph.cpp:"), 0u) << error;
  input(graph, "x", three);
  const std::string twice = error_of([&] { input(graph, "x", {DType::f64, {7}}); });
  EXPECT_NE(twice.find("input 'x'"), std::string::npos) << twice;
}

TEST(Graph, ShapeErrorsNameTheLineTheOpAndTheShapes) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", three);
  const auto line = std::to_string(__LINE__ + 1);
  std::string error = error_of([&] { reshape(x, {2, 2}); });
  EXPECT_EQ(error.find("tests/graph.cpp:" + line), 0u) << error;
  EXPECT_NE(error.find("reshape"), std::string::npos) << error;
  EXPECT_NE(error.find("f32(3)"), std::string::npos) << error;
  error = error_of([&] { x + cast(x, DType::f64); });
  EXPECT_EQ(error.find("tests/graph.cpp:"), 0u) << error;
  EXPECT_NE(error.find("f64(3)"), std::string::npos) << error;
}

TEST(Graph, TensorsOfOtherTracesAndEmptyOnesAreRefused) {
  State state;
  Graph one(state), two(state);
  const Tensor x = input(one, "x", three), y = input(two, "y", three);
  EXPECT_NE(error_of([&] { add(x, y); }).find("another trace"), std::string::npos);
  EXPECT_NE(error_of([&] { sin(Tensor{}); }).find("empty"), std::string::npos);
  EXPECT_NE(error_of([&] { Tensor{}.type(); }).find("empty"), std::string::npos);
  EXPECT_FALSE(Tensor{}.valid());
}

TEST(Graph, BackwardNodesCarryTheForwardLineAndScope) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", three);
  Tensor y;
  uint32_t line = 0;
  {
    const Scope scope(graph, "layer");
    y = tanh(x), line = __LINE__;
  }
  const Tensor g = grad(sum(y), x);
  EXPECT_EQ(graph.node(g.value.node).where.line(), line);
  EXPECT_EQ(graph.node(g.value.node).scope, "layer");
}

TEST(Graph, TextAndDotShowEveryNodeAndEdge) {
  State state;
  Graph graph(state);
  const Tensor x = input(graph, "x", three);
  {
    const Scope scope(graph, "head");
    sin(x) + x;
  }
  const std::string text = graph.text(), dot = graph.dot();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), static_cast<long>(graph.size()));
  EXPECT_NE(text.find("%0 = input() : f32(3)"), std::string::npos) << text;
  EXPECT_NE(text.find("%1 = sin(%0) : f32(3)  # head tests/graph.cpp:"), std::string::npos) << text;
  EXPECT_NE(text.find("%2 = add(%1, %0)"), std::string::npos) << text;
  EXPECT_EQ(dot.find("digraph"), 0u);
  EXPECT_NE(dot.find("n0 -> n1;"), std::string::npos) << dot;
  EXPECT_NE(dot.find("n1 -> n2;"), std::string::npos) << dot;
  EXPECT_NE(dot.find("n0 -> n2;"), std::string::npos) << dot;
}

TEST(Shape, PrintsComparesAndRefusesWhatItCannotHold) {
  EXPECT_EQ(to_string(Shape{}), "()");
  EXPECT_EQ(to_string(Type{DType::u8, {2, 3}}), "u8(2, 3)");
  EXPECT_EQ((Shape{2, 0, 3}).numel(), 0);
  EXPECT_EQ((Shape{2, 3})[-1], 3);
  EXPECT_NE((Shape{2, 3}), (Shape{2, 3, 1}));
  EXPECT_THROW((Shape{1, 1, 1, 1, 1, 1, 1}), Error);
  EXPECT_THROW((Shape{-1}), Error);
  EXPECT_EQ(dtype_named("bf16"), DType::bf16);
  EXPECT_NE(error_of([] { dtype_named("f31"); }).find("'f31'"), std::string::npos);
}

}  // namespace
}  // namespace ranvier
