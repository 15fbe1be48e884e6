// Writes the events of a traced step.
#include "tools/trace.h"

#include <nlohmann/json.hpp>

namespace ranvier::cli {

std::string chrome_trace(const std::vector<StepTime>& times) {
  nlohmann::ordered_json events = nlohmann::ordered_json::array();
  constexpr double us_per_ms = 1000;
  for (const StepTime& time : times) {
    const double seconds = std::max(time.milliseconds, 1e-9) / 1000;
    events.push_back({{"name", time.label},
                      {"ph", "X"},
                      {"ts", time.begin_ms * us_per_ms},
                      {"dur", time.milliseconds * us_per_ms},
                      {"pid", 0},
                      {"tid", 0},
                      {"args",
                       {{"variant", time.variant},
                        {"gflops", time.flops / seconds / 1e9},
                        {"gbs", static_cast<double>(time.bytes) / seconds / 1e9}}}});
  }
  const nlohmann::ordered_json trace = {{"displayTimeUnit", "ms"}, {"traceEvents", events}};
  return trace.dump(1) + "\n";
}

}  // namespace ranvier::cli
