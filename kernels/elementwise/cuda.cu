// Pointwise programs on a CUDA device: an interpreter that reads and writes memory once, in accesses of 16 bytes, and a
// kernel without one for the programs of a single step.
#include "kernels/common/launch.h"
#include "kernels/common/pack_convert.h"
#include "kernels/elementwise/convert.h"
#include "kernels/elementwise/functors.h"
#include "kernels/elementwise/machine.h"

namespace ranvier::kernels {
namespace {

/// The functions that need many registers or instructions: the kernel for programs without them leaves them out.
constexpr bool is_heavy(Fn fn) {
  switch (fn) {
    case Fn::exp:
    case Fn::log:
    case Fn::tanh:
    case Fn::sigmoid:
    case Fn::sin:
    case Fn::cos:
    case Fn::erf:
    case Fn::gelu:
    case Fn::gelu_grad:
    case Fn::silu:
    case Fn::softplus:
    case Fn::pow:
      return true;
    default:
      return false;
  }
}

constexpr bool is_light(Fn fn) { return !is_heavy(fn); }
constexpr bool every(Fn) { return true; }

/// How a thread goes through the elements. Decoding a step costs some 40 instructions whatever it works on, so it works
/// on 8 values of f32 at once (4 where heavy functions need the registers, 1 of f64 there): a
/// chain of ten then stays near the 100 instructions for each element that an H100 issues while it moves 12 bytes. Two
/// packs of each input are under way before the first is needed; at 1024 threads or more a multiprocessor that covers
/// memory's latency.
template <class T, bool heavy>
struct Layout {
  using C = compute_t<T>;
  static constexpr int size = static_cast<int>(sizeof(C));
  static constexpr int values = !heavy ? 32 / size : size == 8 ? 1 : 4;
  static constexpr int pack = values < pack_size<T> ? values : pack_size<T>;
  static constexpr int packs = values / pack;        // that one round of the program works on
  static constexpr int rounds = packs == 1 ? 2 : 1;  // for what is read at once
  static constexpr int word_values = values * size < 16 ? values : 16 / size;
  static constexpr int words = values / word_values;
  static constexpr int elements = values * rounds;  // of a thread

  struct Values {
    C v[values];
  };
  using Word = Pack<C, word_values>;

