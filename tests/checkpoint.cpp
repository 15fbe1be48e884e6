// Checkpoints: round trips, hostile files, and weights from foreign ones.
#include "engine/checkpoint.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/ops.h"
#include "tests/support/checkpoint.h"
#include "tests/support/files.h"

namespace ranvier {
namespace {

namespace fs = std::filesystem;
using checkpoint::load;
using checkpoint::load_weights;
using checkpoint::save;
using testing::bytes_of;
using testing::declare_model;
using testing::error_of;
using testing::expect_equal;
using testing::expect_parts;
using testing::put;
using testing::TemporaryFolder;
using Floats = std::vector<float>;
using Json = nlohmann::ordered_json;

/// The bytes of a safetensors file with any header.
std::string file_with(const std::string& header, const std::string& data = "") {
  std::string bytes(8, '\0');
  const uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

std::string parse_error(const std::string& bytes) {
  return error_of([&] { safetensors::parse(std::as_bytes(std::span(bytes)), "some.safetensors"); });
}

/// A foreign file of f32 tensors with elements 0, 1, 2, ...
struct Foreign {
  Json header = Json::object();
  std::string data;
  template <class T>
  void add(const std::string& name, const char* dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
    const size_t begin = data.size();
    data.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
    header[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {begin, data.size()}}};
  }
  void add(const std::string& name, std::vector<int64_t> shape, float start = 0) {
    int64_t n = 1;
    for (int64_t extent : shape) n *= extent;
    Floats values(static_cast<size_t>(n));
    for (size_t i = 0; i < values.size(); ++i) values[i] = start + static_cast<float>(i);
    add(name, "F32", shape, values);
  }
  std::string write(const fs::path& path) const {
    testing::write(path, file_with(header.dump(), data));
    return path.string();
  }
};

TEST(Checkpoint, RoundTripKeepsEveryBitOfEverySlab) {
  const TemporaryFolder folder;
  const std::string path = folder.path / "checkpoint.safetensors";
  State from, to;
  declare_model(from, 3), declare_model(to, 40);
  const uint32_t odd[] = {0x7FC00001u, 0xFF800000u, 0x80000000u, 0x00000001u};  // NaN with payload, -inf, -0, subnormal
  Floats special(4);
  std::memcpy(special.data(), odd, sizeof odd);
  from.set<float>("buffers", "norm.running_mean", special);
  save(from, path, {{"model", "tiny"}, {"note", "\"quoted\"\n\xC3\xA9"}});
  const checkpoint::Metadata metadata = load(to, path, {.model = "tiny"});
  expect_equal(from, to);
  const checkpoint::Metadata expected = {
      {"format", "ranvier"}, {"layout", "KRSC"}, {"version", "1"}, {"model", "tiny"}, {"note", "\"quoted\"\n\xC3\xA9"}};
  EXPECT_EQ(metadata, expected);
  EXPECT_EQ(checkpoint::read_metadata(path), expected);
  const std::string first = testing::read(path);
  save(to, path, {{"model", "tiny"}, {"note", "\"quoted\"\n\xC3\xA9"}});
  EXPECT_EQ(testing::read(path), first);  // equal states give equal files
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path), {}), 1);
}

TEST(Checkpoint, AnEmptyStateAndARelativePath) {
  const TemporaryFolder folder;
  const fs::path before = fs::current_path();
  fs::current_path(folder.path);
  State empty;
  save(empty, "empty.safetensors");
  EXPECT_TRUE(fs::exists(folder.path / "empty.safetensors"));
  load(empty, "empty.safetensors");
  fs::current_path(before);
}

TEST(Checkpoint, TheStateMayGrowBetweenSaves) {
  const TemporaryFolder folder;
  const std::string small = folder.path / "small", large = folder.path / "large";
  State state, copy;
  put<float>(state, "parameters", "a", {3}, 1);
  save(state, small);
  put<float>(state, "parameters", "b", {300}, 2);
  put<float>(state, "ema", "a", {3}, 3);
  save(state, large);
  put<float>(copy, "ema", "a", {3}, 0), put<float>(copy, "parameters", "b", {300}, 0);
  put<float>(copy, "parameters", "a", {3}, 0);  // declared in another order
  load(copy, large);
  EXPECT_EQ(copy.get<float>("parameters", "b"), state.get<float>("parameters", "b"));
  EXPECT_EQ(copy.get<float>("ema", "a"), (Floats{3, 4, 5}));
  expect_parts(error_of([&] { load(copy, small); }), {"small", "no tensor 'ema/a'"});
  EXPECT_NO_THROW(load(copy, large, {.slabs = {"parameters"}}));
}

