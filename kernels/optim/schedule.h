// Learning-rate schedules as small tables, evaluated where the step counter lives so that a captured step stays valid.
#pragma once
#include <cstdint>

#include "kernels/common/hd.h"
#include "kernels/common/math.h"

namespace ranvier::kernels {

/// A corner of a schedule. The way to it from the corner before is a straight line, or half a cosine wave.
struct SchedulePoint {
  double step = 0;
  double value = 0;
  bool cosine = false;
};

/// Corners in ascending order of step; before the first and after the last the value stays.
struct LrSchedule {
  static constexpr int most_points = 16;
  int count = 0;
  SchedulePoint points[most_points];
};

/// Value at a step, a fraction allowed.
RANVIER_HD inline double schedule_value(const LrSchedule& schedule, double step) {
  if (step <= schedule.points[0].step) return schedule.points[0].value;
  for (int i = 1; i < schedule.count; ++i) {
    const SchedulePoint &from = schedule.points[i - 1], &to = schedule.points[i];
    if (step >= to.step) continue;
    double way = quotient(step - from.step, to.step - from.step);
    if (to.cosine) way = fused(-0.5, math::cos(product(3.14159265358979323846, way)), 0.5);
    return fused(way, to.value - from.value, from.value);
  }
  return schedule.points[schedule.count - 1].value;
}

/// *lr = value at *step.
template <class T>
RANVIER_HD inline void learning_rate(const LrSchedule& schedule, const int64_t* step, T* lr) {
  *lr = static_cast<T>(schedule_value(schedule, static_cast<double>(*step)));
}

/// One value for ever.
LrSchedule constant_schedule(double value);

/// A table of corners. Throws std::runtime_error unless there are 1 to 16, with finite values and ascending steps.
LrSchedule piecewise_schedule(const SchedulePoint* points, int count);

/// From start * peak at step 0 up to peak at peak_fraction * steps and down to final * peak at `steps`, straight.
/// peak_fraction in [0, 1]; 0 begins at the peak. Throws std::runtime_error on a bad argument.
LrSchedule triangle_schedule(double peak, double steps, double peak_fraction, double start = 0, double final = 0);

/// Straight from 0 to peak over `warmup` steps (0: none), then half a cosine down to final * peak at `steps`.
/// Throws std::runtime_error on a bad argument.
LrSchedule cosine_schedule(double peak, double steps, double warmup = 0, double final = 0);

}  // namespace ranvier::kernels
