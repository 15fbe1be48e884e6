// The viewer without sockets: commands, who may pass, frames, and run folders with damaged files.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "models/neurons/presets.h"
#include "tests/support/files.h"
#include "tools/view/controls.h"
#include "tools/view/gate.h"
#include "tools/view/neuron_scene.h"
#include "tools/view/report.h"
#include "tools/view/runs.h"

namespace ranvier::view {
namespace {

std::string refusal(const std::string& text) {
  try {
    parse_message(text);
  } catch (const BadMessage& error) {
    return error.what();
  }
  return "accepted";
}

TEST(ViewCommands, AreHeldToTheTable) {
  const Message m = parse_message(R"({"set": "neuron.2007.C", "value": 50, "id": 7})");
  EXPECT_EQ(m.control->name, "neuron.2007.C");
  EXPECT_EQ(m.number, 50);
  EXPECT_EQ(m.id, 7);
  EXPECT_EQ(parse_message(R"({"set": "neuron.preset", "value": "ch2007"})").choice, "ch2007");
  EXPECT_EQ(parse_message(R"({"ack": 4294967295})").sequence, 4294967295u);
  EXPECT_EQ(parse_message(R"({"watch": "population"})").view, "population");
  EXPECT_EQ(parse_message(R"({"do": "neuron.restart"})").control->name, "neuron.restart");
}

TEST(ViewCommands, RefusalsNameWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "not a message"},
      {"[]", "not a JSON object"},
      {R"({"set": "neuron.2007.C"})", "value goes with set"},
      {R"({"set": "neuron.2007.C", "value": 500})", "neuron.2007.C = 500 is out of range: 1 to 200 pF"},
      {R"({"set": "neuron.2007.C", "value": 0.999})", "neuron.2007.C"},
      {R"({"set": "neuron.2007.C", "value": 1e999})", "1e999"},
      {R"({"set": "neuron.2007.C", "value": NaN})", "not a message"},
      {R"({"set": "neuron.2007.C", "value": "50"})", "must be a number"},
      {R"({"set": "neuron.2007.C", "value": null})", "must be a number"},
      {R"({"set": "neuron.preset", "value": "dog"})", "'dog' is not one of rs2007"},
      {R"({"set": "neuron.preset", "value": 1})", "must be a text"},
      {R"({"set": "neuron.restart", "value": 1})", "is done, not set"},
      {R"({"do": "neuron.2007.C"})", "is set, not done"},
      {R"({"do": "neuron.explode"})", "no control is called 'neuron.explode'"},
      {R"({"do": "neuron.restart", "ack": 1})", "exactly one"},
      {R"({"ack": -1})", "ack"},
      {R"({"ack": 1.5})", "ack"},
      {R"({"watch": "the sea"})", "no view is called 'the sea'"},
      {R"({"do": "neuron.restart", "extra": 1})", "no key 'extra'"},
      {R"({"set": "population.neurons", "value": 100.5})", "whole number"},
      {R"({"do": "neuron.restart", "id": "one"})", "id"},
  };
  for (const auto& [text, words] : cases)
    EXPECT_NE(refusal(text).find(words), std::string::npos) << text << ": " << refusal(text);
  EXPECT_NE(refusal(std::string(message_limit + 1, ' ')).find("too long"), std::string::npos);
  try {
    parse_message(R"({"set": "neuron.2007.C", "value": 500, "id": 12})");
    FAIL();
  } catch (const BadMessage& error) {
    EXPECT_EQ(error.id, 12);
  }
}

TEST(ViewControls, EveryPresetIsInsideTheSliders) {
  int checked = 0;
  for (const std::string& name : neuron::preset_names()) {
    NeuronScene scene;
    Message pick = parse_message(nlohmann::json{{"set", "neuron.preset"}, {"value", name}}.dump());
    scene.apply(pick);
    const auto state = scene.state();
    for (const auto& [key, value] : state["values"].items()) {
      const Control& c = control(key);
      if (c.kind != Kind::number) continue;
      EXPECT_GE(value.get<double>(), c.low) << name << " " << key;
      EXPECT_LE(value.get<double>(), c.high) << name << " " << key;
      ++checked;
    }
    EXPECT_EQ(state["note"], "") << name;
  }
  EXPECT_GT(checked, 400);
}

