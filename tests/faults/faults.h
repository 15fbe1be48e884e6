// Kernels with one planted fault each, the same kernels without it, and how each build of the emulator must notice.
#pragma once
#include <span>
#include <vector>

namespace ranvier::test {

/// How a fault shows. A build that must flag it ends the launch with an Error, or the program with a sanitizer's
/// report, whose words are the fault's `text` for that build.
enum class Notice {
  no,     ///< this build cannot see it
  value,  ///< the result is NaN, wrong, or depends on the order of threads
  error,  ///< Error
  death,  ///< a sanitizer ends the program
};

struct Seen {
  Notice notice;
  const char* text = "";  ///< what the message must hold; of a death: as a regular expression
};

struct Fault {
  const char* name;
  /// Runs the kernel and returns what it wrote.
  std::vector<float> (*run)(bool faulty);
  Seen plain, sanitized, race;
};

/// Faults of barriers, bounds and races; of pipelines of asynchronous copies and products; of single instructions.
std::span<const Fault> basic_faults();
std::span<const Fault> pipeline_faults();
std::span<const Fault> instruction_faults();

}  // namespace ranvier::test
