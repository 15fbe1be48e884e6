// The race checker's side for the scheduler: which threads are ordered, and since when. Empty but in the race build.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulator::race {

#if defined(RANVIER_EMULATOR_RACE)
constexpr bool enabled = true;
/// What one thread knows of the others: an entry a thread.
using Clock = std::vector<uint32_t>;

void begin_launch();
void begin_block();
/// Everything before is ordered before everything after, for all threads of the block, for some, for lanes of a warp.
void order_block();
void order_threads(const std::vector<int>& threads);
void order_lanes(int warp, unsigned mask);
/// A thread publishes what it knows into `clock`; another takes it in.
void release(int thread, Clock& clock);
void acquire(int thread, const Clock& clock);
#else
constexpr bool enabled = false;
struct Clock {};
inline void begin_launch() {}
inline void begin_block() {}
inline void order_block() {}
inline void order_threads(const std::vector<int>&) {}
inline void order_lanes(int, unsigned) {}
inline void release(int, Clock&) {}
inline void acquire(int, const Clock&) {}
#endif

}  // namespace emulator::race
