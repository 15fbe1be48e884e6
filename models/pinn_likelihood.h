// The last stage of the inverse problem: parameters of highest likelihood, with the equations met exactly.
#pragma once
#include <functional>
#include <optional>
#include <vector>

#include "models/pinn_pieces.h"

namespace ranvier::pinn {

/// The recording as a function of the unknown parameters alone: every piece's network solves the equations from the
/// state that the piece before it ends in, spike times follow from the equations, and nothing else can bend to the
/// noise. With white noise the least-squares fit of that function is the maximum-likelihood estimate, which attains the
/// Cramer-Rao bound, and the inverse of J'J / noise^2 is its covariance. Derivatives are those of the implicit
/// function: along a piece J_x dx = -J_y dy, x the network and the time of its spike, y the parameters and the state at
/// its start.
class Likelihood {
 public:
  /// Starts from pieces and shared unknowns of which the first `parameters` are wanted; the others (times, states) are
  /// solved for. `program` must outlive it.
  Likelihood(PieceProgram& program, std::vector<Piece> pieces, std::vector<double> shared, int64_t parameters);

  struct Result {
    bool converged = false;
    int64_t iterations = 0, samples = 0;
    double misfit = 0;                       ///< sum of squared residuals over the squared noise given
    double distance = 0;                     ///< from the maximum, in standard errors, by the last linearisation
    double equations = 0;                    ///< mean squared residual of the equations, the worst piece's
    std::optional<size_t> unsolved;          ///< where no piece's network met the equations, so that the search ended
    std::vector<double> shared, covariance;  ///< covariance (parameters, parameters) for a noise of that size
  };
  /// Levenberg-Marquardt on the parameters.
  Result run(int64_t iterations, const std::function<bool(int64_t iteration, double misfit)>& progress = {});
  /// What the search stands at, or, where the start was not solved, as far as it was.
  const std::vector<Piece>& pieces() const { return accepted_.pieces; }
  const std::vector<double>& shared() const { return accepted_.shared; }

 private:
  /// A piece's solution and how it moves with the parameters.
  struct Solved {
    std::vector<Piece> pieces;
    std::vector<double> shared;
    std::vector<double> slopes;              ///< of the shared unknowns, (shared, parameters)
    std::vector<std::vector<double>> theta;  ///< of the networks, (network, parameters) each
  };
  bool follow(const std::vector<double>& at, Solved& state);
  bool solve(Piece& piece, std::vector<double>& shared);
  bool differentiate(Solved& state, size_t index, std::vector<double>* rows);
  void residuals(std::span<const double> at, std::span<double> r, std::span<double> jacobian);

  PieceProgram& program_;
  int64_t parameters_, samples_ = 0;
  double worst_ = 0;
  bool began_ = false;              // the start has been solved
  std::optional<size_t> unsolved_;  // where `follow` ended last, if it failed
  std::mt19937_64 random_{0};
  Solved accepted_;
};

}  // namespace ranvier::pinn
