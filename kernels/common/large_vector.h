// Vectors that begin with a cache line, and those of many megabytes in pages of two: lists that are read at random
// places would wait for their page tables, and packs of 64 bytes for two lines each.
#pragma once
#include <sys/mman.h>

#include <cstdlib>
#include <new>
#include <vector>

namespace ranvier::kernels {

template <class T>
struct LargeAllocator {
  using value_type = T;
  static constexpr size_t line = 64, page = size_t{2} << 20;

  LargeAllocator() = default;
  template <class Other>
  LargeAllocator(const LargeAllocator<Other>&) {}

  T* allocate(size_t n) {
    const bool large = n * sizeof(T) >= 2 * page;
    const size_t unit = large ? page : line, bytes = (n * sizeof(T) + unit - 1) / unit * unit;
    void* memory = std::aligned_alloc(unit, bytes);
    if (!memory) throw std::bad_alloc();
    if (large) madvise(memory, bytes, MADV_HUGEPAGE);  // a wish: without it the list is only slower
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t) { std::free(memory); }
  friend bool operator==(const LargeAllocator&, const LargeAllocator&) { return true; }
};

template <class T>
using LargeVector = std::vector<T, LargeAllocator<T>>;

}  // namespace ranvier::kernels