TEST(Checkpoint, ChosenSlabsLeaveTheRestAlone) {
  const TemporaryFolder folder;
  const std::string path = folder.path / "c";
  State trained, evaluated;
  declare_model(trained, 3);
  save(trained, path);
  put<float>(evaluated, "parameters", "conv.weight", {4, 3, 3, 2}, 0);
  put<double>(evaluated, "parameters", "conv.scale", {3}, 0);
  put<float>(evaluated, "parameters", "nothing", {0, 3}, 0);
  put<float>(evaluated, "mine", "other", {2}, 8);
  load(evaluated, path, {.slabs = {"parameters"}});
  EXPECT_EQ(evaluated.get<float>("parameters", "conv.weight"), trained.get<float>("parameters", "conv.weight"));
  EXPECT_EQ(evaluated.get<float>("mine", "other"), (Floats{8, 9}));
}

TEST(Checkpoint, AnotherModelIsRefusedByNameAndNothingChanges) {
  const TemporaryFolder folder;
  const std::string path = folder.path / "c.safetensors";
  State saved, untouched;
  declare_model(saved, 3), declare_model(untouched, 40);
  save(saved, path, {{"model", "resnet18"}});
  const auto refused = [&](State& state, std::initializer_list<const char*> parts,
                           checkpoint::LoadOptions options = {}) {
    std::vector<std::vector<std::byte>> before;
    for (uint32_t id = 0; id < state.entries().size(); ++id) before.push_back(bytes_of(state, id));
    expect_parts(error_of([&] { load(state, path, options); }), parts);
    for (uint32_t id = 0; id < state.entries().size(); ++id) EXPECT_EQ(bytes_of(state, id), before[id]);
  };
  refused(untouched, {"c.safetensors", "'resnet18'", "not of 'tiny'"}, {.model = "tiny"});
  State missing;
  declare_model(missing, 40);
  put<float>(missing, "parameters", "head.weight", {10, 4}, 0);
  refused(missing, {"c.safetensors", "no tensor 'head.weight'", "'resnet18'"});
  State extra;
  put<float>(extra, "parameters", "conv.weight", {4, 3, 3, 2}, 9);
  refused(extra, {"c.safetensors", "has no place", "'resnet18'"});
  State shape;
  put<float>(shape, "parameters", "conv.weight", {4, 3, 3, 3}, 9);
  refused(shape, {"'conv.weight'", "f32(4, 3, 3, 2)", "f32(4, 3, 3, 3)", "offset", "'resnet18'"});
  State type;
  put<double>(type, "parameters", "conv.weight", {4, 3, 3, 2}, 9);
  refused(type, {"'conv.weight'", "f32(4, 3, 3, 2)", "f64(4, 3, 3, 2)"});
}

TEST(Checkpoint, ForeignFilesAndOtherVersionsAreNoCheckpoints) {
  const TemporaryFolder folder;
  State state;
  put<float>(state, "parameters", "w", {2}, 0);
  Foreign foreign;
  foreign.add("w", {2});
  const std::string path = foreign.write(folder.path / "foreign");
  expect_parts(error_of([&] { load(state, path); }), {"foreign", "not a Ranvier checkpoint"});
  foreign.header["__metadata__"] = {{"format", "ranvier"}, {"version", "2"}};
  foreign.write(path);
  expect_parts(error_of([&] { load(state, path); }), {"version '2'"});
  expect_parts(error_of([&] { load(state, folder.path / "none"); }), {"none", "No such file"});
  expect_parts(error_of([&] { load(state, folder.path); }), {"not a regular file"});
  expect_parts(error_of([&] { save(state, path, {{"format", "mine"}}); }), {"'format' is taken"});
  expect_parts(error_of([&] { save(state, path, {{"model", "\xFF"}}); }), {"UTF-8"});
  put<float>(state, "momentum", "w", {2}, 0), put<float>(state, "parameters", "momentum/w", {2}, 0);
  expect_parts(error_of([&] { save(state, path); }), {"'momentum/w'", "taken"});
}

