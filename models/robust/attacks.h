// Adversarial attacks in pixel space, L-infinity: FGSM, PGD, APGD and Square on a compiled network.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "engine/session.h"

namespace ranvier::robust {

/// Images to attack, pixels in [0, 1].
struct Images {
  int64_t height = 0, width = 0;  ///< RGB
  std::vector<float> pixels;      ///< (n, height, width, 3)
  std::vector<int32_t> labels;    ///< (n)
  int64_t size() const { return static_cast<int64_t>(labels.size()); }
  int64_t values() const { return height * width * 3; }
};

/// What an attacker climbs, one value an image.
enum class Goal {
  cross_entropy,
  /// Targeted difference-of-logits ratio, -(z_y - z_t) / (z_1st - (z_3rd + z_4th) / 2) (Croce and Hein 2020, eq. 7).
  targeted_dlr,
};

/// The network as an attacker sees it: pixels in [0, 1], through the normalisation, in evaluation mode. Gradients come
/// from the engine's reverse sweep with respect to the pixels; goal, logits and gradient are one Program.
class AttackedModel {
 public:
  using Classifier = std::function<Tensor(Tensor normalised)>;
  /// `bindings` swaps slabs, as Session::eval_program does. The session must compute in f32 (else Error): gradients
  /// that vanish in 16 bits look like robustness.
  AttackedModel(Session& session, Classifier net, const std::array<float, 3>& mean, const std::array<float, 3>& std,
                int64_t height, int64_t width, int64_t classes, std::map<std::string, std::string> bindings = {});

  int64_t classes() const { return classes_; }
  /// Logits (n, classes) of n images.
  std::vector<float> logits(std::span<const float> pixels);
  struct Slope {
    std::vector<float> logits, goal, gradient;  ///< (n, classes), (n), (n, height, width, 3)
  };
  /// Goal and gradient of each image; `targets` are read by targeted_dlr only, which needs four classes (else Error).
  void slope(Goal goal, std::span<const float> pixels, std::span<const int32_t> labels,
             std::span<const int32_t> targets, Slope& result);

 private:
  Program& program(int kind, int64_t batch);  // kind: the goal, or -1 for logits alone

  Session& session_;
  Classifier net_;
  std::array<float, 3> mean_, std_;
  int64_t height_, width_, classes_;
  std::map<std::string, std::string> bindings_;
  std::map<std::pair<int, int64_t>, Program> programs_;
};

/// What an attack did. An image counts as broken once any point that the attack looked at is misclassified: the attack
/// keeps that point and leaves the image alone from there on.
struct AttackResult {
  std::vector<uint8_t> broken;  ///< (n); images that are misclassified as they are count too
  std::vector<float> pixels;    ///< (n, height, width, 3): the point that broke it, else the last or best one
  int64_t gradients = 0;        ///< images whose gradient was taken
  int64_t queries = 0;          ///< images whose logits were taken, gradients included
  int64_t zero_gradients = 0;   ///< first gradients of an image that were zero in every pixel
  double robust_accuracy() const;
};

/// Called with the share of the work done; may throw to stop.
using Tick = std::function<void(double share)>;

struct PgdOptions {
  double epsilon = 8.0 / 255, step = 2.0 / 255;
  int iterations = 20, restarts = 1;
  bool random_start = true;
  bool stop = true;  ///< at the first point that breaks the image; false walks all the way
  uint64_t seed = 0;
};
/// Projected gradient ascent on cross-entropy (Madry et al. 2018).
AttackResult pgd(AttackedModel& model, const Images& images, const PgdOptions& options, const Tick& tick = {});
/// One step of size epsilon from the image itself (Goodfellow et al. 2015).
AttackResult fgsm(AttackedModel& model, const Images& images, double epsilon);

struct ApgdOptions {
  double epsilon = 8.0 / 255;
  int iterations = 100;
  Goal goal = Goal::cross_entropy;
  int targets = 9;  ///< of targeted_dlr: the classes that follow the true one in the image's own logits
  uint64_t seed = 0;
};
/// Auto-PGD (Croce and Hein 2020, algorithm 1): momentum, a step that halves itself where ascent stalls, the best point
/// kept. The targeted form attacks one class after the other, at most classes - 1.
AttackResult apgd(AttackedModel& model, const Images& images, const ApgdOptions& options, const Tick& tick = {});

struct SquareOptions {
  double epsilon = 8.0 / 255;
  int queries = 5000;
  double share = 0.8;  ///< of the image that the first squares cover
  uint64_t seed = 0;
  /// Sees after each query, for every image still attacked, its index and its margin: what the tests watch.
  std::function<void(int64_t image, double margin)> watch = {};
};
/// Random search by squares of colour, without gradients (Andriushchenko et al. 2020); the margin z_y - max other never
/// rises.
AttackResult square(AttackedModel& model, const Images& images, const SquareOptions& options, const Tick& tick = {});

}  // namespace ranvier::robust
