// Builds and checks learning-rate tables.
#include "kernels/optim/schedule.h"

#include <cmath>
#include <stdexcept>
#include <string>

namespace ranvier::kernels {

LrSchedule piecewise_schedule(const SchedulePoint* points, int count) {
  const auto fail = [](const std::string& what) { throw std::runtime_error("learning-rate schedule: " + what); };
  if (count < 1 || count > LrSchedule::most_points) {
    fail(std::to_string(count) + " points, allowed are 1 to " + std::to_string(LrSchedule::most_points));
  }
  LrSchedule schedule;
  schedule.count = count;
  for (int i = 0; i < count; ++i) {
    if (!std::isfinite(points[i].step) || !std::isfinite(points[i].value)) {
      fail("point " + std::to_string(i) + " is not finite");
    }
    if (i > 0 && !(points[i].step > points[i - 1].step)) {
      fail("the step of point " + std::to_string(i) + " does not come after the one before");
    }
    schedule.points[i] = points[i];
  }
  return schedule;
}

LrSchedule constant_schedule(double value) {
  const SchedulePoint point{0, value};
  return piecewise_schedule(&point, 1);
}

LrSchedule triangle_schedule(double peak, double steps, double peak_fraction, double start, double final) {
  if (!(peak_fraction >= 0 && peak_fraction <= 1)) {
    throw std::runtime_error("learning-rate schedule: peak fraction " + std::to_string(peak_fraction) +
                             " is not in [0, 1]");
  }
  SchedulePoint points[3];
  int count = 0;
  if (peak_fraction > 0) points[count++] = {0, start * peak};
  points[count++] = {peak_fraction * steps, peak};
  if (peak_fraction < 1) points[count++] = {steps, final * peak};
  return piecewise_schedule(points, count);
}

LrSchedule cosine_schedule(double peak, double steps, double warmup, double final) {
  if (!(warmup >= 0 && warmup < steps)) {
    throw std::runtime_error("learning-rate schedule: warm-up of " + std::to_string(warmup) + " steps in a run of " +
                             std::to_string(steps));
  }
  SchedulePoint points[3];
  int count = 0;
  if (warmup > 0) points[count++] = {0, 0};
  points[count++] = {warmup, peak};
  points[count++] = {steps, final * peak, true};
  return piecewise_schedule(points, count);
}

}  // namespace ranvier::kernels
