// The arithmetic that is asked of cuDNN, for headers that must compile without the library.
#pragma once
#include <cstdint>
#include <string>

namespace ranvier::kernels {

/// Type of the maps, and for f32 whether products may round their operands to tf32. Sums are f32.
enum class CudnnType : uint8_t { f32, tf32, bf16, f16 };

/// "9.19.0" of the library that was found at run time.
std::string cudnn_version();

}  // namespace ranvier::kernels
