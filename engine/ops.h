// The catalogue: every public op, one documented declaration each. Every op throws Error with the caller's line when
// shapes or types do not fit. Types: f32 and f64 carry gradients; see engine/README.md for what each backend runs.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/graph.h"
#include "engine/state.h"
#include "kernels/augment/augment.h"
#include "kernels/coupling/channels.h"
#include "kernels/coupling/law.h"
#include "kernels/norm/norm.h"
#include "kernels/optim/loss_scale.h"

namespace ranvier {

// ---- Leaves and plumbing (ops/core.cpp) ----------------------------------------------------------------------------

/// A value the host sets before each run (`Program::set`); names are unique in a trace.
Tensor input(Graph&, std::string_view name, const Type&, Where where = Where::current());
/// A tensor whose elements are all `value`.
Tensor full(Graph&, const Type&, double value, Where where = Where::current());
/// A tensor of given elements; they travel with the program.
Tensor constant(Graph&, const Type&, std::span<const std::byte> elements, Where where = Where::current());
template <class T>
Tensor constant(Graph& graph, const Shape& shape, std::span<const T> elements, Where where = Where::current()) {
  return constant(graph, Type{dtype_of<T>(), shape}, std::as_bytes(elements), where);
}
/// The value of a state entry at the start of the step; declares the entry at first use.
Tensor read(Graph&, std::string_view slab, std::string_view name, const Type&, Init init = nullptr,
            Where where = Where::current());
/// The value of an entry that exists.
Tensor read(Graph&, std::string_view slab, std::string_view name, Where where = Where::current());
/// Gives an entry a new value, seen from the next step on. Assigning an entry twice in a trace is an error.
void assign(Graph&, std::string_view slab, std::string_view name, Tensor value, Where where = Where::current());
/// A trainable parameter named by the current scope: entry "<scope>.<name>" of slab "parameters".
Tensor parameter(Graph&, std::string_view name, const Shape&, Init init, Where where = Where::current());
/// Makes a value of the step readable after each run as `Program::get<T>("<scope>.<name>")`; returns the value.
Tensor probe(Tensor, std::string_view name, Where where = Where::current());
/// The element types of parameters, and of the activations that models compute on them (f32 unless the session says
/// otherwise).
DType parameter_type(const Graph&);
DType compute_type(const Graph&);

/// The same elements in another shape; one extent may be -1 (inferred). A view: costs nothing.
Tensor reshape(Tensor, std::span<const int64_t> shape, Where where = Where::current());
Tensor reshape(Tensor, std::initializer_list<int64_t> shape, Where where = Where::current());
Tensor reshape(Tensor, const Shape& shape, Where where = Where::current());
/// All axes from `first` on joined into one.
Tensor flatten(Tensor, int first = 1, Where where = Where::current());
/// The value, through which no gradient flows.
Tensor stop_gradient(Tensor, Where where = Where::current());
/// Conversion between element types. Gradients flow between floating types only.
Tensor cast(Tensor, DType, Where where = Where::current());

// ---- Pointwise (ops/elementwise.cpp); operands of different shapes broadcast as in NumPy
// ------------------------------

Tensor neg(Tensor, Where where = Where::current());
Tensor exp(Tensor, Where where = Where::current());
Tensor log(Tensor, Where where = Where::current());
Tensor sqrt(Tensor, Where where = Where::current());
/// 1 / sqrt(x).
Tensor rsqrt(Tensor, Where where = Where::current());
Tensor tanh(Tensor, Where where = Where::current());
Tensor sigmoid(Tensor, Where where = Where::current());
Tensor sin(Tensor, Where where = Where::current());
Tensor cos(Tensor, Where where = Where::current());
Tensor erf(Tensor, Where where = Where::current());
/// |x|; gradient 0 at 0.
Tensor abs(Tensor, Where where = Where::current());
/// -1, 0 or 1; gradient 0.
Tensor sign(Tensor, Where where = Where::current());
Tensor square(Tensor, Where where = Where::current());
/// max(x, 0); gradient 0 at 0; NaN stays.
Tensor relu(Tensor, Where where = Where::current());
/// x Phi(x) with the exact erf (Hendrycks and Gimpel 2016).
Tensor gelu(Tensor, Where where = Where::current());
/// x sigmoid(x).
Tensor silu(Tensor, Where where = Where::current());
/// log(1 + exp(x)), without overflow.
Tensor softplus(Tensor, Where where = Where::current());
Tensor add(Tensor a, Tensor b, Where where = Where::current());
Tensor sub(Tensor a, Tensor b, Where where = Where::current());
Tensor mul(Tensor a, Tensor b, Where where = Where::current());
Tensor div(Tensor a, Tensor b, Where where = Where::current());
/// a^b; the gradient with respect to b needs a > 0 (0 elsewhere).
Tensor pow(Tensor a, Tensor b, Where where = Where::current());
Tensor pow(Tensor a, double b, Where where = Where::current());
/// max(a, b); ties give each operand half of the gradient.
Tensor maximum(Tensor a, Tensor b, Where where = Where::current());
/// min(a, b); ties give each operand half of the gradient.
Tensor minimum(Tensor a, Tensor b, Where where = Where::current());
/// Comparisons give 1 or 0 in the operands' type; not differentiable (gradient 0).
Tensor equal(Tensor a, Tensor b, Where where = Where::current());
Tensor less(Tensor a, Tensor b, Where where = Where::current());
Tensor less_equal(Tensor a, Tensor b, Where where = Where::current());
Tensor greater(Tensor a, Tensor b, Where where = Where::current());
Tensor greater_equal(Tensor a, Tensor b, Where where = Where::current());
/// condition != 0 ? a : b.
Tensor where(Tensor condition, Tensor a, Tensor b, Where where = Where::current());
/// min(max(x, low), high); gradient 1 inside and at the limits.
Tensor clamp(Tensor x, double low, double high, Where where = Where::current());

Tensor operator+(const Located& a, const Located& b);
Tensor operator-(const Located& a, const Located& b);
Tensor operator*(const Located& a, const Located& b);
Tensor operator/(const Located& a, const Located& b);
Tensor operator+(const Located& a, double b);
Tensor operator-(const Located& a, double b);
Tensor operator*(const Located& a, double b);
Tensor operator/(const Located& a, double b);
Tensor operator+(double a, const Located& b);
Tensor operator-(double a, const Located& b);
Tensor operator*(double a, const Located& b);
Tensor operator/(double a, const Located& b);
Tensor operator-(const Located& a);

/// x repeated along axes of extent 1 (and new leading axes) to `shape`.
Tensor broadcast_to(Tensor x, const Shape& shape, Where where = Where::current());
/// The adjoint of broadcast_to: x summed down to `shape`.
Tensor sum_to(Tensor x, const Shape& shape, Where where = Where::current());

// ---- Reductions (ops/reduce.cpp); empty `axes` means all; reduced axes go unless `keep`
// ------------------------------

Tensor sum(Tensor, std::vector<int> axes = {}, bool keep = false, Where where = Where::current());
Tensor mean(Tensor, std::vector<int> axes = {}, bool keep = false, Where where = Where::current());
/// Ties share the gradient equally.
Tensor max(Tensor, std::vector<int> axes = {}, bool keep = false, Where where = Where::current());
/// Mean squared deviation; `correction` is subtracted from the count (1 for the unbiased estimate).
Tensor variance(Tensor, std::vector<int> axes = {}, bool keep = false, int64_t correction = 0,
                Where where = Where::current());
/// i32 position of the first maximum along `axis`; not differentiable.
Tensor argmax(Tensor, int axis = -1, Where where = Where::current());

// ---- Matrix products and convolution (ops/matmul.cpp, ops/conv2d.cpp)
// ------------------------------------------------

/// op(a) op(b) over the last two axes, (..., m, k) (..., k, n) -> (..., m, n); batch extents must be equal. A flag says
/// that an operand is stored transposed.
Tensor matmul(Tensor a, Tensor b, bool transpose_a = false, bool transpose_b = false, Where where = Where::current());

struct Conv2dOptions {
  int64_t stride = 1;
  int64_t padding = 0;
  /// P and Q are rounded down to multiples of this: rows and columns that a pool of this window would not reach are
  /// neither computed nor stored, in any pass.
  int64_t floor_to = 1;
};
/// Cross-correlation: x (N, H, W, C), w (K, R, S, C) -> (N, P, Q, K). No groups, no dilation.
Tensor conv2d(Tensor x, Tensor w, Conv2dOptions options = {}, Where where = Where::current());

// ---- Normalisation (ops/norm.cpp)
// ------------------------------------------------------------------------------------

using kernels::Activation;
using kernels::PoolPlace;

struct BatchNormOptions {
  double eps = 1e-5;
  Activation activation = Activation::none;
  PoolPlace pool = PoolPlace::none;  ///< a 2x2 max-pool (floor) before the statistics or after the activation
};
struct BatchNormResult {
  Tensor y, mean, variance;  ///< statistics of this batch, variance biased
  int64_t rows;              ///< values a channel that they were taken over
};
/// Batch normalisation with batch statistics over (N, H, W) of x (N, H, W, C) (Ioffe and Szegedy 2015), activation and
/// pool in one op. Without gamma the scale is 1. Beside a bf16 or f16 x, gamma, beta and the statistics are f32.
BatchNormResult batch_norm(Tensor x, std::optional<Tensor> gamma, Tensor beta, BatchNormOptions options = {},
                           Where where = Where::current());
/// The same with given statistics.
Tensor batch_norm_eval(Tensor x, std::optional<Tensor> gamma, Tensor beta, Tensor mean, Tensor variance,
                       BatchNormOptions options = {}, Where where = Where::current());

// ---- Loss (ops/loss.cpp)
// ---------------------------------------------------------------------------------------------

struct CrossEntropyOptions {
  double label_smoothing = 0;        ///< target = (1 - s) onehot + s / classes
  std::optional<Tensor> valid = {};  ///< i32 scalar: rows from there on are padding and count nothing
};
/// Loss of each sample: logits (N, classes), labels i32 (N) -> (N). A label outside the classes gives NaN.
Tensor softmax_cross_entropy(Tensor logits, Tensor labels, CrossEntropyOptions options = {},
                             Where where = Where::current());
/// Its mean over the batch.
Tensor cross_entropy(Tensor logits, Tensor labels, CrossEntropyOptions options = {}, Where where = Where::current());
/// 1 for every sample whose label has the greatest logit, else 0: (N). Not differentiable.
Tensor correct(Tensor logits, Tensor labels, std::optional<Tensor> valid = {}, Where where = Where::current());
/// exp(x) / sum exp(x) along an axis.
Tensor softmax(Tensor logits, int axis = -1, Where where = Where::current());

// ---- Networks with derivatives (ops/mlp_jet.cpp) -------------------------------------------------------------------

/// Widths of a fully connected network from input to output; every layer but the last ends in tanh. Its parameters are
/// one vector, layer after layer: weight (out, in), then bias (out).
struct MlpShape {
  std::vector<int64_t> widths;
  int64_t parameters() const;
};
/// A value and its derivative along one direction.
struct Jet {
  Tensor value, tangent;
};
/// Network and directional derivative: x, dx (n, inputs), theta (parameters) -> (n, outputs) each; dx is the direction,
/// ones for d/ds of a network of s. A leading batch axis on all three gives as many networks. f32 and f64.
Jet mlp_jet(Tensor x, Tensor dx, Tensor theta, const MlpShape& shape, Where where = Where::current());
/// Jacobian rows of residuals at each point with respect to theta: (n, residuals, parameters), where seeds
/// (n, residuals, 2, outputs) holds each residual's derivatives with respect to the jet's value and tangent.
Tensor mlp_jet_rows(const Jet& jet, Tensor seeds, Where where = Where::current());
/// The same for residuals (n) traced from the jet, each point's from its own row of the jet only: their derivatives
/// with respect to the jet are found by `grad`.
Tensor residual_rows(const Jet& jet, std::span<const Tensor> residuals, Where where = Where::current());
/// Taylor coefficients of the network along a curve x_0 + x_1 e + x_2 e^2 + ..., each (n, inputs), up to order 4; the
/// k-th derivative is k! times coefficient k.
std::vector<Tensor> mlp_taylor(const std::vector<Tensor>& x, Tensor theta, const MlpShape& shape,
                               Where where = Where::current());

// ---- Pairs of units (ops/coupling.cpp, pair_squares.cpp, channel_field.cpp, channel_penalty.cpp) --------------------

using kernels::ChannelPenalty;
using kernels::CouplingLaw;
/// y[b, i] = sum over j != i of kappa(d_ij) x[b, j]: x (batch, units), positions (units, 1 to 3 axes), kappa the law of
/// their distance. No units x units array is made: weights are computed where they are used. Differentiable in x and
/// positions, any number of times; second derivatives with respect to positions use the dense form, which is refused
/// above 4,096 units. Units in one place need a softened law where it decays, else their gradient is not finite. f32
/// and f64; on CUDA f32, and bf16 or f16 x beside f32 positions.
Tensor pair_apply(Tensor x, Tensor positions, const CouplingLaw& law, Where where = Where::current());
/// q[0, i] = sum over j != i of kappa(d_ij) w[0, j] (sum over b of x[b, i] x[b, j])^2: x (batch, units), w (1, units),
/// positions as above; no units x units array is made, in first gradients neither. f32 and f64; on CUDA f32 (f64 in the
/// dense form, which is refused above 4,096 units).
Tensor pair_squares(Tensor x, Tensor w, Tensor positions, const CouplingLaw& law, Where where = Where::current());
/// The field of coupled channels on their own activations, x (rows, channels) and a (channels, channels) of one type:
/// y = x + x a or, as a gate, y = x (1 + tanh(x a)), for bf16 and f16 on CUDA (up to 256 channels, a multiple of 8) in
/// one pass over x.
Tensor channel_field(Tensor x, Tensor a, bool gate, Where where = Where::current());
/// A penalty on the loss of coupled channels, x (rows, channels) and k (channels, channels) of f32 or f64, or on CUDA a
/// bf16 x beside an f32 k: see kernels/coupling/channels.h. Its gradient in x is made with it. Beside a bf16 x the
/// gradient in k has bf16's precision.
Tensor channel_penalty(Tensor x, Tensor k, const ChannelPenalty& penalty, Where where = Where::current());
/// Whether it has a kernel for a map as it is: bf16, up to 256 channels, a multiple of 8. Others are better cast to
/// f32.
bool channel_penalty_takes_16_bits(const Type& x);
/// kappa itself, (units, units) with a zero diagonal, for at most 4,096 units.
Tensor pair_matrix(Tensor positions, const CouplingLaw& law, Where where = Where::current());

// ---- Optimizers (ops/optim.cpp): one op for all tensors of a rule
// ------------------------------------------------------

struct SgdOptions {
  double momentum, weight_decay;
  bool nesterov;
};
struct SgdResult {
  std::vector<Tensor> parameters, momentum;
};
/// m' = momentum m + g + decay p; p' = p - lr (nesterov ? g + decay p + momentum m' : m'). `lr` and `scale` (of the
/// gradients) are scalars; where `skip` (i64 scalar) is not 0, every result is its predecessor. With momentum 0 there
/// are no buffers: both lists of momentum are empty. Not differentiable, like every op of this section.
SgdResult sgd(std::span<const Tensor> parameters, std::span<const Tensor> momentum, std::span<const Tensor> gradients,
              Tensor lr, SgdOptions options, std::optional<Tensor> scale = {}, std::optional<Tensor> skip = {},
              Where where = Where::current());

struct AdamWOptions {
  double beta1, beta2, eps, weight_decay;
};
struct AdamWResult {
  std::vector<Tensor> parameters, momentum, second_moment;
};
/// Decoupled decay and bias correction; `step` is an i64 scalar, updates done before this one.
AdamWResult adamw(std::span<const Tensor> parameters, std::span<const Tensor> momentum,
                  std::span<const Tensor> second_moment, std::span<const Tensor> gradients, Tensor lr, Tensor step,
                  AdamWOptions options, std::optional<Tensor> scale = {}, std::optional<Tensor> skip = {},
                  Where where = Where::current());

struct MuonOptions {
  double momentum, weight_decay;
  int64_t iterations;
  bool nesterov, renormalize;
};
struct MuonResult {
  std::vector<Tensor> parameters, momentum;
};
/// m' = momentum m + g; p' = s (1 - lr decay) p - lr newton_schulz(nesterov ? g + momentum m' : m'), every tensor seen
/// as (rows = first axis, columns), s = sqrt(rows) / |p| with `renormalize`, else 1.
MuonResult muon(std::span<const Tensor> parameters, std::span<const Tensor> momentum, std::span<const Tensor> gradients,
                Tensor lr, MuonOptions options, std::optional<Tensor> scale = {}, std::optional<Tensor> skip = {},
                Where where = Where::current());

/// decay * average + (1 - decay) * value of each pair; `decay` is a scalar.
std::vector<Tensor> ema(std::span<const Tensor> averages, std::span<const Tensor> values, Tensor decay,
                        std::optional<Tensor> skip = {}, Where where = Where::current());

/// sqrt of the sum of squares over all the tensors: a scalar, summed in f64 in a fixed order.
Tensor global_norm(std::span<const Tensor> tensors, Where where = Where::current());
/// How many elements of all the tensors are NaN or infinite: an i64 scalar.
Tensor count_nonfinite(std::span<const Tensor> tensors, Where where = Where::current());
/// counter + 1 (an i64 scalar), or the counter itself where `skip` is not 0.
Tensor count_update(Tensor counter, std::optional<Tensor> skip = {}, Where where = Where::current());

using kernels::LossScaleConfig;
struct LossScaleState {
  Tensor scale;           ///< factor of the loss, f32 or f64
  Tensor clean, skipped;  ///< updates in a row since the factor last changed, and updates skipped so far; i64
};
/// The factor of the next loss: smaller after a step with `nonfinite` elements in its gradients, larger after
/// `interval` clean ones.
LossScaleState update_loss_scale(const LossScaleState&, Tensor nonfinite, LossScaleConfig config = {},
                                 Where where = Where::current());
/// A value looked up at the i64 scalar `step`: lines (falling ones half cosines if `cosine`) between at most 16 points.
Tensor scheduled(Tensor step, std::span<const double> at, std::span<const double> value, bool cosine, DType dtype,
                 Where where = Where::current());
/// u (rows, cols) with its singular values pushed to about 1 (Jordan et al. 2024): X = u / (|u| + 1e-7), then
/// X <- a X + (b A + c A^2) X with A = X X^T, on the side of fewer rows.
Tensor newton_schulz(Tensor u, int iterations, Where where = Where::current());

// ---- A step that feeds itself (ops/feed.cpp): counters are i64 scalars on the device; not differentiable -----------

/// Batch number `counter` of an order of images, i32 or i64 (n): order[(counter mod (n / batch)) batch + i] as i64
/// (batch), what `gather` takes. A last partial batch is never seen.
Tensor batch_window(Tensor order, Tensor counter, int64_t batch, Where where = Where::current());
/// `ring` (size, ...) with its place `counter` mod size replaced by `value` (...), of any element type.
Tensor ring_write(Tensor ring, Tensor value, Tensor counter, Where where = Where::current());

// ---- Moving elements (ops/index.cpp); any element type, except where sums are formed -------------------------------

/// Axis k of the result is axis order[k] of x.
Tensor transpose(Tensor x, const std::vector<int>& order, Where where = Where::current());
/// The last two axes swapped.
Tensor transpose(Tensor x, Where where = Where::current());
/// y[i] = x[begin + i step] along every axis, one entry an axis. A negative begin counts from the end, size -1 takes
/// all that fit, a negative step runs backwards; no steps mean 1.
Tensor slice(Tensor x, const std::vector<int64_t>& begin, const std::vector<int64_t>& size,
             const std::vector<int64_t>& step = {}, Where where = Where::current());
/// `slice` along one axis, the others whole.
Tensor slice_axis(Tensor x, int axis, int64_t begin, int64_t size, int64_t step = 1, Where where = Where::current());
/// Zeros before and after x along every axis, one entry an axis. Adjoint of `slice`.
Tensor pad(Tensor x, const std::vector<int64_t>& before, const std::vector<int64_t>& after,
           Where where = Where::current());
/// The same with x mirrored at its border elements, which are not repeated: each amount is less than its extent.
Tensor pad_reflect(Tensor x, const std::vector<int64_t>& before, const std::vector<int64_t>& after,
                   Where where = Where::current());
/// Tensors side by side along `axis`; their other extents and their types are equal.
Tensor concat(const std::vector<Tensor>& parts, int axis = 0, Where where = Where::current());
/// x at `indices` (i32 or i64, any shape) along `axis`, which the shape of the indices replaces. A run throws Error
/// with position and value of the first index outside the axis.
Tensor gather(Tensor x, Tensor indices, int axis = 0, Where where = Where::current());
/// Zeros, with `extent` places along `axis`, to which the updates are added at `indices` in their order. Adjoint of
/// `gather`: updates are shaped like its result, and indices are checked alike.
Tensor scatter_add(Tensor updates, Tensor indices, int axis, int64_t extent, Where where = Where::current());
/// 1 at the label, else 0, along a new last axis of `classes`. A run throws Error at a label outside 0 ... classes - 1.
Tensor one_hot(Tensor labels, int64_t classes, DType dtype = DType::f32, Where where = Where::current());

// ---- Pooling (ops/pool.cpp); x is (n, h, w, c), windows are square -------------------------------------------------

/// Maximum of each window x window every `stride` positions (0: the window), (n, p, q, c) with
/// p = floor((h + 2 pad - window) / stride) + 1; padding never wins. Output 1 (i32) is the winner's position i w + j in
/// its map. The gradient goes to the first of equals; NaN wins.
Tensor max_pool(Tensor x, int64_t window = 2, int64_t stride = 0, int64_t pad = 0, Where where = Where::current());
/// Mean of each window. With `count_pad`, padding counts as zeros; without it, only positions inside the map count.
Tensor avg_pool(Tensor x, int64_t window = 2, int64_t stride = 0, int64_t pad = 0, bool count_pad = true,
                Where where = Where::current());
/// x at max_pool's index (its output 1), for windows side by side (stride the window, no padding).
Tensor pool_take(Tensor x, Tensor index, int64_t window, Where where = Where::current());
/// max_pool's index over maps of this width as the winner's place in its window, u8, row-major; windows side by side.
Tensor window_position(Tensor index, int64_t width, int64_t window, Where where = Where::current());
/// Mean over each map, (n, c).
Tensor global_avg_pool(Tensor x, Where where = Where::current());

// ---- Random draws (ops/random.cpp) ---------------------------------------------------------------------------------
// Philox4x32-10 of (seed, stream, step, element): `stream` is a hash of the scope path and `name`, so draws depend on
// nothing else in the trace, and are the same bits on every backend and in f32 and f64. A name is used once a trace.

/// {seed, step} of the session, i64 (2): entry "rng" of slab "session". It starts as the state's seed and step 0.
Tensor rng(Graph&, Where where = Where::current());
/// {seed, step + 1}.
Tensor advance(Tensor rng, Where where = Where::current());
/// Assigns `advance(rng)` to the session: the next step draws anew. Once a training step.
void advance_rng(Graph&, Where where = Where::current());
/// U[low, high), of the parameters' type unless said otherwise (f32 or f64). Rounding may give `high`, not on [0, 1).
Tensor uniform(Graph&, std::string_view name, const Shape& shape, double low = 0, double high = 1,
               std::optional<DType> dtype = {}, Where where = Where::current());
/// N(mean, deviation^2), of the parameters' type unless said otherwise (f32 or f64).
Tensor normal(Graph&, std::string_view name, const Shape& shape, double mean = 0, double deviation = 1,
              std::optional<DType> dtype = {}, Where where = Where::current());
/// 1 with this probability, else 0: u8, f32 or f64.
Tensor bernoulli(Graph&, std::string_view name, const Shape& shape, double probability = 0.5, DType dtype = DType::u8,
                 Where where = Where::current());
/// The u8 coin of each element number (i64, from 0 to 2^34 - 1) of a draw that stays at step 0: what belongs to an
/// image rather than to its place in a batch.
Tensor bernoulli_at(Tensor elements, std::string_view name, double probability = 0.5, Where where = Where::current());
/// i32, uniform on low ... high, both included.
Tensor integers(Graph&, std::string_view name, const Shape& shape, int64_t low, int64_t high,
                Where where = Where::current());
/// The numbers 0 ... n - 1 in random order, i32 (n).
Tensor permutation(Graph&, std::string_view name, int64_t n, Where where = Where::current());
/// Zero with probability p, else x / (1 - p). x itself where p is 0 or the trace is not for training.
Tensor dropout(Tensor x, double p, std::string_view name = "dropout", Where where = Where::current());

// ---- Image augmentation (ops/augment.cpp); images are (n, h, w, c), u8 or floating ---------------------------------
// Gradients flow to floating images. What is random returns x itself in a trace that is not for training.

/// What a shifted image shows beyond its border: 0, or the mirror image without repeating the edge.
using kernels::Border;

/// (x / 255 - mean[c]) / deviation[c] of u8 images, in the compute type unless said otherwise; one value a channel, at
/// most 8.
Tensor normalize(Tensor x, std::span<const double> mean, std::span<const double> deviation,
                 std::optional<DType> dtype = {}, Where where = Where::current());
Tensor normalize(Tensor x, std::span<const float> mean, std::span<const float> deviation,
                 std::optional<DType> dtype = {}, Where where = Where::current());
/// Image n mirrored left-right where flags[n] is not 0; flags are u8 (n).
Tensor flip(Tensor x, Tensor flags, Where where = Where::current());
/// Every image mirrored left-right.
Tensor flip_all(Tensor x, Where where = Where::current());
/// Each image mirrored with probability 1/2.
Tensor random_flip(Tensor x, std::string_view name = "flip", Where where = Where::current());
/// Mirrors each image in every other epoch, starting by the coin of its index: image_index is i64 (n), `epoch` an i64
/// scalar. Every two epochs show both sides of every image (Jordan 2024, arXiv 2404.00498).
Tensor alternating_flip(Tensor x, Tensor image_index, Tensor epoch, std::string_view name = "flip",
                        Where where = Where::current());
/// y(n, i, j) = x(n, i + dy, j + dx) with (dy, dx) = offsets (n, 2), i32.
Tensor translate(Tensor x, Tensor offsets, Border border = Border::reflect, Where where = Where::current());
/// Shifts each image by up to `pixels` in each direction, all shifts being equally likely.
Tensor random_translate(Tensor x, int64_t pixels, Border border = Border::reflect, std::string_view name = "translate",
                        Where where = Where::current());
/// Zeros in a square of `size` whose rows start at cy - size / 2, clipped at the border; (cy, cx) = centres (n, 2), i32
/// (DeVries and Taylor 2017, arXiv 1708.04552).
Tensor cutout(Tensor x, Tensor centres, int64_t size, Where where = Where::current());
/// `cutout` around a uniformly drawn position of each image.
Tensor random_cutout(Tensor x, int64_t size, std::string_view name = "cutout", Where where = Where::current());

}  // namespace ranvier