  /// A thread's own column of the block's shared memory, in words of 16 bytes, neighbours of neighbouring threads'
  /// words: free of bank conflicts, and no barrier guards it.
  struct Column {
    Word* first;
    __device__ Word& word(int place, int w) const { return first[(place * words + w) * static_cast<int>(blockDim.x)]; }
    __device__ Values get(int place) const {
      Values values;
#pragma unroll
      for (int w = 0; w < words; ++w) {
        const Word from = word(place, w);
#pragma unroll
        for (int k = 0; k < word_values; ++k) values.v[w * word_values + k] = from.v[k];
      }
      return values;
    }
    __device__ void put(int place, const Values& values) const {
#pragma unroll
      for (int w = 0; w < words; ++w) {
        Word to;
#pragma unroll
        for (int k = 0; k < word_values; ++k) to.v[k] = values.v[w * word_values + k];
        word(place, w) = to;
      }
    }
  };
};

/// Short polynomials where the result is rounded to 16 bits anyway.
template <class T>
using MathFor = std::conditional_t<is_16_bit<T>, functors::ShortMath, functors::PortableMath>;

/// fn of n values, for the functions that `has` is true of.
template <class T, bool (*has)(Fn), class Values>
__device__ __forceinline__ Values apply(Fn fn, const Values& a, const Values& b, const Values& c) {
  using C = compute_t<T>;
  constexpr int n = sizeof(Values) / sizeof(C);
  Values r = a;
  switch (fn) {
#define RANVIER_FN(name, operands)                                                      \
  case Fn::name:                                                                        \
    if constexpr (has(Fn::name) && (!std::is_integral_v<T> || is_integer_fn(Fn::name))) \
      _Pragma("unroll") for (int k = 0; k < n; ++k) {                                   \
        using F = functors::name<MathFor<T>>;                                           \
        if constexpr (operands == 1)                                                    \
          r.v[k] = F::template apply<C>(a.v[k]);                                        \
        else if constexpr (operands == 2)                                               \
          r.v[k] = F::template apply<C>(a.v[k], b.v[k]);                                \
        else                                                                            \
          r.v[k] = F::template apply<C>(a.v[k], b.v[k], c.v[k]);                        \
      }                                                                                 \
    break;
    RANVIER_POINTWISE(RANVIER_FN)
#undef RANVIER_FN
    default:
      break;
  }
  return r;
}

/// Rounded to T, so that a fused chain equals the unfused one bit for bit.
template <class T, class Values>
__device__ __forceinline__ Values rounded(Values values) {
  if constexpr (is_16_bit<T>) {
    constexpr int n = sizeof(Values) / sizeof(float);
    widen_pack(narrow_pack<T>(values.v), values.v);
    static_assert(n % 2 == 0);
  }
  return values;
}

/// Where element `i` of the launch reads a broadcast input.
template <class C>
__device__ uint64_t place_of(const Machine<C>& machine, const MachineInput& input, uint32_t i) {
  if (machine.wide) return (machine.offset + i) / input.wide_inner % input.wide_period;
  const uint32_t group = input.inner.quotient(i);
  return input.period.remainder(group, input.period.quotient(group));
}

/// Values of an input for elements i to i + pack - 1; what lies beyond the end is 0.
template <class T, int pack, class C>
__device__ void read_pack(const Machine<C>& machine, const MachineInput& input, uint32_t i, C* values) {
  const T* x = static_cast<const T*>(input.at);
  if (i + pack <= machine.n && input.reading != Reading::scattered) {
    Pack<T, pack> from;
    if (input.reading == Reading::run) {
      const T one = x[place_of(machine, input, i)];
#pragma unroll
      for (int k = 0; k < pack; ++k) from.v[k] = one;
    } else {
      from = load_pack<pack>(x + (input.reading == Reading::full ? i : place_of(machine, input, i)));
    }
#pragma unroll
    for (int k = 0; k < pack; ++k) values[k] = widen(from.v[k]);
    return;
  }
#pragma unroll
  for (int k = 0; k < pack; ++k) {
    values[k] = 0;
    if (i + k < machine.n)
      values[k] = widen(x[input.reading == Reading::full ? i + k : place_of(machine, input, i + k)]);
  }
}

/// Reads all inputs of a thread whose first element is `first`; its packs lie `width` apart.
template <class T, bool heavy, class L = Layout<T, heavy>>
__device__ void read_inputs(const Machine<typename L::C>& machine, const typename L::Column& column, uint32_t first,
                            uint32_t width, bool inside) {
#pragma unroll 1
  for (int k = 0; k < machine.inputs; ++k) {
    const MachineInput& input = machine.input[k];
    if (inside && input.reading == Reading::full) {
      Pack<T, L::pack> packs[L::rounds * L::packs];  // all under way before the first is needed
#pragma unroll
      for (int p = 0; p < L::rounds * L::packs; ++p)
        packs[p] = load_pack<L::pack>(static_cast<const T*>(input.at) + first + p * width);
#pragma unroll
      for (int r = 0; r < L::rounds; ++r) {
        typename L::Values values;
#pragma unroll
        for (int v = 0; v < L::values; ++v) values.v[v] = widen(packs[r * L::packs + v / L::pack].v[v % L::pack]);
        column.put(k * L::rounds + r, values);
      }
    } else {
#pragma unroll 1
      for (int r = 0; r < L::rounds; ++r) {
        typename L::Values values;
#pragma unroll
        for (int p = 0; p < L::packs; ++p)
          read_pack<T, L::pack>(machine, input, first + (r * L::packs + p) * width, values.v + p * L::pack);
        column.put(k * L::rounds + r, values);
      }
    }
  }
}

/// The program's result in one round.
template <class T, bool heavy, class L = Layout<T, heavy>>
__device__ typename L::Values interpret(const Machine<typename L::C>& machine, const typename L::Column& column,
                                        int round) {
  typename L::Values previous{};
  const auto operand = [&](uint8_t code) {
    if (code == MachineStep::previous) return previous;
    if (code < MachineStep::first_constant) return column.get(code < machine.inputs * L::rounds ? code + round : code);
    typename L::Values values;
#pragma unroll
    for (int k = 0; k < L::values; ++k) values.v[k] = machine.constant[code - MachineStep::first_constant];
    return values;
  };
#pragma unroll 1
  for (int s = 0; s < machine.steps; ++s) {
    const MachineStep step = machine.step[s];
    previous =
        rounded<T>(apply < T, heavy ? every : is_light > (step.fn, operand(step.a), operand(step.b), operand(step.c)));
    if (step.to != MachineStep::previous) column.put(step.to, previous);
  }
  return previous;
}

template <class T, bool heavy>
__global__ void __launch_bounds__(128) pointwise_kernel(const __grid_constant__ Machine<compute_t<T>> machine, T* out) {
  using L = Layout<T, heavy>;
  RANVIER_DYNAMIC_SHARED(shared);
  const typename L::Column column{reinterpret_cast<typename L::Word*>(shared) + threadIdx.x};
  const uint32_t width = blockDim.x * L::pack, block = width * L::rounds * L::packs;
  for (uint32_t begin = blockIdx.x * block; begin < machine.n; begin += gridDim.x * block) {
    const uint32_t first = begin + threadIdx.x * L::pack;
    read_inputs<T, heavy>(machine, column, first, width, machine.n - begin >= block);
#pragma unroll 1
    for (int round = 0; round < L::rounds; ++round) {
      const typename L::Values values = interpret<T, heavy>(machine, column, round);
#pragma unroll
      for (int p = 0; p < L::packs; ++p) {
        const uint32_t i = first + (round * L::packs + p) * width;
        Pack<T, L::pack> result;
#pragma unroll
        for (int k = 0; k < L::pack; ++k) result.v[k] = narrow<T>(values.v[p * L::pack + k]);
        if (i + L::pack <= machine.n) {
          store_pack(out + i, result);
        } else {
#pragma unroll
          for (int k = 0; k < L::pack; ++k)
            if (i + k < machine.n) out[i + k] = result.v[k];
        }
      }
    }
  }
}

template <class T, bool heavy>
Machine<compute_t<T>> machine_of(const PointwiseProgram& program, const void* const* inputs) {
  using L = Layout<T, heavy>;
  Machine<compute_t<T>> machine{};
  machine.inputs = static_cast<int>(program.inputs), machine.steps = static_cast<int>(program.steps);
  for (int k = 0; k < machine.inputs; ++k) {
    const auto inner = static_cast<uint64_t>(std::max<int64_t>(program.input[k].inner, 1)),
               period = static_cast<uint64_t>(std::max<int64_t>(program.input[k].period, 1));
    machine.input[k] = {
        inputs[k], reading_of(program.input[k], L::pack), Divider<uint32_t>(inner), Divider<uint32_t>(period), inner,
        period};
  }
  for (int c = 0; c < program.constants; ++c) machine.constant[c] = widen(convert<T>(program.constant[c]));
  Places places(program, machine.inputs * L::rounds);
  for (int s = 0; s < machine.steps; ++s) {
    MachineStep& step = machine.step[s];
    step = {program.step[s].fn, places.operand(s, 0, L::rounds), places.operand(s, 1, L::rounds),
            places.operand(s, 2, L::rounds), 0};
    step.to = places.result(s);
  }
  machine.places = places.count();
  return machine;
}

/// Launches over at most `narrow` elements each; packs of all but the first begin at multiples of 64 elements too.
template <class T, bool heavy>
void run(const PointwiseProgram& program, int64_t n, const void* const* inputs, T* out, CudaStream stream,
         int64_t narrow) {
  using L = Layout<T, heavy>;
  Machine<compute_t<T>> machine = machine_of<T, heavy>(program, inputs);
  const auto shared_of = [&](int threads) {
    return static_cast<size_t>(machine.places) * L::words * sizeof(typename L::Word) * static_cast<size_t>(threads);
  };
  int threads = 128;
  while (threads > 32 && shared_of(threads) > size_t{48} * 1024) threads /= 2;
  machine.wide = n > narrow;
  const int64_t most = std::max<int64_t>(narrow / 64 * 64, 64);
  for (int64_t begin = 0; begin < n; begin += most) {
    const int64_t count = std::min(most, n - begin);
    machine.n = static_cast<uint32_t>(count), machine.offset = static_cast<uint64_t>(begin);
    for (int k = 0; k < machine.inputs; ++k)
      if (machine.input[k].reading == Reading::full) machine.input[k].at = static_cast<const T*>(inputs[k]) + begin;
    launch(pointwise_kernel<T, heavy>,
           {blocks_for(count, threads * L::elements), static_cast<unsigned>(threads), shared_of(threads), stream},
           machine, out + begin);
  }
}

// ---- programs of one step ----

/// Those that are compiled without an interpreter: what training steps have alone.
constexpr bool is_single(Fn fn) {
  return !is_heavy(fn) || fn == Fn::exp || fn == Fn::tanh || fn == Fn::sigmoid || fn == Fn::gelu ||
         fn == Fn::gelu_grad || fn == Fn::silu;
}

/// out = fn(operands), each an input that is read in packs or (`at` null) a constant.
template <class C>
struct Single {
  uint32_t n;
  Fn fn;
  int operands;
  struct Operand {
    const void* at;
    Reading reading;
    Divider<uint32_t> inner, period;
    C constant;
  } operand[3];
};

/// Two packs of 16 bytes of every operand are under way at once; what an element costs beside the function is the
/// conversion of its operands and half an instruction for the result.
template <class T, bool heavy>
__global__ void __launch_bounds__(256) single_kernel(const __grid_constant__ Single<compute_t<T>> single, T* out) {
  using C = compute_t<T>;
  constexpr int pack = pack_size<T>, packs = 2;
  struct Values {
    C v[pack];
  };
  const uint32_t first = (blockIdx.x * packs * blockDim.x + threadIdx.x) * pack;
  Pack<T, pack> from[3][packs];
  const auto is_there = [&](int p) { return first + p * blockDim.x * pack < single.n; };
#pragma unroll
  for (int k = 0; k < 3; ++k) {
    const auto& operand = single.operand[k];
    if (k >= single.operands || !operand.at) continue;
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      const uint32_t i = first + p * blockDim.x * pack, group = operand.inner.quotient(i);
      const uint32_t place =
          operand.reading == Reading::full ? i : operand.period.remainder(group, operand.period.quotient(group));
      const T* x = static_cast<const T*>(operand.at) + place;
      if (!is_there(p)) continue;
      if (operand.reading == Reading::run) {
        const T one = *x;
#pragma unroll
        for (int j = 0; j < pack; ++j) from[k][p].v[j] = one;
      } else if (i + pack <= single.n) {
        from[k][p] = load_pack<pack>(x);
      } else {  // the last elements
#pragma unroll
        for (int j = 0; j < pack; ++j)
          if (i + j < single.n) from[k][p].v[j] = x[j];
      }
    }
  }
#pragma unroll
  for (int p = 0; p < packs; ++p) {
    if (!is_there(p)) continue;
    Values in[3] = {};
#pragma unroll
    for (int k = 0; k < 3; ++k) {
      if (k >= single.operands) continue;
#pragma unroll
      for (int j = 0; j < pack; ++j)
        in[k].v[j] = single.operand[k].at ? widen(from[k][p].v[j]) : single.operand[k].constant;
    }
    const Values values = apply < T, heavy ? is_single : is_light > (single.fn, in[0], in[1], in[2]);
    Pack<T, pack> result;
    if constexpr (is_16_bit<T>) {
      result = narrow_pack<T>(values.v);
    } else {
#pragma unroll
      for (int j = 0; j < pack; ++j) result.v[j] = values.v[j];
    }
    const uint32_t i = first + p * blockDim.x * pack;
    if (i + pack <= single.n) {
      store_pack(out + i, result);
    } else {
#pragma unroll
      for (int j = 0; j < pack; ++j)
        if (i + j < single.n) out[i + j] = result.v[j];
    }
  }
}

/// Runs a program of one step; false where it needs the interpreter.
template <class T, bool heavy>
bool run_single(const PointwiseProgram& program, int64_t n, const void* const* inputs, T* out, CudaStream stream) {
  using C = compute_t<T>;
  constexpr int pack = pack_size<T>, threads = 256;
  const PointwiseStep& step = program.step[0];
  Single<C> single{static_cast<uint32_t>(n), step.fn, operands_of(step.fn), {}};
  const uint8_t codes[] = {step.a, step.b, step.c};
  for (int k = 0; k < single.operands; ++k) {
    auto& operand = single.operand[k];
    if (codes[k] >= PointwiseProgram::first_constant) {
      operand.constant = widen(convert<T>(program.constant[codes[k] - PointwiseProgram::first_constant]));
      continue;
    }
    const PointwiseProgram::Input& input = program.input[codes[k]];
    operand.at = inputs[codes[k]], operand.reading = reading_of(input, pack);
    if (operand.reading == Reading::scattered) return false;
    operand.inner = Divider<uint32_t>(static_cast<uint64_t>(std::max<int64_t>(input.inner, 1)));
    operand.period = Divider<uint32_t>(static_cast<uint64_t>(std::max<int64_t>(input.period, 1)));
  }
  const int64_t blocks = (n + threads * pack * 2 - 1) / (threads * pack * 2);
  launch(single_kernel<T, heavy>, {grid_of(blocks), threads, 0, stream}, single, out);
  return true;
}

}  // namespace

