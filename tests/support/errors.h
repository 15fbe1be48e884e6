// What a failing call says, and checks of it.
#pragma once
#include <gtest/gtest.h>

#include <exception>
#include <string>

namespace ranvier::test {

/// What `body` throws says, an Error of the engine or what data/, which knows nothing of it, throws; "no error" where
/// it throws nothing.
template <class Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

/// `body` fails with one line that holds `text` and names a model line of `file`.
template <class Body>
void expect_error_at(const char* file, const char* text, Body&& body) {
  const std::string error = error_of(body);
  EXPECT_NE(error.find(text), std::string::npos) << error;
  EXPECT_NE(error.find(std::string(file) + ":"), std::string::npos) << error;
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
}

}  // namespace ranvier::test
