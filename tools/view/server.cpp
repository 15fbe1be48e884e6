// Sockets of the viewer's server, on Boost.Beast. Everything but `read` runs on the one thread of the io_context.
#include "tools/view/server.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/websocket.hpp>
#include <deque>
#include <map>
#include <optional>
#include <thread>

#include "tools/view/assets.h"

namespace ranvier::view {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
namespace websocket = beast::websocket;
using Tcp = asio::ip::tcp;
using boost::system::error_code;
using Request = http::request<http::string_body>;
using Response = http::response<http::string_body>;
using namespace std::chrono_literals;

constexpr uint32_t frames_ahead = 30;  // that a page has not acknowledged: half a second of the neuron's
constexpr size_t frames_waiting = 3;   // in our queue for one page
constexpr size_t texts_waiting = 256;  // more than that: the page does not read, and is let go
constexpr int extra_connections = 16;  // beyond the limit, that are told so

/// A connection counts from its acceptance to the end of its session.
struct Counted {
  explicit Counted(std::atomic<int>& count) : count(count) { ++count; }
  ~Counted() { --count; }
  Counted(const Counted&) = delete;
  std::atomic<int>& count;
};

class Page;

}  // namespace

struct Server::Implementation {
  ServerOptions options;
  ServerHooks hooks;
  std::unique_ptr<Gate> gate;
  std::atomic<int> connections = 0, reading = 0;
  std::atomic<uint64_t> refused = 0, frames = 0, left_out = 0, queued = 0;
  std::atomic<int> posted = 0, pages_now = 0;
  std::map<uint64_t, std::weak_ptr<Page>> pages;  // of the server's thread
  uint64_t next_page = 1;
  uint16_t port = 0;
  asio::io_context context{1};  // after what its handlers use
  Tcp::acceptor acceptor{context};
  asio::thread_pool readers{1};
  std::thread thread;

  void accept();
  void count_watchers();
};

namespace {

using Owner = Server::Implementation;

/// One page's WebSocket.
class Page : public std::enable_shared_from_this<Page> {
 public:
  Page(Owner& owner, uint64_t id, beast::tcp_stream&& stream, std::shared_ptr<Counted> counted)
      : owner_(owner), id_(id), counted_(std::move(counted)), socket_(std::move(stream)) {}
  ~Page() {
    owner_.queued -= bytes_;
    --owner_.pages_now;
  }

  void start(const Request& request) {
    ++owner_.pages_now;
    auto timeouts = websocket::stream_base::timeout::suggested(beast::role_type::server);
    timeouts.idle_timeout = 60s, timeouts.keep_alive_pings = true;
    beast::get_lowest_layer(socket_).expires_never();
    socket_.set_option(timeouts);
    socket_.read_message_max(message_limit);
    error_code ignored;
    beast::get_lowest_layer(socket_).socket().set_option(Tcp::no_delay(true), ignored);
    socket_.async_accept(request, [self = shared_from_this()](error_code error) {
      if (error) return;
      // Only now others find it: a text or a goodbye in the middle of the handshake would be a second write at once.
      self->owner_.pages.emplace(self->id_, self);
      for (std::string& text : self->owner_.hooks.welcome()) self->text("", std::move(text));
      self->read();
    });
  }

  void frame(const Frame& frame) {
    uint32_t sequence;
    std::memcpy(&sequence, frame->data() + 8, sizeof sequence);
    const bool ahead = known_ && sequence - acknowledged_ > frames_ahead && sent_ != acknowledged_;
    const auto waiting = std::count_if(queue_.begin(), queue_.end(), [](const Out& o) { return o.frame != nullptr; });
    if (ahead || static_cast<size_t>(waiting) >= frames_waiting) {
      if (late_) ++owner_.left_out;
      late_ = frame;  // goes out when the page has caught up and no newer one came: the last state is never lost
      return;
    }
    if (late_) ++owner_.left_out, late_ = nullptr;
    if (!known_) acknowledged_ = sequence, known_ = true;
    sent_ = sequence;
    push({frame, {}, {}});
    ++owner_.frames;
  }

