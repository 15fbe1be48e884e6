// Fuzz target: the configuration reader, on arbitrary text; what it accepts must survive being written and read again.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tools/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace ranvier;
  cli::TrainConfig config;
  try {
    cli::parse_config({reinterpret_cast<const char*>(bytes), size}, "config", config);
    cli::resolved_recipe(config, 10);
  } catch (const std::runtime_error&) {
    return 0;
  }
  const std::string written = cli::to_toml(config);
  cli::TrainConfig again;
  cli::parse_config(written, "written", again);  // throws, and so fails, if the program cannot read its own file
  if (cli::to_toml(again) != written) {
    std::fprintf(stderr, "written:\n%s\nthen:\n%s\n", written.c_str(), cli::to_toml(again).c_str());
    std::abort();
  }
  return 0;
}