TEST(Checkpoint, AFileCutAnywhereIsAnErrorAndChangesNothing) {
  const TemporaryFolder folder;
  const std::string whole_path = folder.path / "whole", path = folder.path / "cut";
  State saved, state;
  put<float>(saved, "parameters", "w", {2, 2}, 1), put<int64_t>(saved, "counters", "step", {}, 9);
  put<float>(state, "parameters", "w", {2, 2}, 5), put<int64_t>(state, "counters", "step", {}, 6);
  save(saved, whole_path);
  const std::string whole = testing::read(whole_path);
  for (size_t length = 0; length < whole.size(); ++length) {
    testing::write(path, whole.substr(0, length));
    expect_parts(error_of([&] { load(state, path); }), {"cut: "});
    EXPECT_NE(parse_error(whole.substr(0, length)), "no error") << length;
  }
  testing::write(path, whole + "x");
  expect_parts(error_of([&] { load(state, path); }), {"1 bytes follow"});
  EXPECT_EQ(state.get<float>("parameters", "w"), (Floats{5, 6, 7, 8}));
  EXPECT_EQ(state.get<int64_t>("counters", "step")[0], 6);
  for (size_t at = 0; at < whole.size() - 24; ++at) {  // any byte of the header changed: an error or a sound load
    std::string broken = whole;
    broken[at] = static_cast<char>(broken[at] ^ 0x15);
    testing::write(path, broken);
    error_of([&] { load(state, path); });
  }
  load(state, whole_path);
  expect_equal(saved, state);
}

