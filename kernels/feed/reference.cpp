// The windows of an order and the ring of results in plain loops: fast enough for what they move.
#include <cstring>

#include "kernels/feed/feed.h"

namespace ranvier::kernels::reference {

template <class I>
void batch_window(int64_t n, int64_t batch, const I* order, const int64_t* counter, int64_t* window) {
  if (batch == 0) return;
  const I* from = order + wrapped(*counter, n / batch) * batch;
  for (int64_t i = 0; i < batch; ++i) window[i] = from[i];
}
template void batch_window(int64_t, int64_t, const int32_t*, const int64_t*, int64_t*);
template void batch_window(int64_t, int64_t, const int64_t*, const int64_t*, int64_t*);

void ring_write(int64_t size, size_t row, const void* ring, const void* value, const int64_t* counter, void* out) {
  const size_t all = static_cast<size_t>(size) * row;
  if (all == 0) return;
  if (out != ring) std::memcpy(out, ring, all);
  std::memcpy(static_cast<char*>(out) + static_cast<size_t>(wrapped(*counter, size)) * row, value, row);
}

}  // namespace ranvier::kernels::reference
