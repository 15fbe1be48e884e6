// What a test may ask of the emulator when its kernels run there; linked without it, a test runs once, on a GPU if any.
#pragma once
#include <cstdint>

extern "C" {
__attribute__((weak)) void emulator_set_mode(int mode);
__attribute__((weak)) int emulator_orders_take_turns();
__attribute__((weak)) void emulator_count_bank_conflicts(int on);
__attribute__((weak)) int64_t emulator_bank_conflicts(const char* file);
}

namespace ranvier::test {

/// Calls `body` once for each way in which the emulator may legally run kernels (three orders of threads, late and
/// early asynchronous copies), or once where there is no emulator. Under the race checker, which judges by what is
/// ordered and not by what came first, orders take turns from call to call.
template <class Body>
void in_every_emulated_mode(Body&& body) {
  if (!emulator_set_mode) return body();
  static int calls = 0;
  const int orders = 3, turn = calls++ % orders;
  for (int mode = 0; mode < 2 * orders; ++mode) {
    if (emulator_orders_take_turns() && mode % orders != turn) continue;
    emulator_set_mode(mode);
    body();
  }
  emulator_set_mode(0);
}

/// Cycles that bank conflicts cost the ldmatrix and 16-byte cp.async of `body`'s kernels, over the lines of source
/// files whose path ends in `file` (one cycle serves eight lanes where they do not conflict). 0 where there is no
/// emulator; -1 where the emulator saw no such access.
template <class Body>
int64_t bank_conflicts(const char* file, Body&& body) {
  if (!emulator_bank_conflicts) return body(), 0;
  emulator_count_bank_conflicts(1);
  body();
  const int64_t conflicts = emulator_bank_conflicts(file);
  emulator_count_bank_conflicts(0);
  return conflicts;
}

}  // namespace ranvier::test
