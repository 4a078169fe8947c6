// DPC-KNN: density peaks with k nearest neighbours (Du, Ding, Jia, Knowledge-Based Systems 99, 2016), as
// docs/method.md, 5 uses it to find patches unlike those that are kept already. For the L patches x_i
// of an image, C values each:
//
//   distance_ij  = |x_i - x_j| / sqrt(C)
//   density_i    = exp(-mean of the squares of the 5 smallest distance_i., its own zero included)
//                  + 1e-6 noise_i
//   separation_i = min of distance_ij over the j with density_j > density_i (with ties_by_noise also over
//                  the j as dense that have the larger noise, or as much and the lower id), the largest
//                  distance of the image where there is none
//   centres      = the K patches with the largest separation * density, the lower id first among equals
//   assignment_i = the nearest centre, the first of the centres' order among equally near ones; a centre
//                  belongs to itself
//
// Five kernels, because each needs all of what the one before yields. Distances are sums of squared
// differences, not |x|^2 + |y|^2 - 2 x y: equal patches have distance 0 and distance_ij has the bits of
// distance_ji, so that ties are ties. What comes out depends on the patches alone, not on the launch.
//
//   kernel      launch                                  bytes an image         work an image, L = 196, C =
//   768 distances   64 x 64 distances a block, 256 threads  4 (2 L/64 L C + L^2)   3 L^2 C FLOPs = 89 MFLOP
//   densities   a warp a patch                          4 L^2                  L^2 comparisons
//   scores      a warp a patch                          8 L^2                  L^2 comparisons
//   centres     a block an image, a key a patch         4 L + 4 K              L log2(L)^2 / 4 exchanges
//   assignment  a thread a patch                        4 L K                  L K comparisons
//
// The first decides: at 89 MFLOP it is bound by arithmetic (an image's patches, 0.6 MB, stay in the L2
// cache). Tensor cores would need the form with the cancellation, for a time that is a hundredth of the
// network's.
#include <cmath>
#include <stdexcept>

#include "kernels/cuda/block_scan.cuh"
#include "kernels/cuda/block_sort.cuh"
#include "kernels/cuda/launchers.h"

