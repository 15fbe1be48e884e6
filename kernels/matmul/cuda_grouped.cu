// Many small products of different shapes in one launch: the Newton-Schulz iterations of Muon over all its matrices.
//
// A matrix of a network has some 100 to 1000 rows: a handful of 64 x 64 tiles, of which one product alone would leave
// most of a device idle. Here the tiles of all products are the blocks of one launch, a product's share of them
// following from its shape; deep products (grams of wide matrices) are split over the depth besides, and their sums
// added in order by a second launch.
#include <stdexcept>

#include "kernels/matmul/cuda_simt.cuh"
#include "kernels/matmul/cuda_tensor.cuh"

namespace ranvier::kernels {
namespace {

constexpr int tile = 64, tile_elements = tile * tile;
constexpr size_t most_products = 24;  // their descriptions are kernel arguments, of at most 4 KB

template <class T>
struct Entry {
  MatmulTiles tiles;
  const T *a, *b, *c;
  T* d;
  int64_t first_item, first_tile;  // this product's blocks and result tiles among those of the group
  float* partial;                  // (tile, split, 64, 64) where the depth is split
  bool symmetric;

  RANVIER_HD int64_t results() const {
    return symmetric ? tiles.rows * (tiles.rows + 1) / 2 : tiles.rows * tiles.columns;
  }
};

template <class T>
struct Group {
  Entry<T> entry[most_products];
  int count;
  float alpha, beta;
};
static_assert(sizeof(Group<bf16>) + 64 <= 4096);

/// The product that item (or result tile, by `first`) number `at` belongs to.
template <class T>
__device__ const Entry<T>& entry_of(const Group<T>& group, int64_t Entry<T>::*first, int64_t at) {
  int e = 0;
  while (e + 1 < group.count && group.entry[e + 1].*first <= at) ++e;
  return group.entry[e];
}

/// First row and column of result tile `index`; lower triangle by rows where the product is symmetric.
template <class T>
__device__ int2 place_of(const Entry<T>& entry, int64_t index) {
  int64_t row = index / entry.tiles.columns, column = index % entry.tiles.columns;
  if (entry.symmetric)
    for (row = 0, column = index; column > row; ++row) column -= row + 1;
  return make_int2(static_cast<int>(row * tile), static_cast<int>(column * tile));
}

/// Writes alpha x + beta c at one place of the result, and at the mirrored one.
template <class T>
__device__ __forceinline__ void finish(const Group<T>& group, const Entry<T>& entry, int64_t row, int64_t column,
                                       float x) {
  const int64_t n = entry.tiles.dims.n;
  if (row >= entry.tiles.dims.m || column >= n || (entry.symmetric && column > row)) return;
  float value = product(group.alpha, x);
  if (group.beta != 0) value = fused(group.beta, to_float(entry.c[row * n + column]), value);
  entry.d[row * n + column] = from_float<T>(value);
  if (entry.symmetric && row != column) entry.d[column * n + row] = from_float<T>(value);
}

/// Calls put(i, j, x, y) for each pair of neighbouring sums of this thread's part of a tile.
template <class T, class Put>
__device__ __forceinline__ void tile_product(const Entry<T>& entry, const MatmulItem& item, unsigned char* shared,
                                             int64_t row, int64_t column, Put&& put) {
  const MatmulDims& d = entry.tiles.dims;
  const MatmulViews<T> views = views_of(entry.tiles, item, entry.a, entry.b);
  const int64_t depth = item.split * entry.tiles.split_depth;
  const int64_t depth_end = min(depth + entry.tiles.split_depth, d.k);
  if constexpr (sizeof(T) == 2) {
    const auto by_layout = [&]<Major a, Major b>() {
      SmallBlock<T, a, b> block;
      if (d.k > 0)
        product_of_block(block, shared, views, entry.a, entry.b, row, column, depth, depth_end);
      else
        block.clear();
      block.for_each_pair(put);
    };
    if (d.transpose_a && d.transpose_b)
      by_layout.template operator()<Major::extent, Major::depth>();
    else if (d.transpose_a)
      by_layout.template operator()<Major::extent, Major::extent>();
    else if (d.transpose_b)
      by_layout.template operator()<Major::depth, Major::depth>();
    else
      by_layout.template operator()<Major::depth, Major::extent>();
  } else {
    SimtBlock<float, tile, 16> block;
    block.accumulate(reinterpret_cast<float*>(shared), views, d.transpose_a, d.transpose_b, row, column, depth,
                     depth_end);
    block.for_each_vector([&](int i, int j, const float(&v)[4]) { put(i, j, v[0], v[1]), put(i, j + 2, v[2], v[3]); });
  }
}

template <class T>
constexpr int block_threads = sizeof(T) == 2 ? 128 : 256;
template <class T>
constexpr size_t block_shared = sizeof(T) == 2 ? SmallBlock<bf16, Major::depth, Major::depth>::shared_bytes
                                               : SimtBlock<float, tile, 16>::shared_elements * sizeof(float);

template <class T>
__global__ void __launch_bounds__(block_threads<T>, 2) grouped_kernel(const __grid_constant__ Group<T> group) {
  RANVIER_DYNAMIC_SHARED(shared);
  const Entry<T>& entry = entry_of(group, &Entry<T>::first_item, blockIdx.x);
  const int64_t item = blockIdx.x - entry.first_item, splits = entry.tiles.splits;
  const int2 place = place_of(entry, item / splits);
  float* partial = entry.partial + item * tile_elements;
  tile_product(entry, {0, static_cast<int>(item % splits), 0, 0}, shared, place.x, place.y,
               [&](int i, int j, float x, float y) {
                 if (splits > 1) {
                   *reinterpret_cast<float2*>(partial + i * tile + j) = make_float2(x, y);
                 } else {
                   finish(group, entry, place.x + i, place.y + j, x);
                   finish(group, entry, place.x + i, place.y + j + 1, y);
                 }
               });
}

constexpr int finish_threads = 256;

/// A block adds the splits of one result tile in order.
template <class T>
__global__ void grouped_finish_kernel(const __grid_constant__ Group<T> group) {
  const Entry<T>& entry = entry_of(group, &Entry<T>::first_tile, blockIdx.x);
  const int64_t splits = entry.tiles.splits, index = blockIdx.x - entry.first_tile;
  if (splits == 1) return;
  const int2 place = place_of(entry, index);
  const float* partial = entry.partial + index * splits * tile_elements;
  for (int e = static_cast<int>(threadIdx.x); e < tile_elements; e += finish_threads) {
    float sum = partial[e];
    for (int64_t s = 1; s < splits; ++s) sum += partial[s * tile_elements + e];
    finish(group, entry, place.x + e / tile, place.y + e % tile, sum);
  }
}

/// The cut of one product within a group that has `results` tiles in all.
template <class T>
MatmulCudaCut cut_of(const GroupedProduct<T>& p, int64_t results) {
  const int64_t own = ((p.m + tile - 1) / tile) * ((p.n + tile - 1) / tile);
  // the rule for one product, as if it had all the group's tiles
  const int64_t like = std::max<int64_t>(results / std::max<int64_t>(own, 1), 1);
  return matmul_cuda_cut({like, p.m, p.n, p.k}, tile, 64 / static_cast<int64_t>(sizeof(T)));
}

/// One launch's worth of products, described; partial results from `workspace` on.
template <class T>
struct Plan {
  Group<T> group{};
  int64_t items = 0, results = 0;
  size_t partial_elements = 0;
};

template <class T>
Plan<T> plan_of(std::span<const GroupedProduct<T>> products, float* workspace) {
  Plan<T> plan;
  int64_t results = 0;
  for (const auto& p : products) {
    if (p.symmetric && p.m != p.n) throw std::runtime_error("matmul_grouped: a symmetric product that is not square");
    const int64_t rows = (p.m + tile - 1) / tile, columns = (p.n + tile - 1) / tile;
    results += p.symmetric ? rows * (rows + 1) / 2 : rows * columns;
  }
  for (const auto& p : products) {
    if (p.m == 0 || p.n == 0) continue;
    Entry<T>& entry = plan.group.entry[plan.group.count++];
    const MatmulDims d{1, p.m, p.n, p.k, p.transpose_a, p.transpose_b};
    entry = {matmul_tiles(d, cut_of(p, results), p.a, p.b, p.d, 2 * sizeof(T)),
             p.a,
             p.b,
             p.c,
             p.d,
             plan.items,
             plan.results,
             nullptr,
             p.symmetric};
    const int64_t splits = entry.tiles.splits;
    if (splits > 1) {
      entry.partial = workspace + plan.partial_elements;
      plan.partial_elements += static_cast<size_t>(entry.results() * splits * tile_elements);
    }
    plan.items += entry.results() * splits, plan.results += entry.results();
  }
  return plan;
}

/// Calls body(products of one launch).
template <class T, class Body>
void by_launch(std::span<const GroupedProduct<T>> products, Body&& body) {
  for (size_t first = 0; first < products.size(); first += most_products)
    body(products.subspan(first, std::min(most_products, products.size() - first)));
}

}  // namespace

template <class T>
size_t matmul_grouped_workspace(std::span<const GroupedProduct<T>> products) {
  size_t most = 0;
  by_launch(products, [&](std::span<const GroupedProduct<T>> part) {
    most = std::max(most, plan_of<T>(part, nullptr).partial_elements * sizeof(float));
  });
  return most;
}

template <class T>
void matmul_grouped(std::span<const GroupedProduct<T>> products, float alpha, float beta, void* workspace,
                    CudaStream stream) {
  by_launch(products, [&](std::span<const GroupedProduct<T>> part) {
    Plan<T> plan = plan_of(part, static_cast<float*>(workspace));
    plan.group.alpha = alpha, plan.group.beta = beta;
    launch(grouped_kernel<T>, {static_cast<unsigned>(plan.items), block_threads<T>, block_shared<T>, stream},
           plan.group);
    if (plan.partial_elements)
      launch(grouped_finish_kernel<T>, {static_cast<unsigned>(plan.results), finish_threads, 0, stream}, plan.group);
  });
}

#define RANVIER_INSTANTIATE(T)                                                     \
  template size_t matmul_grouped_workspace<T>(std::span<const GroupedProduct<T>>); \
  template void matmul_grouped<T>(std::span<const GroupedProduct<T>>, float, float, void*, CudaStream);
RANVIER_INSTANTIATE(bf16)
RANVIER_INSTANTIATE(f16)
RANVIER_INSTANTIATE(float)
#undef RANVIER_INSTANTIATE

}  // namespace ranvier::kernels
