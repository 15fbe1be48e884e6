// Tracing and compiling of training steps and evaluations, and the batches that run through them.
#include "engine/session.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/catalogue.h"
#include "engine/grad.h"
#include "engine/ops.h"

namespace ranvier {
namespace {

BatchTensors batch_inputs(Graph& graph, const BatchType& type) {
  Shape images{type.size};
  for (int64_t extent : type.image) images.push_back(extent);
  return {input(graph, "images", {DType::u8, images}), input(graph, "labels", {DType::i32, {type.size}}),
          input(graph, "indices", {DType::i64, {type.size}}), input(graph, "epoch", {DType::i64, {}}),
          input(graph, "valid", {DType::i32, {}})};
}

constexpr int64_t ring_size = 1024;  // steps whose loss and hits wait on the device

/// Declares the slab that a step feeds itself from.
void declare_feed(State& state, const BatchType& type, std::span<const uint8_t> images,
                  std::span<const int32_t> labels) {
  const auto copied = [](std::span<const std::byte> from) {
    return [from](std::span<std::byte> elements, uint64_t) { std::copy(from.begin(), from.end(), elements.begin()); };
  };
  const auto zeros = [](std::span<std::byte> elements, uint64_t) {
    std::fill(elements.begin(), elements.end(), std::byte{0});
  };
  const auto count = static_cast<int64_t>(labels.size());
  Shape all{count};
  for (int64_t extent : type.image) all.push_back(extent);
  if (static_cast<int64_t>(images.size()) != all.numel())
    fail("{} bytes of images for {} labels of {}", images.size(), count, to_string(type.image));
  const Where where = Where::current();
  const auto declare = [&](const char* name, const Type& entry, ExactInit init) {
    state.declare_exact(feed_slab, name, entry, std::move(init), where);
  };
  declare("images", {DType::u8, all}, copied(std::as_bytes(images)));
  declare("labels", {DType::i32, {count}}, copied(std::as_bytes(labels)));
  declare("order", {DType::i64, {count / type.size * type.size}}, zeros);
  declare("batch", {DType::i64, {}}, zeros);
  declare("epoch", {DType::i64, {}}, zeros);
  declare("reports", {DType::f32, {ring_size, 2}}, zeros);
}

/// The batch that slab "feed" says is next.
BatchTensors feed_tensors(Graph& graph, const BatchType& type, Tensor batch) {
  const Tensor indices = batch_window(read(graph, feed_slab, "order"), batch, type.size);
  return {gather(read(graph, feed_slab, "images"), indices), gather(read(graph, feed_slab, "labels"), indices), indices,
          read(graph, feed_slab, "epoch"), full(graph, {DType::i32, {}}, static_cast<double>(type.size))};
}

/// Parameters that the traced loss reads, in the order of the slab.
std::vector<std::string> parameters_of(Graph& graph) {
  std::vector<std::string> names;
  for (uint32_t id : graph.state().slab("parameters")) names.push_back(graph.state().entry(id).name);
  return names;
}

}  // namespace

Precision precision_named(const std::string& name, Device device) {
  const bool cuda = device.backend == Backend::cuda;
  const std::string chosen = !name.empty() ? name : cuda ? "bf16" : "f32";
  if (chosen == "f32") return {chosen, DType::f32, ""};
  if (chosen != "tf32" && chosen != "bf16" && chosen != "f16")
    fail("precision '{}' is none of f32, tf32, bf16 and f16", name);
  if (!cuda) fail("precision {}: the CPU computes in f32; {} needs a CUDA device", chosen, chosen);
  if (chosen == "tf32") return {chosen, DType::f32, "tf32"};  // wherever an op has such a variant
  return {chosen, chosen == "bf16" ? DType::bf16 : DType::f16, ""};
}

Session::Session(Device device, SessionOptions options)
    : options_(std::move(options)), state_(std::make_shared<State>(device, options_.seed)) {
  check_variants(options_.variants, device.backend);
  state_->set_parameter_type(options_.parameters);
  if (options_.compute) state_->set_compute_type(*options_.compute);
}

PlanOptions Session::plan_options(std::map<std::string, std::string> bindings) const {
  PlanOptions plan;
  plan.device = state_->device();
  plan.variants = options_.variants;
  plan.bindings = std::move(bindings);
  return plan;
}

Program Session::compile_traced(Graph& graph, std::span<const Tensor> outputs,
                                std::map<std::string, std::string> bindings) {
  Program program = ranvier::compile(graph, outputs, plan_options(std::move(bindings)), scratch_);
  if (options_.planned) options_.planned(program.plan());
  return program;
}

void Session::remember(const Graph& graph) {
  if (!keep_graphs_) return;
  text_ = graph.text();
  dot_ = graph.dot();
}

std::vector<Tensor> Session::trace_step(Graph& graph, const BatchTensors& batch, const TrainFunction& function,
                                        const optim::Optimizer& optimizer, int64_t updates, bool update) {
  const Objective objective = function(batch);
  const std::vector<std::string> names = parameters_of(graph);
  std::vector<Tensor> parameters;
  for (const std::string& name : names) parameters.push_back(read(graph, "parameters", name));
  std::vector<Tensor> gradients = grad(optim::scaled_loss(optimizer, objective.loss), parameters);
  if (optimizer.accumulate > 1) {
    for (size_t i = 0; i < names.size(); ++i) {
      const Tensor sum = read(graph, "gradients", names[i], gradients[i].type(), init::constant(0));
      const Tensor total = sum + gradients[i];
      assign(graph, "gradients", names[i], update ? full(graph, total.type(), 0.0) : total);
      gradients[i] = total * (1.0 / optimizer.accumulate);
    }
  }
  std::vector<Tensor> outputs = {objective.loss};
  if (objective.logits.valid()) outputs.push_back(sum(correct(objective.logits, batch.labels)));
  if (update) optim::apply(graph, optimizer, names, gradients, updates);
  assign(graph, "session", "rng", advance(rng(graph)));
  remember(graph);
  return outputs;
}

TrainStep Session::build_step(const optim::Optimizer& optimizer, int64_t batch,
                              const std::function<std::vector<Tensor>(Graph&, bool update)>& trace) {
  if (optimizer.accumulate < 1) fail("accumulate {} must be at least 1", optimizer.accumulate);
  const auto build = [&](bool update) {
    Graph graph(*state_, true);
    const std::vector<Tensor> outputs = trace(graph, update);
    return compile_traced(graph, outputs);
  };
  TrainStep step;
  step.update_ = build(true);
  if (optimizer.accumulate > 1) step.gather_ = build(false);
  step.accumulate_ = optimizer.accumulate;
  step.batch_ = batch;
  step.has_logits_ = step.update_.outputs() > 1;
  return step;
}

TrainStep Session::train_step(const BatchType& type, const TrainFunction& function, const optim::Optimizer& optimizer,
                              int64_t updates) {
  return build_step(optimizer, type.size, [&](Graph& graph, bool update) {
    return trace_step(graph, batch_inputs(graph, type), function, optimizer, updates, update);
  });
}

TrainStep Session::resident_step(const BatchType& type, std::span<const uint8_t> images,
                                 std::span<const int32_t> labels, const TrainFunction& function,
                                 const optim::Optimizer& optimizer, int64_t updates) {
  const auto count = static_cast<int64_t>(labels.size());
  if (type.size < 1 || type.size > count) fail("batch {} of {} images", type.size, count);
  declare_feed(*state_, type, images, labels);
  TrainStep step = build_step(optimizer, type.size, [&](Graph& graph, bool update) {
    const Tensor batch = read(graph, feed_slab, "batch");
    const std::vector<Tensor> results =
        trace_step(graph, feed_tensors(graph, type, batch), function, optimizer, updates, update);
    std::vector<Tensor> reported;
    for (const Tensor& result : results) reported.push_back(reshape(cast(result, DType::f32), {1}));
    if (reported.size() == 1) reported.push_back(full(graph, {DType::f32, {1}}, 0));
    const Tensor ring = read(graph, feed_slab, "reports");
    assign(graph, feed_slab, "reports", ring_write(ring, concat(reported), batch));
    assign(graph, feed_slab, "batch", count_update(batch, std::nullopt));
    return results;
  });
  step.state_ = state_.get();
  state_->materialise();
  if (device().backend == Backend::cuda) {
    step.update_.capture();
    if (optimizer.accumulate > 1) step.gather_.capture();
  }
  return step;
}

Session::Planned Session::plan_step(const BatchType& type, const TrainFunction& function,
                                    const optim::Optimizer& optimizer, int64_t updates) {
  Graph graph(*state_, true);
  const std::vector<Tensor> outputs = trace_step(graph, batch_inputs(graph, type), function, optimizer, updates, true);
  PlanOptions options = plan_options();
  options.prepare = false;
  Plan plan = make_plan(graph, outputs, options);
  if (options_.planned) options_.planned(plan);
  return {std::move(plan), graph.size()};
}

Program& TrainStep::advance() { return ++micro_ % accumulate_ == 0 ? update_ : gather_; }

void TrainStep::execute(Program& program) {
  if (checked_)
    program.run_checked();
  else if (times_)
    program.run_profiled(*times_);
  else if (nodes_)
    program.run_nodes();
  else
    program.run();
}

void TrainStep::count(double loss, double hits) {
  loss_ = loss;
  loss_sum_ += loss, ++steps_;
  recent_loss_ += loss, ++recent_;
  if (has_logits_) hits_ += hits, samples_ += batch_;
}

double TrainStep::take_recent_loss() {
  const double mean = recent_ ? recent_loss_ / static_cast<double>(recent_) : 0;
  recent_loss_ = 0, recent_ = 0;
  return mean;
}

void TrainStep::run(std::span<const uint8_t> images, std::span<const int32_t> labels, std::span<const int64_t> indices,
                    int64_t epoch) {
  if (resident()) fail("this step takes its images from the device; use begin_epoch and next");
  Program& program = advance();
  const auto valid = static_cast<int32_t>(batch_);
  program.set<uint8_t>("images", images);
  program.set<int32_t>("labels", labels);
  program.set<int64_t>("indices", indices);
  program.set<int64_t>("epoch", std::span(&epoch, 1));
  program.set<int32_t>("valid", std::span(&valid, 1));
  execute(program);
  count(program.scalar(0), has_logits_ ? program.scalar(1) : 0);
}

void TrainStep::begin_epoch(std::span<const int64_t> order, int64_t epoch, int64_t first) {
  if (!resident()) fail("this step is given its images by the host");
  collect();
  state_->set<int64_t>(feed_slab, "order", order);
  state_->set<int64_t>(feed_slab, "epoch", std::span(&epoch, 1));
  state_->set<int64_t>(feed_slab, "batch", std::span(&first, 1));
  done_ = read_ = first;
}

void TrainStep::next() {
  if (!resident()) fail("this step is given its images by the host");
  if (done_ - read_ == ring_size) collect();
  execute(advance());
  ++done_;
}

void TrainStep::collect() {
  if (!resident() || read_ == done_) return;
  const std::vector<float> reports = state_->get<float>(feed_slab, "reports");
  for (; read_ < done_; ++read_) {
    const float* report = reports.data() + 2 * (read_ % ring_size);
    count(report[0], report[1]);
  }
}

Program Session::eval_program(const BatchType& type, const EvalFunction& function,
                              std::map<std::string, std::string> bindings) {
  return compile(
      [&](Graph& graph) {
        const BatchTensors batch = batch_inputs(graph, type);
        return std::vector{cast(function(batch.images), DType::f32)};
      },
      false, std::move(bindings));
}

Program Session::compile(const std::function<std::vector<Tensor>(Graph&)>& trace, bool training,
                         std::map<std::string, std::string> bindings) {
  Graph graph(*state_, training);
  const std::vector<Tensor> outputs = trace(graph);
  remember(graph);
  return compile_traced(graph, outputs, std::move(bindings));
}

std::vector<float> Session::logits(Program& program, std::span<const uint8_t> images) {
  const Shape out = program.output_type(0).shape;
  const int64_t batch = out[0], classes = out[1];
  const auto image_bytes = static_cast<int64_t>(program.input_type("images").bytes()) / batch;
  const int64_t count = static_cast<int64_t>(images.size()) / image_bytes;
  std::vector<float> all(static_cast<size_t>(count * classes));
  std::vector<uint8_t> padded(static_cast<size_t>(batch * image_bytes));
  for (int64_t first = 0; first < count; first += batch) {
    const int64_t valid = std::min(batch, count - first);
    std::copy_n(images.begin() + first * image_bytes, valid * image_bytes, padded.begin());
    std::fill(padded.begin() + valid * image_bytes, padded.end(), uint8_t{0});
    program.set<uint8_t>("images", padded);
    program.run();
    const std::vector<float> logits = program.get<float>(0);
    std::copy_n(logits.begin(), valid * classes, all.begin() + first * classes);
  }
  return all;
}

double Session::accuracy(const EvalFunction& function, const BatchType& type, std::span<const uint8_t> images,
                         std::span<const int32_t> labels) {
  Program program = eval_program(type, function);
  const std::vector<float> all = logits(program, images);
  const size_t classes = all.size() / std::max<size_t>(labels.size(), 1);
  int64_t hits = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    const auto row = all.begin() + static_cast<int64_t>(i * classes);
    hits += std::max_element(row, row + static_cast<int64_t>(classes)) - row == labels[i];
  }
  return labels.empty() ? 0 : static_cast<double>(hits) / static_cast<double>(labels.size());
}

int64_t Session::parameter_count() const {
  int64_t count = 0;
  for (const Entry& entry : state_->entries())
    if (entry.slab == "parameters") count += entry.type.shape.numel();
  return count;
}

int64_t Session::updates() {
  return state_->find("session", "updates") < 0 ? 0 : state_->get<int64_t>("session", "updates")[0];
}

}  // namespace ranvier
