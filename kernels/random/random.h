// Random fills, dropout and permutations: each a pure function of seed, step, stream and element.
#pragma once
#include <cstdint>

#include "kernels/common/stream.h"

// `rng` points to {seed, step}, which live in memory because they change from step to step while the launch does not.
// `stream` is philox::stream_hash of the draw's scope and name. Element e of every fill is the draw e of
// kernels/common/philox.h, so the reference and the fast versions agree bit for bit, with any number of threads.
// Fills hold fewer than 2^32 elements. f64 fills are the f32 draws widened before scale and offset.

namespace ranvier::kernels {

namespace reference {

/// out[n] = low + (high - low) * u with u in [0, 1); rounding may give `high` itself unless low = 0, high = 1.
template <class T>
void fill_uniform(int64_t n, T low, T high, uint64_t stream, const int64_t* rng, T* out);

/// out[n] = mean + deviation * z with z standard normal.
template <class T>
void fill_normal(int64_t n, T mean, T deviation, uint64_t stream, const int64_t* rng, T* out);

/// out[n] = draws of the exponential distribution of this rate.
template <class T>
void fill_exponential(int64_t n, T rate, uint64_t stream, const int64_t* rng, T* out);

/// out[n] = draws of the Poisson distribution of mean lambda; NaN where lambda is NaN, negative or beyond 1e15.
template <class T>
void fill_poisson(int64_t n, double lambda, uint64_t stream, const int64_t* rng, T* out);

/// out[n] = 1 where u >= drop, else 0: a mask that keeps a share 1 - drop. T: float, double, uint8_t.
template <class T>
void fill_bernoulli(int64_t n, float drop, uint64_t stream, const int64_t* rng, T* out);

/// out[n] = whole numbers uniform on {low, ..., high}, both ends included, high >= low.
void fill_integers(int64_t n, int32_t low, int32_t high, uint64_t stream, const int64_t* rng, int32_t* out);

/// y[n] = x / (1 - drop) where fill_bernoulli keeps, 0 elsewhere (also where x is not finite); 0 <= drop < 1. It is its
/// own adjoint: on dy, with the same stream and rng, it gives dx. y may be x.
template <class T>
void dropout(int64_t n, float drop, const T* x, uint64_t stream, const int64_t* rng, T* y);

/// out[i] = fill_bernoulli's element elements[i] (taken modulo 2^34) at step 0, whatever the step in `rng`: a coin that
/// belongs to the element's number and stays with it.
void fill_bernoulli_at(int64_t n, float drop, uint64_t stream, const int64_t* rng, const int64_t* elements,
                       uint8_t* out);

}  // namespace reference

namespace cpu {

/// As reference::fill_uniform, vectorised.
void fill_uniform(int64_t n, float low, float high, uint64_t stream, const int64_t* rng, float* out);
/// As reference::fill_normal, vectorised.
void fill_normal(int64_t n, float mean, float deviation, uint64_t stream, const int64_t* rng, float* out);
/// Elements first to first + n of it, out[0] being the first; `first` is a multiple of `normal_tile`.
constexpr int64_t normal_tile = 32;
void fill_normal_from(int64_t first, int64_t n, float mean, float deviation, uint64_t stream, const int64_t* rng,
                      float* out);
/// As reference::fill_exponential, vectorised.
void fill_exponential(int64_t n, float rate, uint64_t stream, const int64_t* rng, float* out);
/// As reference::fill_bernoulli, vectorised.
void fill_bernoulli(int64_t n, float drop, uint64_t stream, const int64_t* rng, float* out);
/// As reference::fill_bernoulli, vectorised.
void fill_bernoulli(int64_t n, float drop, uint64_t stream, const int64_t* rng, uint8_t* out);
/// As reference::dropout, vectorised.
void dropout(int64_t n, float drop, const float* x, uint64_t stream, const int64_t* rng, float* y);

}  // namespace cpu

/// Words of workspace that `permutation` needs on the CPU, and on CUDA.
constexpr int64_t permutation_workspace(int64_t n) { return n; }
constexpr int64_t permutation_cuda_workspace(int64_t n) { return 2 * n; }

/// out[n] = the permutation of 0 ... n - 1 that sorts (bits(seed, stream, step, index), index); n < 2^31.
void permutation(int64_t n, uint64_t stream, const int64_t* rng, uint64_t* workspace, int32_t* out);

/// Throws std::runtime_error unless 0 <= drop < 1.
void check_drop(float drop);
/// Throws std::runtime_error unless n < 2^31.
void check_permutation(int64_t n);

// The same bits as above, on a CUDA device. Parameters are rounded to the type that T is computed in; bf16 and f16
// draws are the f32 ones, rounded once. Tensors start at multiples of 16 bytes.
namespace cuda {

/// T: float, double, bf16, f16.
template <class T>
void fill_uniform(int64_t n, double low, double high, uint64_t stream, const int64_t* rng, T* out, CudaStream cuda);
template <class T>
void fill_normal(int64_t n, double mean, double deviation, uint64_t stream, const int64_t* rng, T* out,
                 CudaStream cuda);
/// T: float, double.
template <class T>
void fill_exponential(int64_t n, double rate, uint64_t stream, const int64_t* rng, T* out, CudaStream cuda);
template <class T>
void fill_poisson(int64_t n, double lambda, uint64_t stream, const int64_t* rng, T* out, CudaStream cuda);
/// T: float, double, bf16, f16, uint8_t.
template <class T>
void fill_bernoulli(int64_t n, float drop, uint64_t stream, const int64_t* rng, T* out, CudaStream cuda);
void fill_integers(int64_t n, int32_t low, int32_t high, uint64_t stream, const int64_t* rng, int32_t* out,
                   CudaStream cuda);
/// T: float, double, bf16, f16. y may be x.
template <class T>
void dropout(int64_t n, float drop, const T* x, uint64_t stream, const int64_t* rng, T* y, CudaStream cuda);
void fill_bernoulli_at(int64_t n, float drop, uint64_t stream, const int64_t* rng, const int64_t* elements,
                       uint8_t* out, CudaStream cuda);
/// workspace: permutation_cuda_workspace(n) words.
void permutation(int64_t n, uint64_t stream, const int64_t* rng, uint64_t* workspace, int32_t* out, CudaStream cuda);
/// to = {seed, step + 1} of from = {seed, step}; to may be from.
void advance(const int64_t* from, int64_t* to, CudaStream cuda);

}  // namespace cuda

}  // namespace ranvier::kernels
