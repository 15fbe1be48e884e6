// Handles and version of cuDNN.
#include "kernels/common/cudnn.h"

#include <map>
#include <mutex>

namespace ranvier::kernels {

cudnnHandle_t cudnn_handle(CudaStream stream) {
  static std::mutex mutex;
  static std::map<CudaStream, cudnnHandle_t> handles;
  const std::lock_guard lock(mutex);
  cudnnHandle_t& handle = handles[stream];
  if (!handle) {
    check_cudnn(cudnnCreate(&handle), "handle", "starting it");
    check_cudnn(cudnnSetStream(handle, stream), "handle", "choosing the stream");
  }
  return handle;
}

std::string cudnn_version() {
  const size_t v = cudnnGetVersion();
  return std::to_string(v / 10000) + "." + std::to_string(v / 100 % 100) + "." + std::to_string(v % 100);
}

}  // namespace ranvier::kernels