template <class T>
void pointwise_cuda(const PointwiseProgram& program, int64_t n, const void* const* inputs, T* out, CudaStream stream,
                    int64_t narrow) {
  bool heavy = false;
  for (int s = 0; s < program.steps; ++s) heavy |= is_heavy(program.step[s].fn);
  if (program.steps == 1 && is_single(program.step[0].fn) && n <= std::min(narrow, most_narrow - 8192)) {
    if constexpr (!std::is_integral_v<T>)
      if (heavy && run_single<T, true>(program, n, inputs, out, stream)) return;
    if (!heavy && run_single<T, false>(program, n, inputs, out, stream)) return;
  }
  if constexpr (!std::is_integral_v<T>)
    if (heavy) return run<T, true>(program, n, inputs, out, stream, narrow);
  run<T, false>(program, n, inputs, out, stream, narrow);
}

#define RANVIER_POINTWISE_OF(T) \
  template void pointwise_cuda(const PointwiseProgram&, int64_t, const void* const*, T*, CudaStream, int64_t);
RANVIER_POINTWISE_OF(float)
RANVIER_POINTWISE_OF(double)
RANVIER_POINTWISE_OF(bf16)
RANVIER_POINTWISE_OF(f16)
RANVIER_POINTWISE_OF(int32_t)
RANVIER_POINTWISE_OF(int64_t)

}  // namespace ranvier::kernels
