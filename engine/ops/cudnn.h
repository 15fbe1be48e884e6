// What the op families share that have variants by cuDNN.
#pragma once
#include "engine/op.h"
#include "kernels/common/cudnn_type.h"

namespace ranvier {

/// cuDNN's arithmetic for maps of f32, bf16 or f16.
inline kernels::CudnnType cudnn_type(DType dtype, bool tf32 = false) {
  using kernels::CudnnType;
  if (dtype == DType::bf16) return CudnnType::bf16;
  if (dtype == DType::f16) return CudnnType::f16;
  return tf32 ? CudnnType::tf32 : CudnnType::f32;
}

}  // namespace ranvier
