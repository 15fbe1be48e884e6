// FGSM, PGD and Auto-PGD.
#include <cmath>
#include <numeric>

#include "engine/draws.h"
#include "models/robust/alive.h"

namespace ranvier::robust {
namespace {

void check(double epsilon, int iterations) {
  if (!(epsilon > 0 && epsilon <= 1)) fail("epsilon {} is not in (0, 1]", epsilon);
  if (iterations < 1) fail("an attack of {} iterations: at least 1", iterations);
}

float sign(float v) { return v > 0 ? 1.0f : v < 0 ? -1.0f : 0.0f; }

void count_zero_gradients(const std::vector<float>& gradient, int64_t values, AttackResult& result) {
  for (size_t first = 0; first < gradient.size(); first += static_cast<size_t>(values))
    result.zero_gradients +=
        std::all_of(gradient.begin() + static_cast<int64_t>(first),
                    gradient.begin() + static_cast<int64_t>(first) + values, [](float g) { return g == 0; });
}

}  // namespace

AttackResult pgd(AttackedModel& model, const Images& images, const PgdOptions& o, const Tick& tick) {
  check(o.epsilon, o.iterations);
  if (!(o.step > 0) || o.restarts < 1) fail("PGD with step {} and {} restarts: both above 0", o.step, o.restarts);
  const int64_t values = images.values();
  const auto epsilon = static_cast<float>(o.epsilon), step = static_cast<float>(o.step);
  const Draws draws(o.seed, "attack.pgd");
  Alive alive(model, images);
  AttackedModel::Slope slope;
  for (int restart = 0; restart < o.restarts && !alive.who.empty(); ++restart) {
    std::vector<float> x = images.pixels;
    if (o.random_start)
      for (int64_t i : alive.who)
        for (int64_t e = i * values; e < (i + 1) * values; ++e) {
          float& v = x[static_cast<size_t>(e)];
          const float u = draws.uniform(static_cast<uint64_t>(restart), static_cast<uint64_t>(e));
          v = into_ball(v + epsilon * (2 * u - 1), v, epsilon);
        }
    for (int it = 0; it < o.iterations && !alive.who.empty(); ++it) {
      const std::vector<int32_t> labels = alive.labels();
      model.slope(Goal::cross_entropy, rows_of(x, alive.who, values), labels, {}, slope);
      alive.result.gradients += static_cast<int64_t>(labels.size());
      alive.result.queries += static_cast<int64_t>(labels.size());
      if (restart == 0 && it == 0) count_zero_gradients(slope.gradient, values, alive.result);
      for (size_t r = 0; r < alive.who.size(); ++r)
        for (int64_t e = 0; e < values; ++e) {
          const auto at = static_cast<size_t>(alive.who[r] * values + e);
          if (o.stop && predicted(slope.logits, model.classes(), static_cast<int64_t>(r)) != labels[r]) break;
          x[at] =
              into_ball(x[at] + step * sign(slope.gradient[r * static_cast<size_t>(values) + static_cast<size_t>(e)]),
                        images.pixels[at], epsilon);
        }
      if (o.stop && (it > 0 || o.random_start)) alive.judge(slope.logits, x), alive.refresh();
      if (tick) tick((restart + (it + 1.0) / o.iterations) / o.restarts);
    }
    if (alive.who.empty()) break;
    const std::vector<float> last = model.logits(rows_of(x, alive.who, values));
    alive.result.queries += static_cast<int64_t>(alive.who.size());
    for (int64_t i : alive.who) std::copy_n(x.begin() + i * values, values, alive.result.pixels.begin() + i * values);
    alive.judge(last, x);
    if (o.stop || restart + 1 < o.restarts) alive.refresh();
  }
  return alive.result;
}

AttackResult fgsm(AttackedModel& model, const Images& images, double epsilon) {
  return pgd(model, images, {.epsilon = epsilon, .step = epsilon, .iterations = 1, .random_start = false});
}

namespace {

/// One image's memory of its ascent.
struct Ascent {
  float step = 0, best = 0, best_at_check = 0;
  bool halved_at_check = true;
  std::vector<float> history;
};

/// Ascends once on every image still alive, towards `targets` (a class for each image of the set) where the goal has
/// one.
class Apgd {
 public:
  Apgd(AttackedModel& model, const Images& images, const ApgdOptions& options, Alive& alive,
       const std::vector<int32_t>& targets, uint64_t restart)
      : model_(model),
        images_(images),
        o_(options),
        alive_(alive),
        targets_(targets),
        restart_(restart),
        epsilon_(static_cast<float>(options.epsilon)),
        values_(images.values()) {}

