// What a failing call says: the text of its Error, and checks of it.
#pragma once
#include <gtest/gtest.h>

#include <string>

#include "engine/error.h"

namespace ranvier::test {

/// What the Error that `body` throws says; "no error" where it throws none. Other exceptions pass through.
template <class Body>
std::string error_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

/// `body` throws an Error of one line that holds `text` and names a model line of `file`.
template <class Body>
void expect_error_at(const char* file, const char* text, Body&& body) {
  const std::string error = error_of(body);
  EXPECT_NE(error.find(text), std::string::npos) << error;
  EXPECT_NE(error.find(std::string(file) + ":"), std::string::npos) << error;
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
}

}  // namespace ranvier::test