  void text(const std::string& key, std::string text) {
    const size_t first = writing_ ? 1 : 0;
    for (size_t i = first; i < queue_.size() && !key.empty(); ++i)
      if (queue_[i].key == key) {
        count(-static_cast<int64_t>(queue_[i].text.size()) + static_cast<int64_t>(text.size()));
        return void(queue_[i].text = std::move(text));
      }
    if (queue_.size() > texts_waiting) return close(websocket::close_code::policy_error, "the page does not read");
    push({nullptr, key, std::move(text)});
  }

  void close(websocket::close_code code, const char* why) {
    if (closing_) return;
    closing_ = true;
    if (writing_) return void(close_later_ = {code, why});
    socket_.async_close({code, why}, [self = shared_from_this()](error_code) {});
  }
  const std::string& view() const { return view_; }

 private:
  struct Out {
    Frame frame;
    std::string key, text;
    size_t size() const { return frame ? frame->size() : text.size(); }
  };

  void count(int64_t bytes) { bytes_ += static_cast<uint64_t>(bytes), owner_.queued += static_cast<uint64_t>(bytes); }

  void push(Out out) {
    if (closing_) return;
    count(static_cast<int64_t>(out.size()));
    queue_.push_back(std::move(out));
    if (!writing_) write();
  }

  void write() {
    writing_ = true;
    const Out& out = queue_.front();
    socket_.binary(out.frame != nullptr);
    const auto buffer = out.frame ? asio::buffer(*out.frame) : asio::buffer(out.text);
    socket_.async_write(buffer, [self = shared_from_this()](error_code error, size_t) { self->written(error); });
  }

  void written(error_code error) {
    writing_ = false;
    count(-static_cast<int64_t>(queue_.front().size()));
    queue_.pop_front();
    if (error) return gone();
    if (closing_) return void(socket_.async_close(close_later_, [self = shared_from_this()](error_code) {}));
    if (!queue_.empty()) write();
  }

  void read() {
    socket_.async_read(buffer_, [self = shared_from_this()](error_code error, size_t) {
      if (error) return self->gone();
      const bool is_text = self->socket_.got_text();
      const std::string text = beast::buffers_to_string(self->buffer_.data());
      self->buffer_.consume(self->buffer_.size());
      is_text ? self->take(text) : self->close(websocket::close_code::unknown_data, "commands are text");
      if (!self->closing_) self->read();
    });
  }

  void take(const std::string& message_text) {
    Message message;
    try {
      message = parse_message(message_text);
    } catch (const BadMessage& error) {
      return text("", nlohmann::ordered_json{{"id", error.id}, {"error", error.what()}}.dump());
    }
    if (message.kind == Message::Kind::acknowledge) {
      acknowledged_ = message.sequence, known_ = true;
      if (Frame late = std::exchange(late_, nullptr)) frame(late);
    } else if (message.kind == Message::Kind::watch) {
      view_ = message.view, known_ = false, late_ = nullptr;
      owner_.count_watchers();
    } else {
      std::string answer = owner_.hooks.message(id_, message);
      if (!answer.empty()) text("", std::move(answer));
    }
  }

  void gone() {
    closing_ = true;
    view_.clear();
    owner_.pages.erase(id_);
    owner_.count_watchers();
  }

  Owner& owner_;
  const uint64_t id_;
  std::shared_ptr<Counted> counted_;
  websocket::stream<beast::tcp_stream> socket_;
  beast::flat_buffer buffer_;
  std::deque<Out> queue_;
  uint64_t bytes_ = 0;
  bool writing_ = false, closing_ = false, known_ = false;
  websocket::close_reason close_later_;
  uint32_t acknowledged_ = 0, sent_ = 0;
  Frame late_;
  std::string view_;
};

/// One HTTP connection.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Owner& owner, Tcp::socket&& socket, bool full)
      : owner_(owner),
        full_(full),
        counted_(std::make_shared<Counted>(owner.connections)),
        stream_(std::move(socket)) {}

  void read() {
    parser_.emplace();
    parser_->body_limit(message_limit);
    stream_.expires_after(30s);
    http::async_read(stream_, buffer_, *parser_, [self = shared_from_this()](error_code error, size_t) {
      if (error == http::error::body_limit || error == http::error::header_limit)
        return self->refuse(error == http::error::body_limit ? http::status::payload_too_large
                                                             : http::status::request_header_fields_too_large,
                            "at most 64 KB", false);
      if (!error) return self->serve(self->parser_->release());
      self->stream_.socket().shutdown(Tcp::socket::shutdown_send, error);
    });
  }

