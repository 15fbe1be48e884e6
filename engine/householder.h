// Householder QR on columns that lie in memory one after another, with further columns carried along.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace ranvier::optimize {

/// A matrix of `columns` to be made triangular and `extra` more that are reflected with them (right-hand sides,
/// unknowns shared with other blocks). Starts as zeros.
class Qr {
 public:
  Qr(int64_t rows, int64_t columns, int64_t extra = 1)
      : rows_(rows), columns_(columns), all_(columns + extra), a_(static_cast<size_t>(rows * (columns + extra))) {}
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  double* column(int64_t j) { return a_.data() + j * rows_; }
  double& operator()(int64_t i, int64_t j) { return a_[static_cast<size_t>(j * rows_ + i)]; }

  /// Reduces the columns. With `triangle` = k > 0 the first k rows are upper triangular already and row k + j is the
  /// last that column j reaches (a diagonal below a triangle): only what can be non-zero is touched.
  void factor(int64_t triangle = 0);
  /// Solves R x = (column `rhs`) by back substitution; false where a pivot vanishes against the largest.
  bool solve(double* x, int64_t rhs);

 private:
  int64_t rows_, columns_, all_;
  std::vector<double> a_;
};

}  // namespace ranvier::optimize
