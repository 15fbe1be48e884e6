// A small HTTP server on a port of its own, with the faults that a download must survive.
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace ranvier::testing {

/// Serves one body to every GET until destroyed, one connection at a time.
class HttpServer {
 public:
  enum class Fault {
    none,
    not_found,       ///< answers 404
    ignores_ranges,  ///< answers a range request with the whole body
    cuts,            ///< announces the whole body and closes after half of what it should send
    short_body,      ///< announces and sends all but the last 10 bytes
    redirects_away,  ///< sends the client to a file: address
  };

  explicit HttpServer(std::string body, Fault fault = Fault::none) : body_(std::move(body)), fault_(fault) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(listener_, 8) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
      throw std::runtime_error("cannot listen on the loopback interface");
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~HttpServer() {
    stopping_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/archive.tar.gz"; }
  void set_fault(Fault fault) { fault_ = fault; }
  /// First byte asked for by each request so far.
  std::vector<int64_t> offsets() {
    const std::lock_guard lock(mutex_);
    return offsets_;
  }

 private:
  void serve() {
    while (!stopping_) {
      const int client = ::accept(listener_, nullptr, nullptr);
      if (client < 0) continue;
      answer(client);
      ::close(client);
    }
  }

  void answer(int client) {
    std::string request;
    char buffer[2048];
    while (request.find("\r\n\r\n") == std::string::npos) {
      const ssize_t count = ::recv(client, buffer, sizeof buffer, 0);
      if (count <= 0) return;
      request.append(buffer, static_cast<size_t>(count));
    }
    const Fault fault = fault_;
    size_t first = 0;
    if (const size_t range = request.find("Range: bytes="); range != std::string::npos) {
      first = std::stoul(request.substr(range + 13));
    }
    {
      const std::lock_guard lock(mutex_);
      offsets_.push_back(static_cast<int64_t>(first));
    }
    if (fault == Fault::not_found) return send(client, "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone");
    if (fault == Fault::redirects_away) {
      return send(client, "HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\nContent-Length: 0\r\n\r\n");
    }
    std::string body = fault == Fault::short_body ? body_.substr(0, body_.size() - 10) : body_;
    const bool ranged = first > 0 && fault != Fault::ignores_ranges;
    if (ranged && first >= body.size()) {
      return send(client, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n");
    }
    std::string head = ranged ? "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes " + std::to_string(first) + "-" +
                                    std::to_string(body.size() - 1) + "/" + std::to_string(body.size()) + "\r\n"
                              : "HTTP/1.1 200 OK\r\n";
    if (ranged) body.erase(0, first);
    head += "Connection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n";
    if (fault == Fault::cuts) body.resize(body.size() / 2);
    send(client, head + body);
  }

  static void send(int client, const std::string& bytes) {
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t count = ::send(client, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
      if (count <= 0) return;
      done += static_cast<size_t>(count);
    }
    ::shutdown(client, SHUT_WR);
  }

  std::string body_;
  std::atomic<Fault> fault_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::vector<int64_t> offsets_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace ranvier::testing
