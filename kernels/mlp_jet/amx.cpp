// The `amx` variant: wide f32 networks whose products run on AMX's tiles, in three bf16 parts an operand.
#include "kernels/matmul/amx_tiles.h"
#include "kernels/mlp_jet/wide.h"

namespace ranvier::kernels::cpu {
namespace {

/// Thinner matrices would leave most of a tile empty.
constexpr int64_t thinnest = 32;

bool fills_tiles(const MlpDims& d, int64_t l) { return d.width[l] >= thinnest && d.width[l + 1] >= thinnest; }

/// As `Panels`. Layers that fill no tiles, and numbers that cannot be split, go there.
class Tiles {
 public:
  Tiles(const MlpDims& d, const float* theta, bool forward, Carver& carve) : d_(d), panels_(d, theta, forward, carve) {
    for (int64_t l = 0; l < d.layers; ++l) {
      weights_[l] = nullptr;
      if (!fills_tiles(d, l)) continue;
      const int64_t in = d.width[l], out = d.width[l + 1];
      auto* tiles = carve.take<uint16_t>(weight_size(d, l, forward));
      const float* w = theta + d.offset(l);
      const bool fits = forward ? amx::split_rows(w, out, in, in, tiles) : amx::split_columns(w, in, out, in, tiles);
      if (!fits) continue;
      if (forward) amx::turn(tiles, out, in);
      weights_[l] = tiles;
    }
  }
  static size_t bytes(const MlpDims& d, bool forward) {
    size_t sum = wide::Panels<float>::bytes(d, forward);
    for (int64_t l = 0; l < d.layers; ++l)
      if (fills_tiles(d, l)) sum += Carver::bytes<uint16_t>(weight_size(d, l, forward));
    return sum;
  }

  struct Thread {
    wide::Panels<float>::Thread panels;
    uint16_t *left, *right, *turned;
    amx::Session session;
    Thread(const MlpDims& d, bool forward, Carver& carve)
        : panels(d, forward, carve),
          left(carve.take<uint16_t>(elements(d))),
          right(forward ? nullptr : carve.take<uint16_t>(elements(d))),
          turned(forward ? nullptr : carve.take<uint16_t>(elements(d))) {}
    static size_t bytes(const MlpDims& d, bool forward) {
      return wide::Panels<float>::Thread::bytes(d, forward) + (forward ? 1 : 3) * Carver::bytes<uint16_t>(elements(d));
    }
    static int64_t elements(const MlpDims& d) {
      return amx::tiles_size(2 * wide::chunk_points<float>, wide::widest(d));
    }
  };

  void forward(int64_t l, int64_t rows, const float* a, float* z, Thread& thread) const {
    const int64_t in = d_.width[l], out = d_.width[l + 1];
    if (!weights_[l] || !amx::split_rows(a, rows, in, in, thread.left))
      return panels_.forward(l, rows, a, z, thread.panels);
    amx::multiply(rows, in, out, thread.left, weights_[l], z, out, false);
  }
  void backward(int64_t l, int64_t rows, const float* g, const float* a, float* dw, float* below,
                Thread& thread) const {
    const int64_t in = d_.width[l], out = d_.width[l + 1];
    if (!weights_[l] || !amx::split_rows(g, rows, out, out, thread.left) ||
        !amx::split_columns(a, in, rows, in, thread.right))
      return panels_.backward(l, rows, g, a, dw, below, thread.panels);
    amx::transpose(thread.left, rows, out, thread.turned);
    amx::multiply(out, rows, in, thread.turned, thread.right, dw, in, true);
    if (below) amx::multiply(rows, out, in, thread.left, weights_[l], below, in, false);
  }

 private:
  static int64_t weight_size(const MlpDims& d, int64_t l, bool forward) {
    return forward ? amx::tiles_size(d.width[l + 1], d.width[l]) : amx::tiles_size(d.width[l], d.width[l + 1]);
  }

  const MlpDims& d_;
  wide::Panels<float> panels_;
  const uint16_t* weights_[MlpDims::max_layers];
};

using TilePasses = wide::Passes<float, Tiles>;

}  // namespace

bool mlp_jet_amx_runs(const MlpDims& d) {
  if (d.narrow() || !amx::available()) return false;
  for (int64_t l = 0; l < d.layers; ++l)
    if (fills_tiles(d, l)) return true;
  return false;
}
size_t mlp_jet_amx_workspace(const MlpDims& d) { return TilePasses::forward_workspace(d); }
size_t mlp_jet_backward_amx_workspace(const MlpDims& d) { return TilePasses::backward_workspace(d); }

void mlp_jet_amx(const MlpDims& d, const float* x, const float* dx, const float* theta, float* y, float* dy,
                 float* state, void* workspace) {
  TilePasses::forward(d, x, dx, theta, y, dy, state, workspace);
}
void mlp_jet_backward_amx(const MlpDims& d, const float* x, const float* dx, const float* theta, const float* state,
                          const float* gy, const float* gdy, float* dtheta, float* gx, float* gdx, void* workspace) {
  TilePasses::backward(d, x, dx, theta, state, gy, gdy, dtheta, gx, gdx, workspace);
}

}  // namespace ranvier::kernels::cpu