 private:
  void serve(Request request) {
    keep_ = request.keep_alive();
    if (full_) return refuse(http::status::service_unavailable, "too many connections", false);
    Visitor visitor{view_of(request[http::field::host]), view_of(request[http::field::cookie]),
                    view_of(request.target()), std::nullopt};
    if (request.count(http::field::origin)) visitor.origin = view_of(request[http::field::origin]);
    if (const std::string why = owner_.gate->refusal(visitor); !why.empty())
      return refuse(http::status::forbidden, why, false);
    const auto target = parse_target(visitor.target);
    if (!target) return refuse(http::status::bad_request, "not a path of this server", true);
    if (request.method() != http::verb::get)
      return refuse(http::status::method_not_allowed, "pages are read with GET", true);
    if (websocket::is_upgrade(request)) {
      if (target->path != "/ws") return refuse(http::status::not_found, "the WebSocket is at /ws", true);
      auto page = std::make_shared<Page>(owner_, owner_.next_page++, std::move(stream_), std::move(counted_));
      return page->start(request);
    }
    if (target->path == "/" && owner_.gate->brings_token(*target)) return welcome();
    if (target->path.starts_with("/api/")) return read_api(*target);
    const Asset* asset = find_asset(target->path == "/" ? "/index.html" : target->path);
    if (!asset) return refuse(http::status::not_found, "there is no such page", true);
    send(http::status::ok, std::string(asset->type), std::string(asset->body));
  }

  static std::string_view view_of(beast::string_view text) { return {text.data(), text.size()}; }

  /// The first visit with a token: keeps it in a cookie and off the address bar.
  void welcome() {
    Response response{http::status::see_other, 11};
    response.set(http::field::location, "/");
    response.set(http::field::set_cookie,
                 fmt::format("{}={}; HttpOnly; SameSite=Strict; Path=/", Gate::cookie, owner_.options.token));
    write(std::move(response));
  }

  void read_api(const Target& target) {
    if (owner_.reading >= 32) return refuse(http::status::service_unavailable, "too many reads at once", true);
    ++owner_.reading;
    asio::post(owner_.readers, [self = shared_from_this(), target] {
      ServerHooks::Body body;
      std::string error;
      try {
        body = self->owner_.hooks.read(target);
      } catch (const std::exception& problem) {
        error = problem.what();
      }
      --self->owner_.reading;
      asio::post(self->owner_.context, [self, body = std::move(body), error = std::move(error)]() mutable {
        if (!error.empty()) return self->refuse(http::status::not_found, error, true);
        self->send(http::status::ok, body.type, std::move(body.text));
      });
    });
  }

  void refuse(http::status status, const std::string& why, bool keep) {
    ++owner_.refused;
    keep_ = keep_ && keep;
    send(status, "text/plain; charset=utf-8", why + "\n");
  }

  void send(http::status status, const std::string& type, std::string body) {
    Response response{status, 11};
    response.set(http::field::content_type, type);
    response.body() = std::move(body);
    write(std::move(response));
  }

  void write(Response&& response) {
    response.set(http::field::cache_control, "no-store");
    response.set("X-Content-Type-Options", "nosniff");
    response.set("Referrer-Policy", "no-referrer");
    response.set("Content-Security-Policy",
                 "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
                 "frame-ancestors 'none'");
    response.keep_alive(keep_);
    response.prepare_payload();
    auto kept = std::make_shared<Response>(std::move(response));
    stream_.expires_after(30s);
    http::async_write(stream_, *kept, [self = shared_from_this(), kept](error_code error, size_t) {
      if (!error && self->keep_) return self->read();
      self->stream_.socket().shutdown(Tcp::socket::shutdown_send, error);
    });
  }

  Owner& owner_;
  const bool full_;
  bool keep_ = false;
  std::shared_ptr<Counted> counted_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
};

}  // namespace

