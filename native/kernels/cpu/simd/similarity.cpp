// SSIM from patches, one variant at a time, so that its image is never written out in full: the values of a
// pixel lie side by side in a patch as they would in an image, and stay so; the window steps by pixels.
//
// With s = p + t and d = p - t of two images p and t, mean and variance in a window are sums over s and d
// alone, and what SSIM lacks to one is
//   1 - (A - a) (B - b) / ((A + a) (B + b)) = 2 (A b + a B) / ((A + a) (B + b)),
//   A = mean(s)^2 / 2 + c1, a = mean(d)^2 / 2, B = var(s) / 2 + c2, b = var(d) / 2,
// in which nothing cancels where p and t are nearly equal, as they are here.
#include "kernels/cpu/simd/similarity.h"

#include "kernels/cpu/simd/vector.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {
namespace {

constexpr int kWindow = 11;
constexpr int kMargin = kWindow / 2;
constexpr int kColours = 3;
constexpr int kSums = 4;  // blurred: s, d, s^2, d^2
// Rows that are blurred at a time: they share most of what they read.
constexpr int kTogether = LTRP_SIMD_BYTES == 64 ? 4 : 2;

// exp(-x^2 / (2 * 1.5^2)) for x = -5 .. 5, divided by its sum.
constexpr float kWeights[kWindow] = {0.00102838008F, 0.00759875814F, 0.0360007721F, 0.10936069F,
                                     0.213005538F,   0.266011725F,   0.213005538F,  0.10936069F,
                                     0.0360007721F,  0.00759875814F, 0.00102838008F};

struct Sizes {
  int64_t height, width;  // values in a row: three for each pixel
  int64_t line;           // a row with a margin at both ends

  explicit Sizes(const Similarity& args)
      : height(args.rows * args.patch_size),
        width(args.columns * args.patch_size * kColours),
        line(width + 2 * kColours * kMargin + kWidth) {}
};

struct Workspace : Sizes {
  float* sum;         // [height, width]: s
  float* difference;  // [height, width]: d
  float* lines;       // [kTogether, kSums, line]: blurred down the columns