namespace ltrp::cuda {
namespace {

using args::DensityPeaks;

constexpr int kNeighbours = 5;  // of the density estimate, the patch itself included
constexpr int kTile = 64;       // patches by patches of a block
constexpr int kDepth = 16;      // values of a patch in shared memory at a time
constexpr int kStride = kTile + 4;
constexpr unsigned kThreads = 256;
constexpr unsigned kRowsPerBlock = kThreads / 32;

// Values [depth, depth + 4) of a patch; zeros beyond its end and for patches that are not there.
template <bool kVectors>
__device__ __forceinline__ float4 four_values(const float* patch, int depth, int values) {
  float4 x{0, 0, 0, 0};
  if (patch == nullptr || depth >= values) return x;
  if (kVectors) return load4(patch + depth);
  x.x = patch[depth];
  if (depth + 1 < values) x.y = patch[depth + 1];
  if (depth + 2 < values) x.z = patch[depth + 2];
  if (depth + 3 < values) x.w = patch[depth + 3];
  return x;
}

// Grid (columns of tiles, rows of tiles, images). A thread has the 4 x 4 distances of 4 neighbouring rows and
// 4 neighbouring columns. In shared memory a patch is a column, so that 4 patches at one depth are 16 bytes;
// columns are 4 apart from a multiple of the banks, which spreads the transposing stores. Each depth of 16
// is summed on its own before it joins the sum: shorter chains of additions, less rounding. Three blocks on a
// multiprocessor leave 80 registers to a thread; with the 64 of four, two values of sm_80's have no place.
template <bool kVectors>
__global__ void __launch_bounds__(kThreads, 3) distances(DensityPeaks a, float per_root) {
  __shared__ Shared<float, kDepth * kStride> rows;
  __shared__ Shared<float, kDepth * kStride> columns;
  const int patches = static_cast<int>(a.patches), values = static_cast<int>(a.values);
  const float* x = a.x + blockIdx.z * a.patches * a.values;
  const int thread = static_cast<int>(threadIdx.x);
  const int first_row = static_cast<int>(blockIdx.y) * kTile,
            first_column = static_cast<int>(blockIdx.x) * kTile;
  // What this thread fetches: 4 values of one patch of either side.
  const int patch = thread / 4, offset = thread % 4 * 4;
  const float* row_patch =
      first_row + patch < patches ? x + static_cast<int64_t>(first_row + patch) * values : nullptr;
  const float* column_patch =
      first_column + patch < patches ? x + static_cast<int64_t>(first_column + patch) * values : nullptr;
  const int row = thread / 16 * 4, column = thread % 16 * 4;

  float sum[4][4] = {};
  for (int depth = 0; depth < values; depth += kDepth) {
    const float4 u = four_values<kVectors>(row_patch, depth + offset, values);
    const float4 v = four_values<kVectors>(column_patch, depth + offset, values);
    __syncthreads();  // the tile before has been read
    rows.store(offset * kStride + patch, u.x);
    rows.store((offset + 1) * kStride + patch, u.y);
    rows.store((offset + 2) * kStride + patch, u.z);
    rows.store((offset + 3) * kStride + patch, u.w);
    columns.store(offset * kStride + patch, v.x);
    columns.store((offset + 1) * kStride + patch, v.y);
    columns.store((offset + 2) * kStride + patch, v.z);
    columns.store((offset + 3) * kStride + patch, v.w);
    __syncthreads();
    float part[4][4] = {};
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      const float4 r = rows.load4(d * kStride + row), c = columns.load4(d * kStride + column);
      const float of_rows[4] = {r.x, r.y, r.z, r.w}, of_columns[4] = {c.x, c.y, c.z, c.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const float apart = of_rows[i] - of_columns[j];
          part[i][j] = fmaf(apart, apart, part[i][j]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sum[i][j] += part[i][j];
    }
  }

  float* to = a.distance + blockIdx.z * a.patches * a.patches;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int r = first_row + row + i, c = first_column + column;
    if (r >= patches) continue;
    float* line = to + static_cast<int64_t>(r) * patches + c;
    const float4 d{sqrtf(sum[i][0]) * per_root, sqrtf(sum[i][1]) * per_root, sqrtf(sum[i][2]) * per_root,
                   sqrtf(sum[i][3]) * per_root};
    if (patches % 4 == 0 && c < patches && aligned16(line)) {
      store4(line, d);
      continue;
    }
    if (c < patches) line[0] = d.x;
    if (c + 1 < patches) line[1] = d.y;
    if (c + 2 < patches) line[2] = d.z;
    if (c + 3 < patches) line[3] = d.w;
  }
}

// The row that a warp has, and its image; rows beyond the last are nobody's.
struct WarpRow {
  int64_t image;
  int patch;
};
__device__ __forceinline__ WarpRow warp_row() {
  return {static_cast<int64_t>(blockIdx.y), static_cast<int>(blockIdx.x * kRowsPerBlock + threadIdx.x / 32)};
}

template <typename T, typename Combine>
__device__ __forceinline__ T warp_reduce(T value, Combine combine) {
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value = combine(value, __shfl_xor_sync(kAllLanes, value, lanes));
  }
  return value;
}

// Puts x among the ascending `nearest`, the last of which falls out: 5 exchanges without a branch.
__device__ __forceinline__ void keep_nearest(float (&nearest)[kNeighbours], float x) {
#pragma unroll
  for (int i = 0; i < kNeighbours; ++i) {
    const float smaller = fminf(nearest[i], x);
    x = fmaxf(nearest[i], x);
    nearest[i] = smaller;
  }
}

// Grid (rows in eights, images). Each lane keeps the 5 smallest of every 32nd distance, then the warp takes
// the smallest of the lanes' first ones 5 times.
__global__ __launch_bounds__(kThreads) void densities(DensityPeaks a) {
  const WarpRow at = warp_row();
  const int patches = static_cast<int>(a.patches), lane = static_cast<int>(threadIdx.x % 32);
  if (at.patch >= patches) return;  // the whole warp
  const float* distance = a.distance + (at.image * patches + at.patch) * patches;
  float nearest[kNeighbours], farthest = 0;
#pragma unroll
  for (float& x : nearest) x = INFINITY;
  for (int other = lane; other < patches; other += 32) {
    const float x = distance[other];
    keep_nearest(nearest, x);
    farthest = fmaxf(farthest, x);
  }
  farthest = warp_reduce(farthest, Larger());
  const int neighbours = patches < kNeighbours ? patches : kNeighbours;
  float squares = 0;
  for (int i = 0; i < neighbours; ++i) {
    const float next = warp_reduce(nearest[0], Smaller());
    squares = fmaf(next, next, squares);
    // The lowest lane that has it gives it up.
    const unsigned owners = __ballot_sync(kAllLanes, nearest[0] == next);
    if ((owners & (0U - owners)) == 1U << lane) {
#pragma unroll
      for (int j = 0; j + 1 < kNeighbours; ++j) nearest[j] = nearest[j + 1];
      nearest[kNeighbours - 1] = INFINITY;
    }
  }
  if (lane != 0) return;
  const int64_t id = at.image * patches + at.patch;
  a.density[id] = expf(-squares / static_cast<float>(neighbours)) + a.noise[id] * 1e-6F;
  a.farthest[id] = farthest;
}

// Grid (rows in eights, images).
__global__ __launch_bounds__(kThreads) void scores(DensityPeaks a) {
  const WarpRow at = warp_row();
  const int patches = static_cast<int>(a.patches), lane = static_cast<int>(threadIdx.x % 32);
  if (at.patch >= patches) return;
  const float* distance = a.distance + (at.image * patches + at.patch) * patches;
  const float* density = a.density + at.image * patches;
  const float* farthest = a.farthest + at.image * patches;
  const float* noise = a.noise + at.image * patches;
  const float own = density[at.patch], own_noise = noise[at.patch];
  float separation = INFINITY, most = 0;
  for (int other = lane; other < patches; other += 32) {
    const bool breaks_tie = noise[other] > own_noise || (noise[other] == own_noise && other < at.patch);
    const bool denser = density[other] > own || (a.ties_by_noise && density[other] == own && breaks_tie);
    if (denser) separation = fminf(separation, distance[other]);
    most = fmaxf(most, farthest[other]);
  }
  // No distance is larger than the largest: it stands in where no patch is denser.
  separation = fminf(warp_reduce(separation, Smaller()), warp_reduce(most, Larger()));
  if (lane == 0) a.score[at.image * patches + at.patch] = separation * own;
}

// Grid: one block an image; shared memory: `padded` keys.
__global__ __launch_bounds__(kThreads) void choose_centres(DensityPeaks a, int padded) {
  DynamicShared<uint64_t> keys(0, padded);
  const int patches = static_cast<int>(a.patches), clusters = static_cast<int>(a.clusters);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const float* score = a.score + blockIdx.x * a.patches;
  for (int patch = thread; patch < padded; patch += threads) {
    keys.store(patch, patch < patches ? falling_key(score[patch], static_cast<uint32_t>(patch)) : kLastKey);
  }
  __syncthreads();
  block_sort(keys, padded);
  for (int cluster = thread; cluster < clusters; cluster += threads) {
    a.centres[blockIdx.x * a.clusters + cluster] = static_cast<int32_t>(lower_half(keys.load(cluster)));
  }
}

// Grid (patches in 256s, images). Neighbouring threads read neighbouring distances of a centre's row.
__global__ __launch_bounds__(kThreads) void assign(DensityPeaks a) {
  const int64_t patches = a.patches, image = blockIdx.y;
  const int patch = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (patch >= patches) return;
  const float* distance = a.distance + image * patches * patches + patch;
  const int32_t* centres = a.centres + image * a.clusters;
  float nearest = INFINITY;
  int assignment = 0;
  for (int cluster = 0; cluster < static_cast<int>(a.clusters); ++cluster) {
    const int centre = __ldg(centres + cluster);
    if (centre == patch) {
      assignment = cluster;
      break;
    }
    const float x = distance[centre * patches];
    if (x < nearest) {
      nearest = x;
      assignment = cluster;
    }
  }
  a.assignment[image * patches + patch] = assignment;
}

}  // namespace

