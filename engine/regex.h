// <regex> without the warnings that GCC 12 finds in its own header, and with bounds on what a user may ask of it.
#pragma once
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <regex>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#include <cctype>
#include <string>

namespace ranvier {

/// A regular expression from a user's file. GCC's compiler of them recurses once a character and lets a repeat count
/// overflow, so that long patterns and long numbers are refused here, as std::regex_error like any other bad pattern.
inline std::regex user_regex(const std::string& pattern) {
  constexpr size_t longest = 500, digits = 6;
  size_t run = 0;
  for (unsigned char c : pattern) {
    run = std::isdigit(c) ? run + 1 : 0;
    if (run > digits) throw std::regex_error(std::regex_constants::error_badbrace);
  }
  if (pattern.size() > longest) throw std::regex_error(std::regex_constants::error_complexity);
  return std::regex(pattern);
}

}  // namespace ranvier
