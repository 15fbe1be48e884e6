// The inverse problem's parts: pieces of a recording with a network each, and the compiled residuals of one.
#pragma once
#include <cstdint>
#include <random>
#include <vector>

#include "models/pinn_inverse.h"
#include "models/pinn_segment.h"

namespace ranvier::pinn {

/// Scalars that a piece's residuals depend on besides its network. Each is a known number or a shared unknown.
enum Local { a_, b_, d_, C_, k_, start_, end_, phi0_, u0_, next_phi_, next_u_, locals };

/// A stretch of the recording on which the flow is smooth, with a network on it.
struct Piece {
  int64_t source[locals];  ///< index of the shared unknown, -1: known
  double known[locals];
  bool spike = false;  ///< ends at phi_peak
  bool last = false;   ///< nothing follows: no links
  double current = 0;
  std::vector<double> t, v;  ///< samples
  std::vector<double> theta;

  double value(Local which, const std::vector<double>& shared) const {
    return source[which] >= 0 ? shared[static_cast<size_t>(source[which])] : known[which];
  }
  /// Whether a, C and k are positive, as a neuron's are: a search does not leave these.
  bool is_neuron(const std::vector<double>& shared) const {
    return value(a_, shared) > 0 && value(C_, shared) > 0 && value(k_, shared) > 0;
  }
};

/// Residuals of a piece and their Jacobian, compiled for the longest piece; shorter ones are masked. A row of a
/// Jacobian is [network | locals | residual].
class PieceProgram {
 public:
  /// Room for `samples` samples of this much noise (mV).
  PieceProgram(const Neuron&, const InverseOptions&, int64_t samples, double noise);

  int64_t parameters() const { return shape_.parameters(); }
  const MlpShape& shape() const { return shape_; }
  double u_scale() const { return u_scale_; }
  double phi_peak() const { return phi_peak_; }
  int64_t width() const { return parameters() + locals + 1; }
  int64_t equation_rows() const { return 2 * options_.points; }
  int64_t rows() const { return equation_rows() + samples_ + 2; }

  /// Residuals: equations (2 points) times `precision`, samples over the noise, links to the next piece (phi, u) times
  /// `precision`. Unused samples give zeros.
  std::vector<double> residuals(const Piece&, const std::vector<double>& shared, double precision);
  /// Of the equations alone.
  std::vector<double> equations(const Piece&, const std::vector<double>& shared);
  /// Mean squared residual of the equations at ten times as many new points.
  double fresh_loss(const Piece&, const std::vector<double>& shared, std::mt19937_64& random);
  /// Row-major, rows() x width(), and its parts: equation_rows() of equations; samples and links.
  std::vector<double> block(const Piece&, const std::vector<double>& shared, double precision);
  std::vector<double> equation_block(const Piece&, const std::vector<double>& shared, double precision);
  std::vector<double> data_block(const Piece&, const std::vector<double>& shared, double precision);
  /// phi and u of a piece's network at its end, before a reset.
  Point end(const Piece&, const std::vector<double>& shared) const;

 private:
  struct Trace;
  void set(Program&, const Piece&, const std::vector<double>& shared, double precision);
  void set_data(Program&, const Piece&);

  InverseOptions options_;
  MlpShape shape_;
  int64_t samples_;
  double phi_peak_, u_scale_;
  State state_;
  Program value_, equations_, fresh_, equation_rows_, data_rows_;
};

}  // namespace ranvier::pinn
