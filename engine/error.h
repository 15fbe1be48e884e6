// The one exception of the engine: a single clear line that names what is wrong and where the model said it.
#pragma once
#include <fmt/format.h>

#include <source_location>
#include <stdexcept>
#include <string>

namespace ranvier {

/// The line of user code that asked for an operation; every public op takes one as its last, defaulted argument.
using Where = std::source_location;

/// What the engine throws on bad input, shapes, files or values.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// "file.cpp:42", with the folders cut to the last one so that messages read the same on every machine.
inline std::string place(const Where& where) {
  const std::string_view path = where.file_name();
  const size_t slash = path.find_last_of('/');
  const size_t parent =
      slash == std::string_view::npos || slash == 0 ? std::string_view::npos : path.find_last_of('/', slash - 1);
  return fmt::format("{}:{}", parent == std::string_view::npos ? path : path.substr(parent + 1), where.line());
}

/// Throws an Error whose text is formatted like fmt::format.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

/// Throws an Error that begins with the model's source line.
template <class... Args>
[[noreturn]] void fail_at(const Where& where, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(place(where) + ": " + fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace ranvier