  void run(const std::function<void(double)>& tick) {
    start();
    // checkpoints of the step: the first after 22 % of the run, each next one 3 % sooner, no less than 6 % apart
    const auto share = [&](double s) { return std::max(1, static_cast<int>(s * o_.iterations)); };
    int interval = share(0.22), since = 0;
    for (int it = 0; it < o_.iterations && !alive_.who.empty(); ++it) {
      advance(it);
      evaluate();
      for (int64_t i : alive_.who) remember(i);
      if (++since == interval) {
        for (int64_t i : alive_.who) reconsider(i, interval);
        interval = std::max(interval - share(0.03), share(0.06));
        since = 0;
      }
      if (tick) tick((it + 1.0) / o_.iterations);
    }
    for (int64_t i : alive_.who) copy(best_, i, alive_.result.pixels);
  }

 private:
  void copy(const std::vector<float>& from, int64_t i, std::vector<float>& to) const {
    std::copy_n(from.begin() + i * values_, values_, to.begin() + i * values_);
  }

  void start() {
    x_ = images_.pixels;
    const Draws draws(o_.seed, "attack.apgd");
    for (int64_t i : alive_.who) {  // a random point of the ball's surface
      float largest = 0;
      const auto draw = [&](int64_t e) { return 2 * draws.uniform(restart_, static_cast<uint64_t>(e)) - 1; };
      for (int64_t e = i * values_; e < (i + 1) * values_; ++e) largest = std::max(largest, std::fabs(draw(e)));
      for (int64_t e = i * values_; e < (i + 1) * values_; ++e) {
        float& v = x_[static_cast<size_t>(e)];
        v = into_ball(v + epsilon_ * draw(e) / largest, v, epsilon_);
      }
    }
    gradient_.assign(x_.size(), 0);
    goal_.assign(images_.labels.size(), 0);
    ascents_.assign(images_.labels.size(), {});
    evaluate();
    previous_ = best_ = x_;
    best_gradient_ = gradient_;
    for (int64_t i : alive_.who) {
      Ascent& a = ascents_[static_cast<size_t>(i)];
      a.step = 2 * epsilon_;
      a.best = a.best_at_check = goal_[static_cast<size_t>(i)];
      a.history.push_back(a.best);
    }
  }

  /// Goal and gradient at x; images that are misclassified there leave.
  void evaluate() {
    const std::vector<int32_t> labels = alive_.labels();
    const std::vector<int32_t> targets = targets_.empty() ? std::vector<int32_t>{} : rows_of(targets_, alive_.who, 1);
    model_.slope(o_.goal, rows_of(x_, alive_.who, values_), labels, targets, slope_);
    alive_.result.gradients += static_cast<int64_t>(labels.size());
    alive_.result.queries += static_cast<int64_t>(labels.size());
    for (size_t r = 0; r < alive_.who.size(); ++r) {
      goal_[static_cast<size_t>(alive_.who[r])] = slope_.goal[r];
      std::copy_n(slope_.gradient.begin() + static_cast<int64_t>(r) * values_, values_,
                  gradient_.begin() + alive_.who[r] * values_);
    }
    alive_.judge(slope_.logits, x_);
    alive_.refresh();
  }