TEST(ViewGate, HostOriginTokenAndPath) {
  const Gate here("127.0.0.1", 8080, "", {"box.example"});
  const auto why = [](const Gate& gate, std::string_view host, std::optional<std::string_view> origin = std::nullopt,
                      std::string_view target = "/", std::string_view cookie = "") {
    return gate.refusal({host, cookie, target, origin});
  };
  for (const char* host : {"127.0.0.1:8080", "localhost:8080", "[::1]:8080", "box.example:8080"})
    EXPECT_EQ(why(here, host), "") << host;
  for (const char* host : {"", "evil.example:8080", "127.0.0.1:8081", "127.0.0.1", "127.0.0.1.evil.example:8080"})
    EXPECT_NE(why(here, host), "") << host;
  EXPECT_EQ(why(here, "localhost:8080", "http://localhost:8080"), "");
  for (const char* origin : {"http://evil.example", "https://localhost:8080", "null", "http://localhost:80801", ""})
    EXPECT_NE(why(here, "localhost:8080", origin), "") << origin;
  const std::string token = make_token();
  EXPECT_EQ(token.size(), 32u);
  EXPECT_NE(token, make_token());
  const Gate open("0.0.0.0", 8080, token, {});
  EXPECT_NE(why(open, "10.1.2.3:8080"), "");
  EXPECT_EQ(why(open, "10.1.2.3:8080", std::nullopt, "/?token=" + token), "");
  EXPECT_EQ(why(open, "10.1.2.3:8080", std::nullopt, "/", "a=b; ranvier_token=" + token), "");
  EXPECT_NE(why(open, "10.1.2.3:8080", std::nullopt, "/?token=" + token.substr(1)), "");
  EXPECT_NE(why(open, "10.1.2.3:8080", std::nullopt, "/", "ranvier_token="), "");
  EXPECT_NE(why(open, "evil.example:8080", std::nullopt, "/?token=" + token), "");
  for (const char* bad : {"", "index.html", "/../etc/passwd", "/a/../b", "/a//b", "/%2e%2e/x", "/.git/config", "/a%00b",
                          "/a\\b", "/%", "/%4", "/%zz", "/a/.", "/a/"})
    EXPECT_FALSE(parse_target(bad)) << bad;
  EXPECT_EQ(parse_target("/api/run?name=a%20b&x=1")->value("name"), "a b");
  EXPECT_TRUE(is_loopback("127.0.0.1"));
  EXPECT_FALSE(is_loopback("0.0.0.0"));
  EXPECT_FALSE(is_loopback("127.evil.example"));
}

/// What a page reads from a frame's fixed places.
template <class T>
T at(const Frame& frame, size_t offset) {
  T value;
  std::memcpy(&value, frame->data() + offset, sizeof value);
  return value;
}

TEST(ViewFrames, HoldWhatTheLanesComputed) {
  NeuronScene scene;
  scene.advance(500, [] { return false; });
  FrameHeader header{};
  header.sequence = 3, header.revision = 2, header.time = scene.time();
  const Frame frame = scene.frame(header);
  EXPECT_EQ(frame->size() % 8, 0u);
  EXPECT_EQ(at<uint32_t>(frame, 0), frame_magic);
  EXPECT_EQ(at<uint32_t>(frame, 4), neuron_frame);
  EXPECT_EQ(at<uint32_t>(frame, 8), 3u);
  EXPECT_EQ(at<uint32_t>(frame, 12), 2u);
  EXPECT_EQ(at<uint32_t>(frame, 36), 2u);
  EXPECT_EQ(at<double>(frame, 40), 70);
  size_t part = 48;
  for (size_t lane = 0; lane < 2; ++lane) {
    EXPECT_EQ(at<double>(frame, part), scene.lane(lane).time());
    EXPECT_EQ(at<double>(frame, part + 8), scene.lane(lane).now().v);
    EXPECT_EQ(at<uint32_t>(frame, part + 56), scene.lane(lane).spikes());
    const uint32_t n = at<uint32_t>(frame, part + 72), m = at<uint32_t>(frame, part + 76);
    EXPECT_GT(n, 400u);
    ASSERT_EQ(m, 3u);
    const auto preset = neuron::preset("rs2007");
    auto protocol = preset.protocol(lane == 0 ? neuron::Solver::rk4 : neuron::Solver::euler,
                                    lane == 0 ? neuron::Mode::accurate : neuron::Mode::published);
    protocol.dt = lane == 0 ? 0.1 : 1, protocol.duration = 500;
    const auto want = neuron::simulate(protocol);
    for (size_t k = 0; k < m; ++k) EXPECT_EQ(at<double>(frame, part + 88 + 8 * k), want.spikes[k]);
    EXPECT_EQ(at<double>(frame, part + 8), want.v);
    EXPECT_EQ(at<double>(frame, part + 24), want.v_min);
    EXPECT_EQ(at<double>(frame, part + 32), want.v_max);
    part += (88 + 8 * m + 12 * n + 7) / 8 * 8;
  }
  EXPECT_EQ(part, frame->size());
}

