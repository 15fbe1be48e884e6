// Who may ask for what: the checks of a request's Host, Origin, token and path, apart from any socket.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ranvier::view {

/// What a request says of itself.
struct Visitor {
  std::string_view host, cookie, target;
  std::optional<std::string_view> origin;
};

/// A target's parts, percent-decoded: "/api/run?name=a%20b" is path "/api/run", query "name=a b".
struct Target {
  std::string path, query;
  /// The value of one key of the query; empty where it is absent.
  std::string value(std::string_view key) const;
};
/// Empty where the target is not a plain absolute path: "..", empty or hidden parts, NUL and other control characters,
/// backslashes, broken percent signs.
std::optional<Target> parse_target(std::string_view target);

/// The rules of one server.
class Gate {
 public:
  /// `hosts` further names that are ours besides the address and, on this machine, the names of the loopback.
  Gate(std::string address, uint16_t port, std::string token, std::vector<std::string> hosts);

  /// Empty where the request may pass, otherwise why not, for people.
  std::string refusal(const Visitor& visitor) const;
  /// True where the query carries the token: the page's first visit.
  bool brings_token(const Target& target) const;
  bool needs_token() const { return !token_.empty(); }
  static constexpr std::string_view cookie = "ranvier_token";

 private:
  bool is_ours(std::string_view host) const;
  std::vector<std::string> hosts_;
  bool any_address_;
  uint16_t port_;
  std::string token_;
};

/// True for 127.0.0.0/8, ::1 and localhost.
bool is_loopback(std::string_view address);
/// 128 random bits in hexadecimal.
std::string make_token();

}  // namespace ranvier::view
