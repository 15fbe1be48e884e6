// The arithmetic of every pointwise function, once, as functors over a library of elementary functions.
#pragma once
#include <cmath>
#include <type_traits>

#include "kernels/common/math.h"
#include "kernels/norm/gelu.h"

namespace ranvier::kernels::functors {

/// x Phi(x), and dy times its slope Phi(x) + x phi(x), by the erf and exp of a library.
template <class M, class T>
RANVIER_HD_INLINE T exact_gelu(T x) {
  return T(0.5) * x * (T(1) + M::erf(x * T(0.70710678118654752440)));
}
template <class M, class T>
RANVIER_HD_INLINE T exact_gelu_grad(T x, T dy) {
  return dy * (T(0.5) * (T(1) + M::erf(x * T(0.70710678118654752440))) +
               x * T(0.39894228040143267794) * M::exp(x * x * T(-0.5)));
}

/// Elementary functions of the C library: what the reference variant uses.
struct LibraryMath {
  template <class T>
  static T exp(T x) {
    return std::exp(x);
  }
  template <class T>
  static T log(T x) {
    return std::log(x);
  }
  template <class T>
  static T log1p(T x) {
    return std::log1p(x);
  }
  template <class T>
  static T tanh(T x) {
    return std::tanh(x);
  }
  template <class T>
  static T sin(T x) {
    return std::sin(x);
  }
  template <class T>
  static T cos(T x) {
    return std::cos(x);
  }
  template <class T>
  static T erf(T x) {
    return std::erf(x);
  }
  template <class T>
  static T gelu(T x) {
    return exact_gelu<LibraryMath>(x);
  }
  template <class T>
  static T gelu_grad(T x, T dy) {
    return exact_gelu_grad<LibraryMath>(x, dy);
  }
};

/// Our own elementary functions: vectorisable, and the same bits on host and device.
struct PortableMath {
  template <class T>
  RANVIER_HD_INLINE static T exp(T x) {
    return math::exp(x);
  }
  template <class T>
  RANVIER_HD_INLINE static T log(T x) {
    return math::log(x);
  }
  template <class T>
  RANVIER_HD_INLINE static T log1p(T x) {
    return math::log1p(x);
  }
  template <class T>
  RANVIER_HD_INLINE static T tanh(T x) {
    return math::tanh(x);
  }
  template <class T>
  RANVIER_HD_INLINE static T sin(T x) {
    return math::sin(x);
  }
  template <class T>
  RANVIER_HD_INLINE static T cos(T x) {
    return math::cos(x);
  }
  template <class T>
  RANVIER_HD_INLINE static T erf(T x) {
    return math::erf(x);
  }
  template <class T>
  RANVIER_HD_INLINE static T gelu(T x) {
    return exact_gelu<PortableMath>(x);
  }
  template <class T>
  RANVIER_HD_INLINE static T gelu_grad(T x, T dy) {
    return exact_gelu_grad<PortableMath>(x, dy);
  }
};

/// The same for results that are rounded to 16 bits: activations by the short polynomials of the fused batch norm,
/// whose errors are below a rounding of f16 at 1/2.
struct ShortMath : PortableMath {
  RANVIER_HD_INLINE static float gelu(float x) {
    return x * (norm_detail::evaluate(norm_detail::short_normal_cdf_fit(), x) + 0.5f);
  }
  RANVIER_HD_INLINE static float gelu_grad(float x, float dy) {
    return dy * (norm_detail::evaluate(norm_detail::short_gelu_slope_fit(), x) + 0.5f);
  }
};

// Integers wrap around, as they do on a GPU; signed overflow would be undefined here.
#define RANVIER_WRAPPED(name, op)                                    \
  template <class T>                                                 \
  RANVIER_HD_INLINE T name(T a, T b) {                               \
    if constexpr (std::is_integral_v<T>) {                           \
      using U = std::make_unsigned_t<T>;                             \
      return static_cast<T>(static_cast<U>(a) op static_cast<U>(b)); \
    } else {                                                         \
      return a op b;                                                 \
    }                                                                \
  }
RANVIER_WRAPPED(wrapped_add, +)
RANVIER_WRAPPED(wrapped_sub, -)
RANVIER_WRAPPED(wrapped_mul, *)
#undef RANVIER_WRAPPED

#define RANVIER_UNARY(name, ...)            \
  template <class M>                        \
  struct name {                             \
    template <class T>                      \
    RANVIER_HD_INLINE static T apply(T x) { \
      return __VA_ARGS__;                   \
    }                                       \
  };
#define RANVIER_BINARY(name, ...)                \
  template <class M>                             \
  struct name {                                  \
    template <class T>                           \
    RANVIER_HD_INLINE static T apply(T a, T b) { \
      return __VA_ARGS__;                        \
    }                                            \
  };

RANVIER_UNARY(neg, std::is_integral_v<T> ? wrapped_sub(T(0), x) : -x)
RANVIER_UNARY(exp, M::exp(x))
RANVIER_UNARY(log, M::log(x))
RANVIER_UNARY(sqrt, std::sqrt(x))
RANVIER_UNARY(rsqrt, T(1) / std::sqrt(x))
RANVIER_UNARY(tanh, M::tanh(x))
RANVIER_UNARY(sigmoid, T(1) / (T(1) + M::exp(-x)))
RANVIER_UNARY(sin, M::sin(x))
RANVIER_UNARY(cos, M::cos(x))
RANVIER_UNARY(erf, M::erf(x))
RANVIER_UNARY(abs, std::abs(x))
RANVIER_UNARY(sign, T(x > T(0)) - T(x < T(0)))
RANVIER_UNARY(square, wrapped_mul(x, x))
RANVIER_UNARY(relu, x < T(0) ? T(0) : x)  // keeps NaN
RANVIER_UNARY(gelu, M::gelu(x))
RANVIER_UNARY(silu, x / (T(1) + M::exp(-x)))
// max(x, 0) + log(1 + exp(-|x|)): no overflow on either side
RANVIER_UNARY(softplus, (x > T(0) ? x : T(0)) + M::log1p(M::exp(-std::abs(x))) + (x != x ? x : T(0)))

RANVIER_BINARY(add, wrapped_add(a, b))
RANVIER_BINARY(sub, wrapped_sub(a, b))
RANVIER_BINARY(mul, wrapped_mul(a, b))
RANVIER_BINARY(div, a / b)
RANVIER_BINARY(pow, std::pow(a, b))
RANVIER_BINARY(maximum, (a > b || a != a) ? a : b)  // NaN of either operand survives
RANVIER_BINARY(minimum, (a < b || a != a) ? a : b)
RANVIER_BINARY(equal, T(a == b))
RANVIER_BINARY(less, T(a < b))
RANVIER_BINARY(less_equal, T(a <= b))
RANVIER_BINARY(gelu_grad, M::gelu_grad(a, b))

template <class M>
struct where {
  template <class T>
  RANVIER_HD_INLINE static T apply(T condition, T a, T b) {
    return condition != T(0) ? a : b;
  }
};
template <class M>
struct clamp {
  template <class T>
  RANVIER_HD_INLINE static T apply(T x, T low, T high) {
    return x < low ? low : (x > high ? high : x);
  }
};

#undef RANVIER_UNARY
#undef RANVIER_BINARY

}  // namespace ranvier::kernels::functors
