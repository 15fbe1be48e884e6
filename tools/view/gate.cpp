// Host, Origin, token and path of a request.
#include "tools/view/gate.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <random>

namespace ranvier::view {
namespace {

int hexadecimal(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hexadecimal(text[i + 1]), low = hexadecimal(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(16 * high + low), i += 2;
  }
  for (const char c : out)
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f' || c == '\\') return std::nullopt;
  return out;
}

/// Equality whose time does not tell where two secrets differ.
bool same_secret(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned>(a[i] ^ b[std::min(i, b.size() - 1)]);
  return difference == 0;
}

/// The values of a cookie's name, or of a query's key.
std::string value_in(std::string_view list, std::string_view key, std::string_view separators) {
  while (!list.empty()) {
    const size_t end = std::min(list.find_first_of(separators), list.size());
    std::string_view item = list.substr(0, end);
    list.remove_prefix(std::min(end + 1, list.size()));
    while (!item.empty() && item.front() == ' ') item.remove_prefix(1);
    if (item.starts_with(key) && item.substr(key.size()).starts_with('='))
      return std::string(item.substr(key.size() + 1));
  }
  return {};
}

/// Digits and dots, or an IPv6 address in brackets: a page of another name cannot point at us with it.
bool is_literal_address(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']'))
    return host.find_first_not_of("0123456789abcdefABCDEF:.[]") == std::string_view::npos;
  return !host.empty() && host.find_first_not_of("0123456789.") == std::string_view::npos;
}

}  // namespace

std::string Target::value(std::string_view key) const { return value_in(query, key, "&"); }

std::optional<Target> parse_target(std::string_view target) {
  if (target.size() > 2048 || !target.starts_with('/')) return std::nullopt;
  const size_t mark = std::min(target.find('?'), target.size());
  const auto path = decoded(target.substr(0, mark));
  const auto query = decoded(mark < target.size() ? target.substr(mark + 1) : std::string_view{});
  if (!path || !query) return std::nullopt;
  for (size_t at = 0; at < path->size() && *path != "/";) {
    const size_t next = std::min(path->find('/', at + 1), path->size());
    const std::string_view part = std::string_view(*path).substr(at + 1, next - at - 1);
    if (part.empty() || part.starts_with('.')) return std::nullopt;
    at = next;
  }
  return Target{*path, *query};
}

Gate::Gate(std::string address, uint16_t port, std::string token, std::vector<std::string> hosts)
    : hosts_(std::move(hosts)), port_(port), token_(std::move(token)) {
  any_address_ = address == "0.0.0.0" || address == "::";
  hosts_.push_back(address.find(':') == std::string::npos ? address : "[" + address + "]");
  for (const char* name : {"localhost", "127.0.0.1", "[::1]"}) hosts_.emplace_back(name);
  char name[256] = {};
  if (!is_loopback(address) && gethostname(name, sizeof name - 1) == 0 && name[0] != 0) hosts_.emplace_back(name);
}

bool Gate::is_ours(std::string_view host) const {
  const size_t colon = host.rfind(':');
  const bool has_port = colon != std::string_view::npos && host.find(']', colon) == std::string_view::npos;
  const std::string_view name = has_port ? host.substr(0, colon) : host;
  if ((has_port ? host.substr(colon + 1) : "80") != std::to_string(port_)) return false;
  if (any_address_ && is_literal_address(name)) return true;
  return std::find(hosts_.begin(), hosts_.end(), name) != hosts_.end();
}

std::string Gate::refusal(const Visitor& visitor) const {
  if (!is_ours(visitor.host)) return "the Host header names another machine";
  if (visitor.origin && *visitor.origin != fmt::format("http://{}", visitor.host))
    return "the Origin header names another site";
  if (token_.empty()) return {};
  const auto target = parse_target(visitor.target);
  if (same_secret(value_in(visitor.cookie, cookie, ";"), token_) || (target && brings_token(*target))) return {};
  return "the token is missing or wrong: open the address that `ranvier view` printed";
}

bool Gate::brings_token(const Target& target) const {
  return needs_token() && same_secret(target.value("token"), token_);
}

bool is_loopback(std::string_view address) {
  return address == "localhost" || address == "::1" || (address.starts_with("127.") && is_literal_address(address));
}

std::string make_token() {
  std::random_device random;
  std::string token;
  for (int i = 0; i < 4; ++i) token += fmt::format("{:08x}", random());
  return token;
}

}  // namespace ranvier::view