TEST(Safetensors, HostileHeadersAreRefusedInOneLine) {
  const auto tensor = [](const char* dtype, const char* shape, const char* offsets) {
    return fmt::format(R"({{"dtype":"{}","shape":{},"data_offsets":{}}})", dtype, shape, offsets);
  };
  const std::string a = R"({"a":)", data(16, 'x');
  const auto one = [&](const char* dtype, const char* shape, const char* offsets) {
    return parse_error(file_with(a + tensor(dtype, shape, offsets) + "}", data));
  };
  EXPECT_EQ(one("F32", "[2,2]", "[0,16]"), "no error");
  EXPECT_EQ(one("BF16", "[8]", "[0,16]"), "no error");
  EXPECT_EQ(one("F64", "[1,2,1]", "[0,16]"), "no error");
  // lengths
  std::string longer = file_with("{}");
  longer[0] = 3;
  expect_parts(parse_error(longer), {"some.safetensors", "beyond the end of the file at 10"});
  std::memset(longer.data(), 0xFF, 8);
  expect_parts(parse_error(longer), {"18446744073709551615"});
  expect_parts(parse_error(""), {"0 bytes are too few"});
  expect_parts(parse_error(file_with("")), {"brace"});
  // not the JSON that is asked for
  expect_parts(parse_error(file_with("{\"a\":", data)), {"not JSON at offset"});
  expect_parts(parse_error(file_with("{} x")), {"not JSON"});
  expect_parts(parse_error(file_with("[1]")), {"brace"});
  expect_parts(parse_error(file_with(R"({"a":1})")), {"'a'", "a number"});
  expect_parts(parse_error(file_with(R"({"a":null})")), {"'a'", "null"});
  expect_parts(parse_error(file_with(R"({"__metadata__":{"k":1}})")), {"'__metadata__'", "'k'"});
  expect_parts(parse_error(file_with(R"({"__metadata__":{"k":{}}})")), {"'k'", "an object"});
  expect_parts(parse_error(file_with(R"({"__metadata__":{"k":"1","k":"2"}})")), {"'k' is there twice"});
  expect_parts(parse_error(file_with(a + std::string(200000, '['))), {"'a'"});
  expect_parts(parse_error(file_with(a + R"({"shape":)" + std::string(200000, '['))), {"'shape'"});
  expect_parts(parse_error(file_with("{\"\xFF\":{}}")), {"not JSON"});
  // tensors
  expect_parts(one("F8_E4M3", "[2,2]", "[0,16]"), {"tensor 'a'", "'F8_E4M3'"});
  expect_parts(one("F32", "[2,-2]", "[0,16]"), {"tensor 'a'", "-2"});
  expect_parts(one("F32", "[2,2.5]", "[0,16]"), {"tensor 'a'", "2.5"});
  expect_parts(one("F32", "[1e30]", "[0,16]"), {"tensor 'a'"});
  expect_parts(one("F32", "[99999999999999999999]", "[0,16]"), {"tensor 'a'"});
  expect_parts(one("F32", "[18446744073709551615]", "[0,16]"), {"tensor 'a'", "64-bit"});
  expect_parts(one("F32", "[4611686018427387904,4]", "[0,16]"), {"tensor 'a'", "64 bits"});
  expect_parts(one("F32", "[4611686018427387904,4611686018427387904,0]", "[0,0]"), {"64 bits"});
  expect_parts(one("F32", "[1,1,1,1,1,2,2]", "[0,16]"), {"shape holds more than 6"});
  expect_parts(one("F32", "[2,2]", "[0,12]"), {"takes 16 bytes", "0 to 12"});
  expect_parts(one("F32", "[2,2]", "[16,0]"), {"begins at offset 16"});
  expect_parts(one("F32", "[2,2]", "[4,20]"), {"ends at offset 20", "16 bytes"});
  expect_parts(one("F32", "[2,2]", "[0]"), {"1 numbers instead of 2"});
  expect_parts(one("F32", "[2,2]", "[0,8,16]"), {"more than 2"});
  expect_parts(one("F32", "[2,2]", "\"0\""), {"'data_offsets'"});
  expect_parts(one("F32", "[1]", "[12,16]"), {"no tensor covers", "offset 0"});
  expect_parts(parse_error(file_with(R"({"a":{"dtype":"F32","shape":[4]}})", data)), {"data_offsets is missing"});
  expect_parts(parse_error(file_with(R"({"a":{"shape":[4],"data_offsets":[0,16]}})", data)), {"dtype is missing"});
  expect_parts(parse_error(file_with(R"({"a":{"dtype":"F32","dtype":"F32"}})")), {"dtype is there twice"});
  expect_parts(parse_error(file_with(R"({"a":{"strides":[1]}})")), {"unknown key 'strides'"});
  const std::string t = tensor("F32", "[2]", "[0,8]");
  expect_parts(parse_error(file_with(a + t + ",\"a\":" + t + "}", data)), {"'a' is there twice"});
  expect_parts(parse_error(file_with(a + t + ",\"b\":" + tensor("F32", "[3]", "[4,16]") + "}", data)),
               {"'b' at offset 4 overlaps tensor 'a'", "ends at 8"});
  expect_parts(parse_error(file_with(a + t + ",\"b\":" + tensor("F32", "[1]", "[12,16]") + "}", data)),
               {"from offset 8", "'b'"});
  expect_parts(parse_error(file_with(a + t + "}", data)), {"8 bytes follow"});
  // names that would break a line, and endless ones
  expect_parts(parse_error(file_with(R"({"a\nb\u001b":1})")), {R"('a\x0ab\x1b')"});
  expect_parts(parse_error(file_with("{\"" + std::string(5000, 'n') + "\":1}")), {"5000 bytes"});
}

TEST(Safetensors, HalfTypesConvertExactly) {
  using safetensors::convert;
  const auto widened = [](DType type, uint16_t bits) {
    float value = 0;
    convert(type, reinterpret_cast<const std::byte*>(&bits), DType::f32, reinterpret_cast<std::byte*>(&value), 1);
    return value;
  };
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {  // every half by its definition
    const int exponent = static_cast<int>(bits >> 10 & 31), mantissa = static_cast<int>(bits & 1023);
    double value = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    if (exponent == 31) value = mantissa ? NAN : INFINITY;
    if (bits & 0x8000) value = -value;
    const float half = widened(DType::f16, static_cast<uint16_t>(bits));
    if (std::isnan(value))
      ASSERT_TRUE(std::isnan(half));
    else
      ASSERT_EQ(std::bit_cast<uint32_t>(half), std::bit_cast<uint32_t>(static_cast<float>(value))) << bits;
    ASSERT_EQ(std::bit_cast<uint32_t>(widened(DType::bf16, static_cast<uint16_t>(bits))), bits << 16);
  }
}

