// Vectors of many megabytes in pages of two: lists that are read at random places would wait for their page tables.
#pragma once
#include <sys/mman.h>

#include <cstdlib>
#include <new>
#include <vector>

namespace ranvier::kernels {

template <class T>
struct LargeAllocator {
  using value_type = T;
  static constexpr size_t page = size_t{2} << 20;

  LargeAllocator() = default;
  template <class Other>
  LargeAllocator(const LargeAllocator<Other>&) {}

  T* allocate(size_t n) {
    const bool large = n * sizeof(T) >= 2 * page;
    const size_t bytes = large ? (n * sizeof(T) + page - 1) / page * page : n * sizeof(T);
    void* memory = large ? std::aligned_alloc(page, bytes) : std::malloc(bytes);
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
