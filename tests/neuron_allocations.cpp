// Populations and networks that run allocate nothing: every operator new of the process is counted.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "models/neurons/networks.h"
#include "tests/support/population.h"

namespace {
std::atomic<int64_t> allocations{0};
}

void* operator new(size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
void* operator new(size_t size, std::align_val_t alignment) {
  ++allocations;
  const auto step = static_cast<size_t>(alignment);
  if (void* memory = std::aligned_alloc(step, (size + step - 1) / step * step)) return memory;
  throw std::bad_alloc();
}
// A sanitizer has its own of this one, which would not go through that above.
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size ? size : 1);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace ranvier::test {
namespace {

template <class Body>
int64_t allocations_of(Body&& body) {
  const int64_t before = allocations;
  body();
  return allocations - before;
}

TEST(Allocations, APopulationMakesNone) {
  for (const neuron::Mode mode : {neuron::Mode::accurate, neuron::Mode::published, neuron::Mode::published_2003})
    for (const bool listed : {false, true}) {
      neuron::PopulationSpec spec = mixed(5000);
      spec.mode = mode, spec.dt = 0.5, spec.record_spikes = listed;
      spec.processes.push_back({.deviation = 3, .interval = 1});
      neuron::Population population(spec);
      for (int i = 0; i < 40; ++i) population.advance(100);  // lists of spikes grow to the busiest interval
      EXPECT_EQ(allocations_of([&] { population.advance(100); }), 0) << name(mode) << " " << listed;
      EXPECT_GT(population.total_spikes(), 5000);
    }
}

// What a call of run makes for itself, its threads, it makes once: as much for 30 steps as for 300.
TEST(Allocations, ANetworkMakesNoneFromStepToStep) {
  for (const char* which : {"cortical1000", "polychronous2006"})
    for (const neuron::Mode mode : {neuron::Mode::accurate, neuron::Mode::published_2003}) {
      neuron::Network network(neuron::network(which, {.seed = 3, .mode = mode}).spec);
      network.run(3000);
      const int64_t few = allocations_of([&] { network.run(30); }), many = allocations_of([&] { network.run(300); });
      EXPECT_EQ(few, many) << which << " " << name(mode);
      EXPECT_LT(few, 50);
    }
}

}  // namespace
}  // namespace ranvier::test
