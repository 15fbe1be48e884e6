// The viewer's server as browsers and strangers meet it: in this process, over real sockets.
#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>
#include <boost/asio/connect.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/websocket.hpp>
#include <optional>
#include <thread>

#include "models/neurons/presets.h"
#include "tests/support/files.h"
#include "tests/support/sanitized.h"
#include "tools/view/app.h"

namespace ranvier::view {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Tcp = asio::ip::tcp;
using Json = nlohmann::json;
using Clock = std::chrono::steady_clock;

/// One request on a connection of its own.
struct Answer {
  int status = 0;
  std::string body;
  http::fields fields;
};
using Headers = std::vector<std::pair<std::string, std::string>>;

Answer ask(uint16_t port, const std::string& target, const Headers& headers = {}, http::verb verb = http::verb::get,
           const std::string& body = "") {
  asio::io_context context;
  Tcp::socket socket(context);
  socket.connect({asio::ip::address_v4::loopback(), port});
  http::request<http::string_body> request{verb, target, 11};
  request.set(http::field::host, fmt::format("127.0.0.1:{}", port));
  for (const auto& [key, value] : headers) request.set(key, value);
  request.body() = body;
  request.prepare_payload();
  beast::error_code error;
  http::write(socket, request, error);
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(64 << 20);
  http::read(socket, buffer, parser, error);
  if (error) return {};
  return {static_cast<int>(parser.get().result_int()), parser.get().body(), parser.get()};
}

/// A page: a WebSocket that reads when asked to.
class Tab {
 public:
  explicit Tab(uint16_t port, const std::string& view = "neuron", const std::string& origin = "") : socket_(context_) {
    socket_.next_layer().connect({asio::ip::address_v4::loopback(), port});
    const std::string host = fmt::format("127.0.0.1:{}", port);
    if (!origin.empty())
      socket_.set_option(beast::websocket::stream_base::decorator(
          [origin](beast::websocket::request_type& request) { request.set(http::field::origin, origin); }));
    socket_.handshake(host, "/ws");
    if (!view.empty()) send({{"watch", view}});
  }
  void send(const Json& message) { send_text(message.dump()); }
  void send_text(const std::string& text) { socket_.write(asio::buffer(text)); }

  /// The next message: a text, or empty where it was a frame (which is then acknowledged and kept).
  std::string next() {
    beast::flat_buffer buffer;
    socket_.read(buffer);
    if (socket_.got_text()) return beast::buffers_to_string(buffer.data());
    const auto data = beast::buffers_to_string(buffer.data());
    frame.assign(data.begin(), data.end());
    ++frames;
    send({{"ack", word(8)}});
    return {};
  }
  /// Reads until a text fulfils `fits`.
  Json until(const std::function<bool(const Json&)>& fits) {
    for (const auto end = Clock::now() + patience; Clock::now() < end;) {
      const std::string text = next();
      if (text.empty()) continue;
      Json json = Json::parse(text);
      if (fits(json)) return json;
    }
    ADD_FAILURE() << "the awaited text did not come";
    return {};
  }
  Json answer(int id) {
    return until([&](const Json& j) { return j.contains("id") && j["id"] == id; });
  }
  Json set(const std::string& name, const Json& value) {
    send({{"set", name}, {"value", value}, {"id", ++id_}});
    return answer(id_);
  }
  Json act(const std::string& name) {
    send({{"do", name}, {"id", ++id_}});
    return answer(id_);
  }
  uint32_t word(size_t at) const {
    uint32_t value;
    std::memcpy(&value, frame.data() + at, sizeof value);
    return value;
  }
  double number(size_t at) const {
    double value;
    std::memcpy(&value, frame.data() + at, sizeof value);
    return value;
  }
  /// Reads until a frame shows at least this revision.
  void see(uint32_t revision) {
    for (const auto end = Clock::now() + patience; Clock::now() < end && (frames == 0 || word(12) < revision);) next();
    EXPECT_TRUE(frames > 0 && word(12) >= revision);
  }
  void drop() { socket_.next_layer().close(); }
  void close() { socket_.close(beast::websocket::close_code::normal); }