TEST(Weights, PyTorchFilesArePermutedRenamedAndReported) {
  const TemporaryFolder folder;
  Foreign file;
  file.add("module.conv1.weight", {2, 3, 4, 5});
  file.add("module.conv1.bias", {2}, 7);
  file.add("module.bn1.running_mean", {2}, 1);
  file.add<int64_t>("module.bn1.num_batches_tracked", "I64", {}, {12});
  file.add("module.fc.weight", {2, 12});
  file.add<uint16_t>("module.fc.bias", "F16", {2}, {0x3C00, 0xC100});  // 1, -2.5
  file.add("module.fc2.weight", {3, 2}, 5);
  const std::string path = file.write(folder.path / "torch.safetensors");
  State state;
  put<float>(state, "parameters", "block1.weight", {2, 4, 5, 3}, 0);
  put<double>(state, "parameters", "block1.bias", {2}, 0);
  put<float>(state, "buffers", "bn1.running_mean", {2}, 0);
  put<float>(state, "buffers", "bn1.running_var", {2}, 40);
  put<float>(state, "parameters", "head.weight", {2, 12}, 0);
  put<float>(state, "parameters", "head.bias", {2}, 0);
  put<float>(state, "momentum", "head.bias", {2}, 30);
  testing::write(folder.path / "map.toml", R"(
[[rule]]
prefix = "module."
to = ""
[[rule]]
regex = '^conv(\d+)\.'
to = 'block$1.'
[[rule]]
prefix = "fc."
to = "head."
flatten = [3, 2, 2]
[[rule]]
regex = "num_batches_tracked$"
ignore = true
)");
  checkpoint::WeightOptions options{.names = checkpoint::read_name_map(folder.path / "map.toml")};
  const checkpoint::WeightReport report = load_weights(state, path, options);
  EXPECT_EQ(report.loaded.size(), 5u);
  EXPECT_EQ(report.missing, std::vector<std::string>{"buffers/bn1.running_var"});
  EXPECT_EQ(report.unused, std::vector<std::string>{"module.fc2.weight"});
  const Floats conv = state.get<float>("parameters", "block1.weight");
  for (int k = 0; k < 2; ++k)
    for (int c = 0; c < 3; ++c)
      for (int r = 0; r < 4; ++r)
        for (int s = 0; s < 5; ++s)
          EXPECT_EQ(conv[static_cast<size_t>(((k * 4 + r) * 5 + s) * 3 + c)],
                    static_cast<float>(((k * 3 + c) * 4 + r) * 5 + s));
  EXPECT_EQ(state.get<double>("parameters", "block1.bias"), (std::vector<double>{7, 8}));
  EXPECT_EQ(state.get<float>("buffers", "bn1.running_mean"), (Floats{1, 2}));
  EXPECT_EQ(state.get<float>("buffers", "bn1.running_var"), (Floats{40, 41}));
  EXPECT_EQ(state.get<float>("parameters", "head.bias"), (Floats{1, -2.5}));
  EXPECT_EQ(state.get<float>("momentum", "head.bias"), (Floats{30, 31}));
  const Floats head = state.get<float>("parameters", "head.weight");  // CHW columns became HWC
  for (int o = 0; o < 2; ++o)
    for (int c = 0; c < 3; ++c)
      for (int p = 0; p < 4; ++p)
        EXPECT_EQ(head[static_cast<size_t>(o * 12 + p * 3 + c)], static_cast<float>(o * 12 + c * 4 + p));
  options.strict = true;
  put<float>(state, "parameters", "head.bias2", {2}, 0);
  expect_parts(error_of([&] { load_weights(state, path, options); }),
               {"torch.safetensors", "no tensor for", "'head.bias2'", "'buffers/bn1.running_var'"});
}

TEST(Weights, LayoutFollowsTheFileUnlessTold) {
  const TemporaryFolder folder;
  State saved, state;
  put<float>(saved, "parameters", "w", {2, 2, 2, 2}, 0), put<float>(saved, "momentum", "w", {2, 2, 2, 2}, 3);
  put<float>(saved, "buffers", "m", {2}, 3);
  save(saved, folder.path / "ours");
  put<float>(state, "parameters", "w", {2, 2, 2, 2}, 9), put<float>(state, "buffers", "m", {2}, 9);
  const checkpoint::WeightReport report = load_weights(state, folder.path / "ours", {.strict = true});
  EXPECT_EQ(report.loaded.size(), 2u);  // moments of ours are no weights, and are not missed
  expect_equal(state, state);
  EXPECT_EQ(state.get<float>("parameters", "w"), saved.get<float>("parameters", "w"));
  EXPECT_EQ(state.get<float>("buffers", "m"), (Floats{3, 4}));
  Foreign foreign;
  foreign.add("w", {2, 2, 2, 2});
  const std::string path = foreign.write(folder.path / "foreign");
  load_weights(state, path, {.layout = checkpoint::Layout::krsc});
  EXPECT_EQ(state.get<float>("parameters", "w"), saved.get<float>("parameters", "w"));
  load_weights(state, path);
  EXPECT_EQ(state.get<float>("parameters", "w")[1], 4.0f);
}