void launch_density_peaks(const args::DensityPeaks& arguments, int64_t images, Stream stream) {
  const int64_t patches = arguments.patches;
  if (patches < 1 || patches > args::kMostSorted) {
    throw std::invalid_argument("clusters are found among 1 to 4096 patches an image");
  }
  if (arguments.values < 1 || arguments.values > INT32_MAX - kDepth) {
    throw std::invalid_argument("patches to cluster need values");
  }
  if (arguments.clusters < 1 || arguments.clusters > patches) {
    throw std::invalid_argument("an image has at least one cluster, and no more than patches");
  }
  if (images < 1) return;
  if (images > 65535) throw std::invalid_argument("at most 65535 images are clustered at a time");
  const auto of_images = static_cast<unsigned>(images);
  const auto tiles = static_cast<unsigned>((patches + kTile - 1) / kTile);
  const auto per_root = static_cast<float>(1 / std::sqrt(static_cast<double>(arguments.values)));
  const bool vectors = arguments.values % 4 == 0 && aligned16(arguments.x);
  launch(vectors ? distances<true> : distances<false>, dim3(tiles, tiles, of_images), dim3(kThreads), 0,
         stream, arguments, per_root);
  const dim3 rows(static_cast<unsigned>((patches + kRowsPerBlock - 1) / kRowsPerBlock), of_images);
  launch(densities, rows, dim3(kThreads), 0, stream, arguments);
  launch(scores, rows, dim3(kThreads), 0, stream, arguments);
  const int padded = padded_to_power(patches, 64);
  const unsigned threads = padded / 2 < static_cast<int>(kThreads) ? padded / 2 : kThreads;
  launch(choose_centres, dim3(of_images), dim3(threads), padded * static_cast<int64_t>(sizeof(uint64_t)),
         stream, arguments, padded);
  launch(assign, dim3(static_cast<unsigned>((patches + kThreads - 1) / kThreads), of_images), dim3(kThreads),
         0, stream, arguments);
}

}  // namespace ltrp::cuda
