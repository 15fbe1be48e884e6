// Optimizers: which rule updates which parameters, at which rate. They emit ops, so an update is part of the step.
#pragma once
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/graph.h"
#include "engine/ops.h"

namespace ranvier::optim {

/// A rate as a function of the number of updates done, evaluated on the device: straight lines between points, constant
/// beyond them. A point's place is a fraction of the run's updates.
struct Schedule {
  struct Point {
    double at, value;
  };
  std::vector<Point> points;
  bool cosine = false;                            ///< half a cosine instead of a line wherever the value falls
  Schedule(double value) : points{{0, value}} {}  // implicit: a number is a constant rate
  Schedule(std::vector<Point> p, bool cosine = false) : points(std::move(p)), cosine(cosine) {}
  /// Every value times `factor`.
  Schedule scaled(double factor) const;
};

/// From 0 up to `peak` at `warmup` (a fraction of the run), then down to `last` at the end.
Schedule triangle(double peak, double warmup, double last = 0);
/// A line from `first` to `last`, reached at `until` (a fraction of the run).
Schedule linear(double first, double last = 0, double until = 1);
/// Warm-up, then half a cosine down to `last`.
Schedule cosine(double peak, double warmup = 0, double last = 0);

/// Stochastic gradient descent; weight decay is added to the gradient (L2), as torch.optim.SGD does.
struct Sgd {
  Schedule lr = 0.1;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
};

/// Loshchilov and Hutter 2019; decoupled decay, as torch.optim.AdamW.
struct AdamW {
  Schedule lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double weight_decay = 0.01;
};

/// Jordan et al. 2024: momentum made orthogonal by Newton-Schulz, for weights of two axes or more (rows = first axis).
struct Muon {
  Schedule lr = 0.02;
  double momentum = 0.95;
  bool nesterov = true;
  int iterations = 5;
  bool renormalize = false;  ///< scale the weight to Frobenius norm sqrt(rows) before the update
  double weight_decay = 0;   ///< decoupled
};

/// Leaves its parameters alone.
struct Frozen {};

using Method = std::variant<Sgd, AdamW, Muon, Frozen>;

/// A method for the parameters whose name matches `pattern` (an ECMAScript regular expression, searched for).
struct Rule {
  std::string pattern;
  Method method;
};

/// A factor that keeps the gradients of a 16-bit loss in range (Micikevicius et al. 2018). An update whose gradients
/// are not all finite is skipped: weights, moments, averages and the count of updates stay, and the factor shrinks;
/// after `interval` clean updates in a row it grows. All of it happens on the device, in slab "session": "loss_scale",
/// "clean_updates" (since the factor last changed) and "skipped_updates".
struct LossScale {
  double initial = 65536;
  LossScaleConfig dynamics;  ///< interval 0: the factor never grows
};

/// Rules in order: the first whose pattern matches has the parameter. A parameter that none matches is an Error.
struct Optimizer {
  std::vector<Rule> rules;
  double clip_norm = 0;                 ///< scale all gradients down to this global norm; 0: do not
  double ema_decay = 0;                 ///< keep slab "ema", the average of the weights with this decay; 0: do not
  int accumulate = 1;                   ///< micro-batches whose gradients are averaged for an update
  std::optional<LossScale> loss_scale;  ///< for f16; bf16 has the range of f32

  Optimizer(Method method) : rules{{"", std::move(method)}} {}  // implicit: one method for all
  Optimizer(std::vector<Rule> r) : rules(std::move(r)) {}
  template <class M>
  requires std::is_constructible_v<Method, M> Optimizer(M method) : Optimizer(Method(std::move(method))) {}
};

/// The loss whose gradients `apply` expects: multiplied by the current factor where the optimizer scales losses. It is
/// differentiated, not reported.
Tensor scaled_loss(const Optimizer&, Tensor loss, Where where = Where::current());

/// Emits one update of `parameters` (names of slab "parameters") by `gradients`: reads and assigns the moments' slabs,
/// assigns the parameters, counts the update. `updates` is the length of the run that schedules refer to. Returns the
/// global norm of the (unscaled) gradients where clipping asks for it. With loss scaling, `gradients` are those of
/// `scaled_loss`.
std::optional<Tensor> apply(Graph&, const Optimizer&, const std::vector<std::string>& parameters,
                            const std::vector<Tensor>& gradients, int64_t updates, Where where = Where::current());

}  // namespace ranvier::optim
