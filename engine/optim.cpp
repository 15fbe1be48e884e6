// Schedules, and the emission of updates: which parameter gets which rule, its moments, clipping and averages.
#include "engine/optim.h"

#include <cmath>

#include "engine/ops.h"
#include "engine/regex.h"

namespace ranvier::optim {
namespace {

/// Parameters of one rule with their gradients.
struct Group {
  const Method* method;
  std::vector<std::string> names;
  std::vector<Tensor> parameters, gradients;
};

std::vector<Group> grouped(Graph& graph, const Optimizer& optimizer, const std::vector<std::string>& names,
                           const std::vector<Tensor>& gradients, const Where& where) {
  std::vector<Group> groups;
  for (const Rule& rule : optimizer.rules) groups.push_back({&rule.method, {}, {}, {}});
  for (size_t i = 0; i < names.size(); ++i) {
    size_t match = optimizer.rules.size();
    for (size_t r = optimizer.rules.size(); r-- > 0;) {
      try {
        if (std::regex_search(names[i], user_regex(optimizer.rules[r].pattern))) match = r;
      } catch (const std::regex_error&) {
        fail_at(where, "optimizer: '{}' is not a regular expression", optimizer.rules[r].pattern);
      }
    }
    if (match == optimizer.rules.size()) fail_at(where, "optimizer: no rule matches parameter '{}'", names[i]);
    groups[match].names.push_back(names[i]);
    groups[match].parameters.push_back(read(graph, "parameters", names[i], where));
    groups[match].gradients.push_back(gradients[i]);
  }
  return groups;
}

/// The state of slab `slab` beside each parameter, zero at first.
std::vector<Tensor> beside(Graph& graph, std::string_view slab, const Group& group, const Where& where) {
  std::vector<Tensor> entries;
  for (size_t i = 0; i < group.names.size(); ++i)
    entries.push_back(read(graph, slab, group.names[i], group.parameters[i].type(), init::constant(0), where));
  return entries;
}

void assign_all(Graph& graph, std::string_view slab, const Group& group, std::span<const Tensor> values,
                const Where& where) {
  for (size_t i = 0; i < group.names.size(); ++i) assign(graph, slab, group.names[i], values[i], where);
}

/// The factor of the loss in the session's slab.
Tensor loss_factor(Graph& graph, const LossScale& options, const Where& where) {
  return read(graph, "session", "loss_scale", Type{graph.state().parameter_type(), {}},
              init::constant(static_cast<float>(options.initial)), where);
}

/// A count in the session's slab, 0 at first.
Tensor session_count(Graph& graph, std::string_view name, const Where& where) {
  return read(graph, "session", name, Type{DType::i64, {}}, init::constant(0), where);
}

/// Emits the check of scaled gradients and the factor of the next step. Returns how many elements are not finite.
Tensor watch_overflow(Graph& graph, const LossScale& options, const std::vector<Tensor>& gradients,
                      const Where& where) {
  const Tensor nonfinite = count_nonfinite(gradients, where);
  const LossScaleState now{loss_factor(graph, options, where), session_count(graph, "clean_updates", where),
                           session_count(graph, "skipped_updates", where)};
  const LossScaleState next = update_loss_scale(now, nonfinite, options.dynamics, where);
  assign(graph, "session", "loss_scale", next.scale, where);
  assign(graph, "session", "clean_updates", next.clean, where);
  assign(graph, "session", "skipped_updates", next.skipped, where);
  return nonfinite;
}

/// One emission of all groups.
class Update {
 public:
  Update(Graph& graph, Tensor counter, int64_t updates, std::optional<Tensor> scale, std::optional<Tensor> skip,
         const Where& where)
      : graph_(graph), counter_(counter), updates_(updates), scale_(scale), skip_(skip), where_(where) {}

  std::vector<Tensor> operator()(const Group& group) {
    return std::visit([&](const auto& method) { return emit(group, method); }, *group.method);
  }

 private:
  std::vector<Tensor> emit(const Group&, const Frozen&) { return {}; }

  std::vector<Tensor> emit(const Group& group, const Sgd& method) {
    std::vector<Tensor> m;
    if (method.momentum != 0) m = beside(graph_, "momentum", group, where_);
    const SgdResult result = sgd(group.parameters, m, group.gradients, rate(method.lr),
                                 {method.momentum, method.weight_decay, method.nesterov}, scale_, skip_, where_);
    if (method.momentum != 0) assign_all(graph_, "momentum", group, result.momentum, where_);
    return result.parameters;
  }

  std::vector<Tensor> emit(const Group& group, const AdamW& method) {
    const std::vector<Tensor> m = beside(graph_, "momentum", group, where_);
    const std::vector<Tensor> v = beside(graph_, "second_moment", group, where_);
    const AdamWResult result =
        adamw(group.parameters, m, v, group.gradients, rate(method.lr), counter_,
              {method.beta1, method.beta2, method.eps, method.weight_decay}, scale_, skip_, where_);
    assign_all(graph_, "momentum", group, result.momentum, where_);
    assign_all(graph_, "second_moment", group, result.second_moment, where_);
    return result.parameters;
  }

