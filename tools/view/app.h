// The viewer as a whole: its simulations, its server and what connects them.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "tools/view/scene.h"
#include "tools/view/server.h"

namespace ranvier::view {

/// Runs from its construction to its end.
class App {
 public:
  /// Throws Error where the server cannot listen or the run folder is none.
  explicit App(ServerOptions options);
  ~App();

  const Server& server() const { return *server_; }
  Player& player(const std::string& view) { return *players_.at(view); }

 private:
  std::string obey(uint64_t client, const Message& command);
  ServerHooks::Body read(const Target& target);
  std::vector<std::string> welcome() const;

  std::filesystem::path runs_;
  std::unique_ptr<Server> server_;
  std::atomic<Server*> open_ = nullptr;  // what players tell; null before the server is there
  std::map<std::string, std::unique_ptr<Player>> players_;
};

}  // namespace ranvier::view