void Server::Implementation::accept() {
  acceptor.async_accept([this](error_code error, Tcp::socket socket) {
    if (error == asio::error::operation_aborted) return;
    if (error) {  // no file descriptors left, for example: try again a little later
      auto timer = std::make_shared<asio::steady_timer>(context, 100ms);
      return timer->async_wait([this, timer](error_code) { accept(); });
    }
    const int open = connections;
    if (open < options.connections + extra_connections)
      std::make_shared<Session>(*this, std::move(socket), open >= options.connections)->read();
    else
      ++refused;  // closed without a word
    accept();
  });
}

void Server::Implementation::count_watchers() {
  std::map<std::string, int> count = {{"neuron", 0}, {"population", 0}};
  for (const auto& [id, weak] : pages)
    if (const auto page = weak.lock()) ++count[page->view()];
  for (const char* view : {"neuron", "population"}) hooks.watched(view, count[view]);
}

Server::Server(ServerOptions options, ServerHooks hooks) : implementation_(std::make_unique<Implementation>()) {
  Implementation& own = *implementation_;
  own.options = std::move(options), own.hooks = std::move(hooks);
  error_code error;
  const std::string name = own.options.address == "localhost" ? "127.0.0.1" : own.options.address;
  const auto address = asio::ip::make_address(name, error);
  if (error) fail("--address {}: not an IP address", own.options.address);
  const Tcp::endpoint endpoint(address, own.options.port);
  own.acceptor.open(endpoint.protocol(), error);
  if (!error) own.acceptor.set_option(Tcp::acceptor::reuse_address(true), error);
  if (!error) own.acceptor.bind(endpoint, error);
  if (!error) own.acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error)
    fail("cannot listen at {}:{}: {}; another --port may be free (0 takes any)", own.options.address, own.options.port,
         error.message());
  own.port = own.acceptor.local_endpoint().port();
  own.gate = std::make_unique<Gate>(own.options.address, own.port, own.options.token, own.options.hosts);
  own.accept();
  own.thread = std::thread([&own] { own.context.run(); });
}

Server::~Server() {
  Implementation& own = *implementation_;
  asio::post(own.context, [&own] {
    error_code ignored;
    own.acceptor.close(ignored);
    for (const auto& [id, weak] : own.pages)
      if (const auto page = weak.lock()) page->close(websocket::close_code::going_away, "the program has ended");
    if (own.pages.empty()) return own.context.stop();
    auto timer = std::make_shared<asio::steady_timer>(own.context, 300ms);  // for the goodbyes
    timer->async_wait([&own, timer](error_code) { own.context.stop(); });
  });
  own.thread.join();
  own.readers.join();
}

uint16_t Server::port() const { return implementation_->port; }

std::string Server::url() const {
  const ServerOptions& o = implementation_->options;
  const bool any = o.address == "0.0.0.0" || o.address == "::";
  char machine[256] = "localhost";
  if (any) gethostname(machine, sizeof machine - 1);
  const std::string host = any ? machine : o.address.find(':') == std::string::npos ? o.address : "[" + o.address + "]";
  return fmt::format("http://{}:{}/{}", host, port(), o.token.empty() ? "" : "?token=" + o.token);
}

void Server::send_frame(const std::string& view, Frame frame) {
  Implementation& own = *implementation_;
  if (own.posted >= 8) return void(++own.left_out);  // the server's thread is behind: nothing may pile up
  ++own.posted;
  asio::post(own.context, [&own, view, frame = std::move(frame)] {
    --own.posted;
    for (const auto& [id, weak] : own.pages)
      if (const auto page = weak.lock(); page && page->view() == view) page->frame(frame);
  });
}

void Server::send_text(const std::string& key, std::string text) {
  Implementation& own = *implementation_;
  asio::post(own.context, [&own, key, text = std::move(text)] {
    for (const auto& [id, weak] : own.pages)
      if (const auto page = weak.lock()) page->text(key, text);
  });
}

void Server::answer(uint64_t client, std::string text) {
  Implementation& own = *implementation_;
  asio::post(own.context, [&own, client, text = std::move(text)]() mutable {
    const auto found = own.pages.find(client);
    if (found == own.pages.end()) return;
    if (const auto page = found->second.lock()) page->text("", std::move(text));
  });
}

ServerCounts Server::counts() const {
  const Implementation& own = *implementation_;
  return {own.connections, own.pages_now, own.refused, own.frames, own.left_out, own.queued};
}

}  // namespace ranvier::view
