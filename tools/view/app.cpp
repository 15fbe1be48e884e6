// Connects simulations, server and run folders.
#include "tools/view/app.h"

#include <future>

#include "tools/view/neuron_scene.h"
#include "tools/view/population_scene.h"
#include "tools/view/runs.h"

namespace ranvier::view {
namespace {

using Json = nlohmann::ordered_json;

/// The result of `read`, from the player's own thread.
std::string from(Player& player, std::function<std::string(const Scene&)> read) {
  auto promise = std::make_shared<std::promise<std::string>>();
  auto future = promise->get_future();
  const auto answer = [promise, read](const Scene& scene) {
    try {
      promise->set_value(read(scene));
    } catch (...) {
      promise->set_exception(std::current_exception());
    }
  };
  if (!player.inspect(answer)) fail("the simulation is busy");
  if (future.wait_for(std::chrono::seconds(5)) != std::future_status::ready) fail("the simulation does not answer");
  return future.get();
}

}  // namespace

App::App(ServerOptions options) : runs_(options.runs) {
  const auto add = [&](const std::string& view, std::unique_ptr<Scene> scene) {
    Player::Listener listener;
    listener.frame = [this, view](const Frame& frame) {
      if (Server* server = open_) server->send_frame(view, frame);
    };
    listener.state = [this, view](const std::string& text) {
      if (Server* server = open_) server->send_text("state." + view, text);
    };
    listener.answer = [this](uint64_t client, const std::string& text) {
      if (Server* server = open_) server->answer(client, text);
    };
    players_[view] = std::make_unique<Player>(view, std::move(scene), std::move(listener));
  };
  add("neuron", std::make_unique<NeuronScene>());
  add("population", std::make_unique<PopulationScene>());
  ServerHooks hooks;
  hooks.message = [this](uint64_t client, const Message& command) { return obey(client, command); };
  hooks.watched = [this](const std::string& view, int pages) {
    if (const auto found = players_.find(view); found != players_.end()) found->second->watched_by(pages);
  };
  hooks.welcome = [this] { return welcome(); };
  hooks.read = [this](const Target& target) { return read(target); };
  server_ = std::make_unique<Server>(std::move(options), std::move(hooks));
  open_ = server_.get();
}

App::~App() {
  open_ = nullptr;
  for (auto& [view, player] : players_) player->stop();
  server_.reset();
}

std::string App::obey(uint64_t client, const Message& command) {
  const auto player = players_.find(std::string(command.control->view()));
  if (player != players_.end() && player->second->post(client, command)) return {};
  return Json{{"id", command.id}, {"error", "too many commands wait; this one was left out"}}.dump();
}

std::vector<std::string> App::welcome() const {
  std::vector<std::string> texts{Json{{"welcome", 1}, {"controls", controls_json()}}.dump()};
  for (const auto& [view, player] : players_) texts.push_back(player->state());
  return texts;
}

ServerHooks::Body App::read(const Target& target) {
  constexpr const char* json = "application/json";
  const std::string& path = target.path;
  if (path == "/api/runs") return {json, list_runs(runs_).dump()};
  if (path == "/api/run") return {json, read_run(run_folder_named(runs_, target.value("name"))).dump()};
  if (path == "/api/trace.csv") {
    const auto text = [](const Scene& scene) { return dynamic_cast<const NeuronScene&>(scene).trace_csv(); };
    return {"text/csv; charset=utf-8", from(*players_.at("neuron"), text)};
  }
  fail("there is nothing at {}", path);
}

}  // namespace ranvier::view