  std::vector<Tensor> emit(const Group& group, const Muon& method) {
    const std::vector<Tensor> m = beside(graph_, "momentum", group, where_);
    for (size_t i = 0; i < group.names.size(); ++i)
      if (group.parameters[i].shape().rank() < 2)
        fail_at(where_, "muon: '{}' has one axis; give it another rule", group.names[i]);
    const MuonResult result =
        muon(group.parameters, m, group.gradients, rate(method.lr),
             {method.momentum, method.weight_decay, method.iterations, method.nesterov, method.renormalize}, scale_,
             skip_, where_);
    assign_all(graph_, "momentum", group, result.momentum, where_);
    return result.parameters;
  }

  Tensor rate(const Schedule& schedule) {
    std::vector<double> at, value;
    for (const Schedule::Point& point : schedule.points) {
      at.push_back(point.at * static_cast<double>(updates_));
      value.push_back(point.value);
    }
    return scheduled(counter_, at, value, schedule.cosine, parameter_type(graph_), where_);
  }

  Graph& graph_;
  Tensor counter_;
  int64_t updates_;
  std::optional<Tensor> scale_, skip_;
  Where where_;
};

}  // namespace

Schedule Schedule::scaled(double factor) const {
  Schedule result = *this;
  for (Point& point : result.points) point.value *= factor;
  return result;
}

Schedule triangle(double peak, double warmup, double last) {
  if (warmup <= 0) return linear(peak, last);
  return Schedule(std::vector<Schedule::Point>{{0, 0}, {warmup, peak}, {1, last}});
}

Schedule linear(double first, double last, double until) {
  return Schedule(std::vector<Schedule::Point>{{0, first}, {until, last}});
}

Schedule cosine(double peak, double warmup, double last) {
  std::vector<Schedule::Point> points;
  if (warmup > 0) points.push_back({0, 0});
  points.push_back({warmup, peak});
  points.push_back({1, last});
  return Schedule(points, true);
}

namespace {

/// Averages of the values of a group's parameters, in slab "ema".
void average(Graph& graph, const Group& group, const std::vector<Tensor>& values, double decay,
             std::optional<Tensor> skip, const Where& where) {
  std::vector<Tensor> averages;
  for (size_t i = 0; i < group.names.size(); ++i) {
    const int64_t id = graph.state().find("parameters", group.names[i]);
    averages.push_back(read(graph, "ema", group.names[i], group.parameters[i].type(),
                            graph.state().entry(static_cast<uint32_t>(id)).init, where));
  }
  const Tensor weight = full(graph, Type{averages[0].dtype(), {}}, decay, where);
  assign_all(graph, "ema", group, ema(averages, values, weight, skip, where), where);
}

}  // namespace

Tensor scaled_loss(const Optimizer& optimizer, Tensor loss, Where where) {
  if (!optimizer.loss_scale) return loss;
  const Tensor factor = loss_factor(*loss.graph, *optimizer.loss_scale, where);
  return mul(loss, cast(factor, loss.dtype(), where), where);
}

std::optional<Tensor> apply(Graph& graph, const Optimizer& optimizer, const std::vector<std::string>& names,
                            const std::vector<Tensor>& gradients, int64_t updates, Where where) {
  const Tensor counter = session_count(graph, "updates", where);
  std::optional<Tensor> norm, scale, skip;
  if (optimizer.loss_scale && !gradients.empty()) {
    skip = watch_overflow(graph, *optimizer.loss_scale, gradients, where);
    scale = 1.0 / loss_factor(graph, *optimizer.loss_scale, where);
  }
  if (optimizer.clip_norm > 0) {
    norm = global_norm(gradients, where);
    if (scale) norm = *norm * *scale;
    // as torch.nn.utils.clip_grad_norm_; a NaN norm makes everything NaN, which the watchdog reports
    const Tensor clip = minimum(full(graph, norm->type(), 1.0, where), optimizer.clip_norm / (*norm + 1e-6), where);
    scale = scale ? *scale * clip : clip;
  }
  Update update(graph, counter, updates, scale, skip, where);
  for (const Group& group : grouped(graph, optimizer, names, gradients, where)) {
    if (group.names.empty()) continue;
    std::vector<Tensor> values = update(group);
    if (values.empty())
      values = group.parameters;  // frozen: averaged all the same, so that "ema" is a whole model
    else
      assign_all(graph, "parameters", group, values, where);
    if (optimizer.ema_decay > 0) average(graph, group, values, optimizer.ema_decay, skip, where);
  }
  assign(graph, "session", "updates", count_update(counter, skip, where), where);
  return norm;
}

}  // namespace ranvier::optim
