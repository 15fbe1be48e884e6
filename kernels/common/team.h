// Threads that go through many short phases together: one parallel region, and a barrier that spins before it sleeps.
#pragma once
#include <atomic>
#include <cstdint>
#include <exception>
#include <utility>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace ranvier::kernels {

/// A step of a network takes tens of microseconds, as long as it takes to wake a thread that sleeps between two
/// parallel loops.
class Team {
 public:
  /// At most `most` threads; one inside of another parallel region.
  explicit Team(int64_t most) {
#if defined(_OPENMP)
    if (!omp_in_parallel() && most > 1)
      size_ = most < omp_get_max_threads() ? static_cast<int>(most) : omp_get_max_threads();
#endif
  }

  int size() const { return size_; }

  /// Calls body(thread) on every thread, and throws what `one` met.
  template <class Body>
  void run(Body&& body) {
    if (size_ == 1) {
      body(0);
    } else {
#pragma omp parallel num_threads(size_)
      {
        int thread = 0;
#if defined(_OPENMP)
        thread = omp_get_thread_num();
#pragma omp single
        size_ = omp_get_num_threads();  // the system may give fewer
#endif
        body(thread);
      }
    }
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  /// Waits for all, lets thread 0 call `body` and waits again; false on every thread where it threw.
  template <class Body>
  bool one(int thread, Body&& body) {
    wait();
    if (thread == 0) {
      try {
        body();
      } catch (...) {
        error_ = std::current_exception();
      }
    }
    wait();
    return !error_;
  }

 private:
  void wait() {
    if (size_ == 1) return;
    const uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      phase_.notify_all();
      return;
    }
    for (int spin = 0; spin < 2000; ++spin) {
      if (phase_.load(std::memory_order_acquire) != phase) return;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    while (phase_.load(std::memory_order_acquire) == phase) phase_.wait(phase, std::memory_order_acquire);
  }

  int size_ = 1;
  std::exception_ptr error_;
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> phase_{0};
};

}  // namespace ranvier::kernels
