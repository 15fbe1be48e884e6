// Runs another program without a shell, so that no file name or address is ever read as a command.
#pragma once
#include <string>
#include <vector>

namespace ranvier::data {

/// How a program ended.
struct ProcessResult {
  int status = 0;      ///< exit status; 128 + signal if a signal ended it
  std::string output;  ///< what it wrote to standard output
};

/// Runs `arguments[0]`, found on PATH, with standard input empty. Its standard error is ours when `show_errors`, else
/// dropped. Throws std::runtime_error naming the program if it cannot be started.
ProcessResult run_program(const std::vector<std::string>& arguments, bool show_errors);

}  // namespace ranvier::data
