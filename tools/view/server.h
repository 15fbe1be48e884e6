// The viewer's server: pages and run files over HTTP, frames and commands over WebSockets, on one thread of its own.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tools/view/controls.h"
#include "tools/view/frames.h"
#include "tools/view/gate.h"

namespace ranvier::view {

/// Where and for whom it serves.
struct ServerOptions {
  std::string address = "127.0.0.1";
  uint16_t port = 8080;            ///< 0: any free one
  std::string token;               ///< what a request has to show, as ?token= or in the cookie; empty: nothing
  std::vector<std::string> hosts;  ///< further names that the Host header may have
  int connections = 128;           ///< at once
  std::filesystem::path runs;      ///< the folder whose run folders may be read
};

/// What it asks of the program. `message` and `watched` are called on the server's thread and must not wait.
struct ServerHooks {
  /// A page's command; the returned text, unless empty, goes back to that page.
  std::function<std::string(uint64_t client, const Message& command)> message;
  /// How many pages watch a view now.
  std::function<void(const std::string& view, int pages)> watched;
  /// Texts for a page that has just connected.
  std::function<std::vector<std::string>()> welcome;
  /// GET /api/...: the body, on a thread of its own. Throws Error where there is nothing of the name.
  struct Body {
    std::string type, text;
  };
  std::function<Body(const Target& target)> read;
};

/// Counts for tests and for the page's footer.
struct ServerCounts {
  int connections = 0, pages = 0;  ///< now
  uint64_t refused = 0;            ///< requests so far: wrong Host, Origin, token or path, too many connections
  uint64_t frames = 0, left_out = 0;
  uint64_t queued_bytes = 0;  ///< what waits for slow pages now
};

/// Serves from its construction on. Its methods may be called from any thread.
class Server {
 public:
  /// Throws Error where it cannot listen, naming address and port.
  Server(ServerOptions options, ServerHooks hooks);
  /// Says goodbye to every page.
  ~Server();
  uint16_t port() const;
  std::string url() const;  ///< with the token

  /// To every page that watches the view. A page that has not taken the last few frames misses this one.
  void send_frame(const std::string& view, Frame frame);
  /// To every page; of texts with one key a page that is slow gets the last.
  void send_text(const std::string& key, std::string text);
  /// To one page.
  void answer(uint64_t client, std::string text);
  ServerCounts counts() const;

  struct Implementation;

 private:
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace ranvier::view