  /// z = P(x + step sign(g)); x' = P(x + 0.75 (z - x) + 0.25 (x - previous)), without the last term at the start.
  void advance(int it) {
    const float keep = it > 0 ? 0.75f : 1.0f;
    for (int64_t i : alive_.who)
      for (int64_t e = i * values_; e < (i + 1) * values_; ++e) {
        const auto at = static_cast<size_t>(e);
        const float x = x_[at], x0 = images_.pixels[at];
        const float z = into_ball(x + ascents_[static_cast<size_t>(i)].step * sign(gradient_[at]), x0, epsilon_);
        const float next = into_ball(x + keep * (z - x) + (1 - keep) * (x - previous_[at]), x0, epsilon_);
        previous_[at] = x;
        x_[at] = next;
      }
  }

  void remember(int64_t i) {
    Ascent& a = ascents_[static_cast<size_t>(i)];
    const float goal = goal_[static_cast<size_t>(i)];
    a.history.push_back(goal);
    if (!(goal > a.best)) return;
    a.best = goal;
    copy(x_, i, best_);
    copy(gradient_, i, best_gradient_);
  }

  /// Halves the step, and goes on from the best point, where fewer than 75 % of the last steps ascended, or where the
  /// step was not halved last time and nothing better was found since.
  void reconsider(int64_t i, int interval) {
    Ascent& a = ascents_[static_cast<size_t>(i)];
    const size_t n = a.history.size();
    int rises = 0;
    for (size_t k = n - static_cast<size_t>(interval); k < n; ++k) rises += k > 0 && a.history[k] > a.history[k - 1];
    const bool oscillates = rises <= 0.75 * interval, stalls = !a.halved_at_check && a.best_at_check >= a.best;
    a.halved_at_check = oscillates || stalls;
    a.best_at_check = a.best;
    if (!a.halved_at_check) return;
    a.step /= 2;
    copy(best_, i, x_);
    copy(best_gradient_, i, gradient_);
  }

  AttackedModel& model_;
  const Images& images_;
  const ApgdOptions& o_;
  Alive& alive_;
  const std::vector<int32_t>& targets_;
  uint64_t restart_;
  float epsilon_;
  int64_t values_;
  AttackedModel::Slope slope_;
  std::vector<float> x_, previous_, best_, gradient_, best_gradient_, goal_;
  std::vector<Ascent> ascents_;
};

/// For each image the class that comes `rank`-th among the others in its own logits, rank from 1.
std::vector<int32_t> ranked_targets(const Alive& alive, const Images& images, int64_t classes, int rank) {
  std::vector<int32_t> targets;
  std::vector<int32_t> order(static_cast<size_t>(classes));
  for (int64_t i = 0; i < images.size(); ++i) {
    std::iota(order.begin(), order.end(), 0);
    const auto row = alive.clean_logits.begin() + i * classes;
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return row[a] > row[b]; });
    std::erase(order, images.labels[static_cast<size_t>(i)]);
    targets.push_back(order[static_cast<size_t>(rank - 1)]);
    order.resize(static_cast<size_t>(classes));
  }
  return targets;
}

}  // namespace

AttackResult apgd(AttackedModel& model, const Images& images, const ApgdOptions& o, const Tick& tick) {
  check(o.epsilon, o.iterations);
  Alive alive(model, images);
  const bool targeted = o.goal == Goal::targeted_dlr;
  if (targeted && model.classes() < 4)
    fail("the targeted DLR loss needs four classes, the network has {}", model.classes());
  const int rounds = targeted ? std::min(o.targets, static_cast<int>(model.classes()) - 1) : 1;
  if (rounds < 1) fail("APGD against {} targets: at least 1", o.targets);
  for (int round = 0; round < rounds && !alive.who.empty(); ++round) {
    std::vector<int32_t> targets;
    if (targeted) targets = ranked_targets(alive, images, model.classes(), round + 1);
    Apgd(model, images, o, alive, targets, static_cast<uint64_t>(round)).run([&](double share) {
      if (tick) tick((round + share) / rounds);
    });
  }
  return alive.result;
}

}  // namespace ranvier::robust