TEST(Weights, WhatDoesNotFitIsNamedAndNothingChanges) {
  const TemporaryFolder folder;
  Foreign file;
  file.add("a.weight", {4, 6}), file.add("b.weight", {3, 3}), file.add("c", {2});
  const std::string path = file.write(folder.path / "torch");
  State state;
  put<float>(state, "parameters", "a.weight", {4, 6}, 50);
  put<float>(state, "parameters", "b.weight", {10, 3}, 50);
  expect_parts(error_of([&] { load_weights(state, path); }),
               {"torch", "'b.weight'", "f32(3, 3)", "f32(10, 3)", "ignore"});
  EXPECT_EQ(state.get<float>("parameters", "a.weight")[0], 50.0f);
  load_weights(state, path, {.names = {{.from = "b.", .ignore = true}}});
  EXPECT_EQ(state.get<float>("parameters", "a.weight")[0], 0.0f);
  const auto with = [&](checkpoint::NameRule rule) {
    return error_of([&] { load_weights(state, path, {.names = {{.from = "b.", .ignore = true}, rule}}); });
  };
  expect_parts(with({.from = "a.", .to = "a.", .flatten = {4, 1, 1}}), {"'a.weight'", "flatten of [4, 1, 1]"});
  expect_parts(with({.from = "c", .to = "a.weight"}), {"'a.weight'", "'c'", "both"});
  expect_parts(with({.from = "", .to = "prefix."}), {"none of its 3 tensors", "'a.weight'"});
  expect_parts(with({.from = "(", .to = "", .regex = true}), {"name map", "'('"});
  State integers;
  put<int32_t>(integers, "parameters", "c", {2}, 0);
  expect_parts(error_of([&] { load_weights(integers, path); }), {"'c'", "f32(2)", "i32(2)"});
}

TEST(Weights, NameMapsSayWhatIsWrong) {
  const TemporaryFolder folder;
  const auto error = [&](const char* name, const std::string& text) {
    testing::write(folder.path / name, text);
    return error_of([&] { checkpoint::read_name_map(folder.path / name); });
  };
  EXPECT_EQ(error("ok.json", R"({"rule":[{"prefix":"a.","to":"b.","flatten":[1,2,3]},{"regex":"x$","ignore":true}]})"),
            "no error");
  const auto rules = checkpoint::read_name_map(folder.path / "ok.json");
  ASSERT_EQ(rules.size(), 2u);
  EXPECT_EQ(rules[0].flatten, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_TRUE(rules[1].regex && rules[1].ignore);
  expect_parts(error("m.toml", "[[rule]]\nprefix = 'a'\ntoo = 'b'\n"), {"m.toml", "rule 1", "'too'"});
  expect_parts(error("m.toml", "[[rule]]\nprefix = 'a'\n"), {"rule 1", "needs to"});
  expect_parts(error("m.toml", "[[rule]]\nto = 'a'\n"), {"prefix or regex"});
  expect_parts(error("m.toml", "[[rule]]\nprefix = 1\nto = ''\n"), {"prefix must be a text"});
  expect_parts(error("m.toml", "[[rule]]\nregex = '['\nto = ''\n"), {"rule 1", "'['"});
  expect_parts(error("m.toml", "[[rule]]\nprefix = 'a'\nto = ''\nflatten = [1, 0, 2]\n"), {"flatten"});
  expect_parts(error("m.toml", "rule = [\n\n"), {"m.toml:"});
  expect_parts(error("m.toml", "rules = []\n"), {"one list, 'rule'"});
  expect_parts(error("m.json", "{"), {"m.json", "not JSON"});
  expect_parts(error_of([&] { checkpoint::read_name_map(folder.path / "none"); }), {"none", "cannot be read"});
}

}  // namespace
}  // namespace ranvier