class ViewRuns : public ::testing::Test {
 protected:
  testing::TemporaryFolder folder_;
  void write(const std::string& path, const std::string& text) {
    const auto file = folder_.path / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  std::filesystem::path root() const { return folder_.path; }
};

TEST_F(ViewRuns, DamageIsSaidAndTakesNothingElse) {
  write("a/metrics.jsonl",
        "{\"step\":1,\"epoch\":0.5,\"train_loss\":2.5}\nnonsense\n{\"step\":2,\"epoch\":1,\"train_loss\":1.5,\"test_"
        "accuracy\":0.4}\n{\"step\":3,\"ep");
  write("a/evaluation.json", "{\"classes\": [");
  write("a/checkpoint.safetensors", "12345678not a header");
  const auto run = read_run(root() / "a");
  EXPECT_EQ(run["kind"], "training");
  EXPECT_EQ(run["metrics"]["train_loss"].dump(), "[2.5,1.5]");
  EXPECT_EQ(run["metrics"]["test_accuracy"].dump(), "[null,0.4]");
  EXPECT_TRUE(run["evaluation"].is_null());
  EXPECT_TRUE(run["filters"].is_null());
  const std::string problems = run["problems"].dump();
  for (const char* words : {"line 2 is no JSON object", "line 4 is half-written", "evaluation.json: half-written",
                            "checkpoint.safetensors"})
    EXPECT_NE(problems.find(words), std::string::npos) << words << ": " << problems;
}

TEST_F(ViewRuns, LongTablesAreThinnedButKeepTheirExtremes) {
  std::string text = "t_ms,v_mv,u,residual_v,residual_u\n";
  for (int i = 0; i < 50'000; ++i)
    text += fmt::format("{},{},0,1e-9,{}\n", i, i == 31'415 ? 35 : -60, i == 5 ? "x" : "0");
  write("p/solution.csv", text + "50000,-60,0,1e");
  write("p/loss.csv", "iteration,window,start_ms,loss\n0,1,0,0.5\n1,1,0,nan\n");
  const auto run = read_run(root() / "p");
  EXPECT_EQ(run["kind"], "pinn");
  const auto v = run["solution"]["v_mv"].get<std::vector<double>>();
  EXPECT_LT(v.size(), 5000u);
  EXPECT_EQ(*std::max_element(v.begin(), v.end()), 35);
  EXPECT_EQ(run["loss"]["loss"].dump(), "[0.5,null]");
  EXPECT_NE(run["problems"].dump().find("solution.csv: line 7 is no row of numbers"), std::string::npos);
}

TEST_F(ViewRuns, ListAndNames) {
  write("one/metrics.jsonl", "");
  write("two/report.json", "{}");
  write("three/else.txt", "");
  write(".hidden/metrics.jsonl", "");
  const auto list = list_runs(root());
  EXPECT_EQ(list["runs"].size(), 2u);
  EXPECT_EQ(list_runs(root() / "none")["problems"].size(), 1u);
  EXPECT_EQ(run_folder_named(root(), "one"), root() / "one");
  std::filesystem::create_directory_symlink("/etc", root() / "link");
  for (const char* name : {"", ".", "..", "../etc", "one/..", ".hidden", "absent", "link", "/etc"})
    EXPECT_THROW(run_folder_named(root(), name), Error) << name;
  EXPECT_THROW(read_run(root() / "three"), Error);
  EXPECT_THROW(read_run(root() / "absent"), Error);
}

TEST_F(ViewRuns, ALinkLeadsNowhere) {
  write("one/metrics.jsonl", "");
  write("secret", "a secret");
  std::filesystem::create_symlink(root() / "secret", root() / "one" / "config.toml");
  EXPECT_EQ(read_run(root() / "one")["config"], "");
}

TEST_F(ViewRuns, AReportHoldsEverythingItself) {
  write("one/metrics.jsonl", "{\"step\":1,\"epoch\":1,\"train_loss\":2.5}\n");
  write("one/config.toml", "# </script><script>alert(1)</script>\n");
  const std::string html = report_html({root() / "one"});
  EXPECT_EQ(html.find("alert(1)</script>"), std::string::npos);
  EXPECT_EQ(html.find(" src="), std::string::npos);
  EXPECT_EQ(html.find("<link"), std::string::npos);
  EXPECT_NE(html.find("Dygraph"), std::string::npos);
  EXPECT_NE(html.find("2.5"), std::string::npos);
}

}  // namespace
}  // namespace ranvier::view
