// The filters of the whitening layer: an eigen-decomposition of the 12x12 second moment of image patches.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/vision.h"

namespace ranvier::models {
namespace {

constexpr int size = 12;  // 2 x 2 x 3 values of a patch, in the order (r, s, c)
using Matrix = std::array<std::array<double, size>, size>;

/// Sum over all patches of the outer product, one image after the other (a fixed order).
Matrix second_moment(std::span<const uint8_t> images, int64_t h, int64_t w, const std::array<float, 3>& mean,
                     const std::array<float, 3>& std) {
  const int64_t pixels = h * w * 3, count = static_cast<int64_t>(images.size()) / pixels;
  std::array<std::array<double, 256>, 3> value;
  for (size_t c = 0; c < 3; ++c)
    for (size_t v = 0; v < 256; ++v) value[c][v] = (static_cast<double>(v) / 255.0 - mean[c]) / std[c];
  Matrix total{};
  for (int64_t n = 0; n < count; ++n) {
    Matrix sum{};
    const uint8_t* image = images.data() + n * pixels;
    for (int64_t y = 0; y + 1 < h; ++y)
      for (int64_t x = 0; x + 1 < w; ++x) {
        double patch[size];
        for (int r = 0; r < 2; ++r)
          for (int s = 0; s < 2; ++s)
            for (size_t c = 0; c < 3; ++c)
              patch[(r * 2 + s) * 3 + static_cast<int>(c)] =
                  value[c][image[((y + r) * w + x + s) * 3 + static_cast<int64_t>(c)]];
        for (int i = 0; i < size; ++i)
          for (int j = 0; j <= i; ++j) sum[i][j] += patch[i] * patch[j];
      }
    for (int i = 0; i < size; ++i)
      for (int j = 0; j <= i; ++j) total[i][j] += sum[i][j];
  }
  const double patches = static_cast<double>(count * (h - 1) * (w - 1));
  for (int i = 0; i < size; ++i)
    for (int j = 0; j <= i; ++j) total[j][i] = total[i][j] /= patches;
  return total;
}

/// Cyclic Jacobi: a becomes diagonal, the columns of the result are its eigenvectors.
Matrix jacobi(Matrix& a) {
  Matrix v{};
  for (int i = 0; i < size; ++i) v[i][i] = 1;
  for (int sweep = 0; sweep < 50; ++sweep) {
    double off = 0;
    for (int p = 0; p < size; ++p)
      for (int q = 0; q < p; ++q) off += a[p][q] * a[p][q];
    if (off < 1e-30) break;
    for (int p = 0; p < size; ++p)
      for (int q = p + 1; q < size; ++q) {
        if (a[p][q] == 0) continue;
        const double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
        const double t = std::copysign(1.0, theta) / (std::abs(theta) + std::sqrt(theta * theta + 1));
        const double c = 1 / std::sqrt(t * t + 1), s = t * c;
        for (int i = 0; i < size; ++i) {
          const double x = a[i][p], y = a[i][q];
          a[i][p] = c * x - s * y, a[i][q] = s * x + c * y;
        }
        for (int i = 0; i < size; ++i) {
          const double x = a[p][i], y = a[q][i];
          a[p][i] = c * x - s * y, a[q][i] = s * x + c * y;
        }
        for (int i = 0; i < size; ++i) {
          const double x = v[i][p], y = v[i][q];
          v[i][p] = c * x - s * y, v[i][q] = s * x + c * y;
        }
      }
  }
  return v;
}

}  // namespace

Whitening whitening(std::span<const uint8_t> images, int64_t height, int64_t width, const std::array<float, 3>& mean,
                    const std::array<float, 3>& std) {
  if (height < 2 || width < 2 || images.size() < static_cast<size_t>(height * width * 3))
    fail("whitening: needs at least one image of 2x2 pixels, got {} bytes of {}x{}", images.size(), height, width);
  Matrix moment = second_moment(images, height, width, mean, std);
  const Matrix vectors = jacobi(moment);
  std::array<int, size> order;
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return moment[a][a] > moment[b][b]; });
  Whitening result;
  result.filters.resize(2 * size * size);
  for (int k = 0; k < size; ++k) {
    const int column = order[k];
    result.eigenvalues[k] = moment[column][column];
    int largest = 0;
    for (int i = 1; i < size; ++i)
      if (std::abs(vectors[i][column]) > std::abs(vectors[largest][column])) largest = i;
    const double scale = std::copysign(1.0, vectors[largest][column]) / std::sqrt(result.eigenvalues[k] + 5e-4);
    for (int i = 0; i < size; ++i) {
      const auto filter = static_cast<float>(vectors[i][column] * scale);
      result.filters[k * size + i] = filter;
      result.filters[(size + k) * size + i] = -filter;
    }
  }
  return result;
}

void set_whitening(State& state, const Whitening& whitening) {
  if (state.parameter_type() == DType::f64) {
    const std::vector<double> wide(whitening.filters.begin(), whitening.filters.end());
    state.set<double>("buffers", "whiten.weight", wide);
  } else {
    state.set<float>("buffers", "whiten.weight", whitening.filters);
  }
}

}  // namespace ranvier::models