  std::vector<uint8_t> frame;
  int frames = 0;
  static constexpr auto patience = std::chrono::seconds(60);  // then the test fails instead of waiting for ever

 private:
  asio::io_context context_;
  beast::websocket::stream<Tcp::socket> socket_;
  int id_ = 0;
};

class ViewServer : public ::testing::Test {
 protected:
  void SetUp() override { start({}); }
  void start(ServerOptions options) {
    app_.reset();
    options.port = 0;
    options.runs = folder_.path / "runs";
    app_ = std::make_unique<App>(options);
  }
  uint16_t port() const { return app_->server().port(); }
  /// Waits until the counts fulfil `fits`: what a closed socket leaves behind goes a moment later.
  bool settles(const std::function<bool(const ServerCounts&)>& fits) const {
    for (int i = 0; i < 500; ++i, std::this_thread::sleep_for(std::chrono::milliseconds(20)))
      if (fits(app_->server().counts())) return true;
    return false;
  }
  testing::TemporaryFolder folder_;
  std::unique_ptr<App> app_;
};

TEST_F(ViewServer, ServesThePageWithoutHelp) {
  const Answer page = ask(port(), "/");
  EXPECT_EQ(page.status, 200);
  EXPECT_NE(page.body.find("Ranvier"), std::string::npos);
  EXPECT_EQ(page.body.find("http://"), std::string::npos);
  EXPECT_EQ(page.body.find("https://"), std::string::npos);
  size_t weight = 0;
  for (const char* path : {"/view.css", "/three.min.js", "/dygraph.min.js", "/neuron.js", "/icon.svg"}) {
    const Answer part = ask(port(), path);
    EXPECT_EQ(part.status, 200) << path;
    weight += part.body.size();
  }
  EXPECT_LT(weight, 1'400'000u);
  EXPECT_EQ(ask(port(), "/nothing.js").status, 404);
}

TEST_F(ViewServer, RefusesStrangers) {
  EXPECT_EQ(ask(port(), "/", {{"Host", "evil.example"}}).status, 403);
  EXPECT_EQ(ask(port(), "/", {{"Origin", "http://evil.example"}}).status, 403);
  EXPECT_EQ(ask(port(), "/", {}, http::verb::post, "x").status, 405);
  EXPECT_EQ(ask(port(), "/", {}, http::verb::post, std::string(70'000, 'x')).status, 413);
  for (const char* path : {"/../etc/passwd", "/%2e%2e/etc/passwd", "/.git/config", "/a%00"})
    EXPECT_EQ(ask(port(), path).status, 400) << path;
  for (const char* path :
       {"/api/run?name=../../etc", "/api/run?name=", "/api/run", "/api/nothing", "/api/run?name=absent"})
    EXPECT_EQ(ask(port(), path).status, 404) << path;
  EXPECT_THROW(Tab(port(), "neuron", "http://evil.example"), std::exception);
  EXPECT_NO_THROW(Tab(port(), "neuron", fmt::format("http://127.0.0.1:{}", port())));
  EXPECT_GT(app_->server().counts().refused, 10u);
}

TEST_F(ViewServer, AsksForItsTokenElsewhere) {
  start({.token = "0123456789abcdef0123456789abcdef"});
  EXPECT_EQ(ask(port(), "/").status, 403);
  EXPECT_EQ(ask(port(), "/api/runs").status, 403);
  EXPECT_THROW(Tab{port()}, std::exception);
  const Answer first = ask(port(), "/?token=0123456789abcdef0123456789abcdef");
  EXPECT_EQ(first.status, 303);
  EXPECT_EQ(first.fields[http::field::location], "/");
  const std::string cookie(first.fields[http::field::set_cookie]);
  EXPECT_NE(cookie.find("HttpOnly"), std::string::npos);
  EXPECT_NE(cookie.find("SameSite=Strict"), std::string::npos);
  EXPECT_EQ(ask(port(), "/", {{"Cookie", cookie.substr(0, cookie.find(';'))}}).status, 200);
  EXPECT_EQ(ask(port(), "/", {{"Cookie", "ranvier_token=fedcba9876543210fedcba9876543210"}}).status, 403);
}

TEST_F(ViewServer, APortInUseIsSaid) {
  try {
    ServerOptions taken;
    taken.port = port();
    App second(taken);
    FAIL() << "two servers at one port";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(std::to_string(port())), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("--port"), std::string::npos);
  }
}

TEST_F(ViewServer, ATabSeesWhatItCommands) {
  Tab tab(port()), watcher(port());
  const Json welcome = tab.until([](const Json& j) { return j.contains("welcome"); });
  EXPECT_GT(welcome["controls"].size(), 40u);
  const Json accepted = tab.set("neuron.2007.C", 50);
  ASSERT_TRUE(accepted.contains("revision")) << accepted;
  tab.see(accepted["revision"]);
  const Json state = watcher.until(
      [](const Json& j) { return j.value("view", "") == "neuron" && j["values"]["neuron.2007.C"] == 50; });
  EXPECT_EQ(state["values"]["neuron.preset"], "rs2007");
  watcher.see(accepted["revision"]);
  const Json refused = tab.set("neuron.2007.C", 5000);
  EXPECT_EQ(refused["error"], "neuron.2007.C = 5000 is out of range: 1 to 200 pF");
  tab.send_text("{\"set\":");
  EXPECT_NE(tab.answer(0)["error"].get<std::string>().find("not a message"), std::string::npos);
  EXPECT_NE(tab.set("neuron.2003.a", 0.1)["error"].get<std::string>().find("form of 2007"), std::string::npos);
  EXPECT_NE(tab.set("population.ephaptic", 1).dump().find("error"), std::string::npos);
}

TEST_F(ViewServer, CountsAreTheLibrary_s) {
  Tab tab(port());
  for (const char* preset : {"rs2007", "ch2007", "pattern:a"}) {
    tab.set("neuron.preset", preset);
    tab.set("neuron.until", 500);
    tab.set("neuron.pace", "unlimited");
    tab.act("neuron.restart");
    tab.set("neuron.run", "run");
    do tab.next();
    while (tab.frames == 0 || (tab.word(32) & frame_ended) == 0 || tab.number(16) < 499);
    auto protocol = neuron::preset(preset).protocol();
    protocol.dt = 0.1, protocol.duration = 500;
    EXPECT_EQ(tab.word(48 + 56), neuron::simulate(protocol).spikes.size()) << preset;
  }
}

TEST_F(ViewServer, FiftyTabsComeAndGo) {
  Tab first(port());
  for (int round = 0; round < 5; ++round) {
    std::vector<std::unique_ptr<Tab>> tabs;
    for (int i = 0; i < 10; ++i) {
      tabs.push_back(std::make_unique<Tab>(port(), i % 2 ? "neuron" : "population"));
      while (tabs.back()->frames < 2) tabs.back()->next();
    }
    for (size_t i = 0; i < tabs.size(); ++i)
      i % 3 == 0 ? tabs[i]->drop() : i % 3 == 1 ? tabs[i]->close() : tabs[i].reset();
  }
  EXPECT_TRUE(settles([](const ServerCounts& c) { return c.pages == 1 && c.connections == 1; }));
  const Json accepted = first.set("neuron.2007.k", 1);  // no stall
  ASSERT_TRUE(accepted.contains("revision")) << accepted;
  first.see(accepted["revision"]);
  EXPECT_GE(first.word(12), accepted["revision"].get<uint32_t>());
}

/// Whatever is told to all pages must not reach one whose handshake is still being written.
TEST_F(ViewServer, TabsComeWhileEverythingChanges) {
  std::atomic<bool> done = false;
  std::thread steerer([&] {
    Tab tab(port());
    for (int i = 0; !done; ++i) {
      tab.send({{"set", "neuron.2007.C"}, {"value", 20 + i % 100}, {"id", i % 1000 + 1}});
      tab.answer(i % 1000 + 1);
    }
  });
  for (int i = 0; i < 200; ++i) {
    Tab tab(port());
    EXPECT_NE(tab.next().find("welcome"), std::string::npos);  // first of all
  }
  done = true;
  steerer.join();
}

/// The server ends while handshakes are under way: none of them is closed before it is open.
TEST_F(ViewServer, ItEndsWhileTabsCome) {
  for (int i = 0; i < 20; ++i) {
    std::thread comer([port = port()] {
      try {
        while (true) Tab tab(port);
      } catch (const std::exception&) {  // nobody listens any more
      }
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    app_.reset();
    comer.join();
    start({});
  }
}

TEST_F(ViewServer, TwentyTabsWatchAndEachSteers) {
  std::vector<std::unique_ptr<Tab>> tabs;
  for (int i = 0; i < 20; ++i) tabs.push_back(std::make_unique<Tab>(port()));
  for (size_t i = 0; i < tabs.size(); ++i) {
    const Json accepted = tabs[i]->set("neuron.2007.I", 50 + static_cast<double>(i));
    ASSERT_TRUE(accepted.contains("revision")) << accepted;
    tabs[i]->see(accepted["revision"]);
    EXPECT_GE(tabs[i]->word(12), accepted["revision"].get<uint32_t>());
  }
}

TEST_F(ViewServer, AStuckTabGrowsNothingAndSlowsNobody) {
  Tab stuck(port(), "population"), other(port());  // `stuck` never reads
  other.set("neuron.pace", "unlimited");
  uint64_t most = 0;
  const auto begin = Clock::now();
  const auto goes_on = [&] {
    const auto passed = Clock::now() - begin;
    return passed < std::chrono::seconds(2) || (passed < Tab::patience && app_->server().counts().left_out == 0);
  };
  while (goes_on()) {
    other.next();
    most = std::max(most, app_->server().counts().queued_bytes);
  }
  EXPECT_LT(most, 4u << 20);
  EXPECT_GT(app_->server().counts().left_out, 0u);
  EXPECT_GT(other.number(16), 100);
}

TEST_F(ViewServer, TooManyConnectionsAreRefused) {
  start({.connections = 4});
  std::vector<std::unique_ptr<Tab>> tabs;
  for (int i = 0; i < 4; ++i) tabs.push_back(std::make_unique<Tab>(port()));
  EXPECT_EQ(ask(port(), "/").status, 503);
  EXPECT_THROW(Tab{port()}, std::exception);
  tabs.pop_back();
  EXPECT_TRUE(settles([](const ServerCounts& c) { return c.connections == 3; }));
  EXPECT_EQ(ask(port(), "/").status, 200);
}

TEST_F(ViewServer, ItEndsWhileTabsWatch) {
  Tab tab(port());
  while (tab.frames < 3) tab.next();
  std::thread ender([&] { app_.reset(); });
  EXPECT_THROW(while (true) tab.next(), beast::system_error);
  ender.join();
}

TEST_F(ViewServer, ADayOfStreamingKeepsMemoryFlat) {
  if (test::sanitized) GTEST_SKIP() << "skipped: a sanitizer keeps what is freed, and would take minutes";
  Tab tab(port());
  tab.set("neuron.solver.1", "none");
  tab.set("neuron.dt.0", 2);
  tab.set("neuron.protocol", "pulse");
  tab.set("neuron.pace", "unlimited");
  const auto hours = [&](double h) {
    while (tab.frames == 0 || tab.number(16) < h * 3.6e6) tab.next();
    return mallinfo2().uordblks;
  };
  const auto early = static_cast<double>(hours(2)), late = static_cast<double>(hours(24));
  EXPECT_LT(late - early, 1e6) << early << " bytes after two hours, " << late << " after a day";
}

}  // namespace
}  // namespace ranvier::view