  Workspace(const Similarity& args, float* memory)
      : Sizes(args), sum(memory), difference(sum + height * width), lines(difference + height * width) {}
  float* line_of(int row, int which) const { return lines + (row * kSums + which) * line; }
};

// The larger of both images' spans of values. Infinite or NaN values: NaN.
float span_of(const Workspace& work) {
  const int64_t count = work.height * work.width;
  Floats low_p = fill(3.4e38F), low_t = low_p, high_p = -low_p, high_t = -low_p, unknown = {};
  for (int64_t i = 0;;) {
    const Floats s = load(work.sum + i), d = load(work.difference + i);
    const Floats p = (s + d) * 0.5F, t = (s - d) * 0.5F;
    unknown += s - s;
    low_p = smaller(low_p, p);
    high_p = larger(high_p, p);
    low_t = smaller(low_t, t);
    high_t = larger(high_t, t);
    if (i == count - kWidth) break;
    // The last vector overlaps the one before.
    i = i + kWidth < count - kWidth ? i + kWidth : count - kWidth;
  }
  const float span_p = largest_of(high_p) + largest_of(-low_p),
              span_t = largest_of(high_t) + largest_of(-low_t);
  return (span_p > span_t ? span_p : span_t) + sum_of(unknown);
}

void read_patches(const Similarity& args, int64_t variant, const Workspace& work) {
  const int64_t patches = args.rows * args.columns, segment = args.patch_size * kColours,
                values = segment * args.patch_size;
  const float* anchor = args.anchor + args.image[variant] * patches * values;
  const int64_t first = variant * args.tokens + args.tokens - patches;
  for (int64_t patch = 0; patch < patches; ++patch) {
    const ProductRow changed = row_of(args.changed, first + patch, values);
    const float* from = anchor + patch * values;
    int64_t to = patch / args.columns * args.patch_size * work.width + patch % args.columns * segment;
    for (int64_t y = 0; y < args.patch_size; ++y, to += work.width) {
      for (int64_t x = 0; x < segment; x += kWidth) {
        const int64_t count = segment - x < kWidth ? segment - x : static_cast<int64_t>(kWidth);
        const int64_t at = y * segment + x;
        const Floats t = load_part(from + at, count), given = changed.part(at, count);
        const Floats d = args.difference ? given : given - t;
        store_part(work.difference + to + x, d, count);
        store_part(work.sum + to + x, t + t + d, count);
      }
    }
  }
}

// Rows [y, y + kCount) blurred down the columns, into the first lines.
template <int kCount>
void blur_down(const Workspace& work, int64_t y) {
  constexpr int kRows = kCount + kWindow - 1;
  int64_t rows[kRows];
  for (int k = 0; k < kRows; ++k) {
    int64_t row = y + k - kMargin;
    row = row < 0 ? -row : row >= work.height ? 2 * (work.height - 1) - row : row;
    rows[k] = row * work.width;
  }
  for (int64_t x = 0;;) {
    Floats sums[kCount][kSums] = {};
#pragma GCC unroll 14
    for (int k = 0; k < kRows; ++k) {
      const Floats s = load(work.sum + rows[k] + x), d = load(work.difference + rows[k] + x);
      const Floats ss = s * s, dd = d * d;
#pragma GCC unroll 4
      for (int r = 0; r < kCount; ++r) {
        const int tap = k - r;
        if (tap < 0 || tap >= kWindow) continue;
        const float weight = kWeights[tap];
        sums[r][0] += weight * s;
        sums[r][1] += weight * d;
        sums[r][2] += weight * ss;
        sums[r][3] += weight * dd;
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 4
      for (int i = 0; i < kSums; ++i) store(work.line_of(r, i) + kColours * kMargin + x, sums[r][i]);
    }
    if (x == work.width - kWidth) break;
    x = x + kWidth < work.width - kWidth ? x + kWidth : work.width - kWidth;
  }
  // The images go on by reflection.
  for (int r = 0; r < kCount; ++r) {
    for (int i = 0; i < kSums; ++i) {
      float* first = work.line_of(r, i) + kColours * kMargin;
      float* last = first + work.width - kColours;
      for (int64_t k = 1; k <= kMargin; ++k) {
        for (int64_t c = 0; c < kColours; ++c) {
          first[-k * kColours + c] = first[k * kColours + c];
          last[k * kColours + c] = last[-k * kColours + c];
        }
      }
    }
  }
}

// Blurs a line along the row; what its pixels' similarities lack to one, added up.
float lacking(const Workspace& work, int row, float c1, float c2) {
  Floats total = {};
  for (int64_t x = 0; x < work.width; x += kWidth) {
    Floats blurred[kSums] = {};
#pragma GCC unroll 11
    for (int k = 0; k < kWindow; ++k) {
#pragma GCC unroll 4
      for (int i = 0; i < kSums; ++i)
        blurred[i] += kWeights[k] * load(work.line_of(row, i) + x + k * kColours);
    }
    const Floats mean_s = blurred[0] * blurred[0], mean_d = blurred[1] * blurred[1];
    // Variances are not negative; rounding may say so. NaN stays.
    const Floats b = larger(Floats{}, blurred[3] - mean_d) * 0.5F,
                 bb = larger(Floats{}, blurred[2] - mean_s) * 0.5F + c2;
    const Floats a = mean_d * 0.5F, aa = mean_s * 0.5F + c1;
    const Floats lack = 2.0F * (aa * b + a * bb) / ((aa + a) * (bb + b));
    const int64_t left = work.width - x;
    if (left < kWidth) {
      for (int64_t lane = 0; lane < left; ++lane) total[lane] += lack[lane];
    } else {
      total += lack;
    }
  }
  return sum_of(total);
}

template <int kCount>
double lacking_of_rows(const Workspace& work, int64_t y, float c1, float c2) {
  blur_down<kCount>(work, y);
  double sum = 0;
  for (int r = 0; r < kCount; ++r) sum += static_cast<double>(lacking(work, r, c1, c2));
  return sum;
}

double similarity_of(const Workspace& work, const Stop& stop) {
  const float span = span_of(work);
  if (span == 0) {
    // Two images of one value each have no structure to compare, only brightness.
    const double s = static_cast<double>(work.sum[0]), d = static_cast<double>(work.difference[0]);
    return d == 0 ? 1 : (s * s - d * d) / (s * s + d * d);
  }
  const float c1 = 0.01F * span * (0.01F * span), c2 = 0.03F * span * (0.03F * span);
  double sum = 0;
  int64_t y = 0;
  for (; y + kTogether <= work.height && !stop(); y += kTogether)
    sum += lacking_of_rows<kTogether>(work, y, c1, c2);
  for (; y < work.height && !stop(); ++y) sum += lacking_of_rows<1>(work, y, c1, c2);
  return 1 - sum / static_cast<double>(work.height * work.width);
}

}  // namespace

int64_t similarity_workspace(const Similarity& args) {
  const Sizes sizes(args);
  return 2 * sizes.height * sizes.width + kTogether * kSums * sizes.line;
}

void similarity(const Similarity& args, int64_t begin, int64_t end, float* workspace, const Stop& stop) {
  const Workspace work(args, workspace);
  for (int64_t variant = begin; variant < end && !stop(); ++variant) {
    read_patches(args, variant, work);
    args.out[variant] = similarity_of(work, stop);
  }
}

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
