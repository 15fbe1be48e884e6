// What engine/device.cpp asks of the CUDA runtime: memory, copies, streams, graphs and events of device `index`.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "engine/op.h"

namespace ranvier::cuda {

enum class Copy { to_device, to_host, on_device };

/// What the CUDA runtime says of a machine; versions as it counts them (12040 is 12.4).
struct Machine {
  int driver = 0;  ///< 0: none is installed
  int toolkit = 0;
  std::string trouble;  ///< why its devices could not be looked at, or ""
  int devices = 0;
  std::string name;  ///< of device 0, as is the compute capability
  int major = 0, minor = 0;
};
/// Why no CUDA program can run on such a machine, in one line for the user, or "" where one can.
std::string why_not(const Machine&);
/// The same of this machine and build.
std::string why_not();
std::string description(int index);
std::shared_ptr<void> allocate(int index, size_t bytes);
/// Host memory that kernels reach by the same address.
std::shared_ptr<void> allocate_shared(size_t bytes);
Stream stream(int index);
void synchronize(int index);
size_t free_memory(int index);
void copy(int index, void* to, const void* from, size_t bytes, Copy kind);
void fill(int index, void* to, int byte, size_t bytes);
/// Captures what `body` gives to the stream; the result is an executable graph for `replay`.
std::shared_ptr<void> record(int index, const std::function<void()>& body);
void replay(int index, void* graph);
/// An event on the stream, and the time between two.
std::shared_ptr<void> mark(int index);
double milliseconds(void* from, void* to);

}  // namespace ranvier::cuda
