#include "kernels/difference.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/backend.h"
#include "kernels/interrupt.h"
#include "kernels/pixels.h"
#include "kernels/tensor_arguments.h"

namespace ltrp {

namespace {

// LibTorch's reductions and convolutions on a CPU choose how they go about it by the batch and by the number
// of threads, and with that the last bits. Here a variant's values are added up in one order: in pieces that
// its own size decides.
constexpr int64_t kPiece = 4096;
constexpr int kLanes = 16;

// Of the variants' `pieces` each, added up: [m].
std::vector<double> added_up(const std::vector<double>& sums, int64_t variants) {
  std::vector<double> result(static_cast<size_t>(variants));
  const size_t pieces = sums.size() / result.size();
  for (size_t i = 0; i < sums.size(); ++i) result[i / pieces] += sums[i];
  return result;
}

template <typename T, typename Term>
double sum_over(const T* a, const T* b, int64_t count, Term term) {
  std::array<T, kLanes> lanes{};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane)
      lanes[static_cast<size_t>(lane)] += term(a[i + lane] - b[i + lane]);
  }
  double sum = 0;
  for (const T lane : lanes) sum += static_cast<double>(lane);
  for (; i < count; ++i) sum += static_cast<double>(term(a[i] - b[i]));
  return sum;
}

// Mean over a variant's values of term(a - b): [m].
template <typename T, typename Term>
std::vector<double> means_of(const at::Tensor& a, const at::Tensor& b, Term term) {
  const at::Tensor left = a.contiguous(), right = b.contiguous();
  const int64_t m = a.size(0), count = a.numel() / m, pieces = (count + kPiece - 1) / kPiece;
  const T *x = left.const_data_ptr<T>(), *y = right.const_data_ptr<T>();
  std::vector<double> sums(static_cast<size_t>(m * pieces));
  at::parallel_for(0, m * pieces, 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t from = i % pieces * kPiece, at = i / pieces * count + from;
      sums[static_cast<size_t>(i)] = sum_over(x + at, y + at, std::min(kPiece, count - from), term);
    }
  });
  std::vector<double> result = added_up(sums, m);
  for (double& value : result) value /= static_cast<double>(count);
  return result;
}

std::vector<double> absolute_means(const at::Tensor& a, const at::Tensor& b) {
  return AT_DISPATCH_FLOATING_TYPES(a.scalar_type(), "mean_absolute_difference", [&] {
    return means_of<scalar_t>(a, b, [](scalar_t x) { return std::abs(x); });
  });
}

std::vector<double> squared_means(const at::Tensor& a, const at::Tensor& b) {
  return AT_DISPATCH_FLOATING_TYPES(a.scalar_type(), "mean_squared_difference", [&] {
    return means_of<scalar_t>(a, b, [](scalar_t x) { return x * x; });
  });
}

at::Tensor tensor_of(const std::vector<double>& values, const at::Tensor& like) {
  return at::tensor(values, at::kDouble).to(like.scalar_type());
}

constexpr double kSignalRange = 3;
// Equal images have no error, and a ratio without end. The smallest error that float32 has with all its
// digits stands for anything below: some 389 dB.
constexpr double kSmallestError = std::numeric_limits<float>::min();

// In normalised pixels: moves far below it count alike, as none.
constexpr double kLeastMove = 1e-3;

constexpr int64_t kWindow = 11;
constexpr int64_t kMargin = kWindow / 2;

std::array<double, kWindow> gaussian_window() {
  constexpr double kSigma = 1.5;
  std::array<double, kWindow> values{};
  double sum = 0;
  for (int64_t i = 0; i < kWindow; ++i) {
    const double offset = static_cast<double>(i - kMargin) / kSigma;
    sum += values[static_cast<size_t>(i)] = std::exp(-offset * offset / 2);
  }
  for (double& value : values) value /= sum;
  return values;
}

// [m]: the larger of the two images' ranges of values.
at::Tensor larger_span(const at::Tensor& predicted, const at::Tensor& target) {
  const auto span = [](const at::Tensor& x) {
    const at::Tensor flat = x.flatten(1);
    return flat.amax(1) - flat.amin(1);
  };
  return at::maximum(span(predicted), span(target));
}

// Of images [m, 3, H, W], with LibTorch's operators: for other devices, and the reference in float64.
at::Tensor composed_similarity(const at::Tensor& predicted, const at::Tensor& target) {
  const at::Tensor range = larger_span(predicted, target).view({-1, 1, 1, 1});
  const at::Tensor c1 = (0.01 * range).square(), c2 = (0.03 * range).square();
  const std::array<double, kWindow> values = gaussian_window();
  const at::Tensor window =
      at::tensor(at::ArrayRef<double>(values), at::kDouble).to(predicted.device(), predicted.scalar_type());
  const at::Tensor vertical = window.view({1, 1, kWindow, 1}).expand({3, 1, kWindow, 1}).contiguous();
  const at::Tensor horizontal = window.view({1, 1, 1, kWindow}).expand({3, 1, 1, kWindow}).contiguous();
  const Interrupt interrupt = Interrupt::current();
  const auto blur = [&](const at::Tensor& x) {
    const auto depthwise = [&interrupt](const at::Tensor& input, const at::Tensor& weight) {
      interrupt.check();
      return at::conv2d(input, weight, /*bias=*/{}, /*stride=*/{1, 1}, at::IntArrayRef{0, 0},
                        /*dilation=*/{1, 1}, /*groups=*/3);
    };
    return depthwise(depthwise(at::reflection_pad2d(x, {kMargin, kMargin, kMargin, kMargin}), vertical),
                     horizontal);
  };
  const at::Tensor mean_p = blur(predicted), mean_t = blur(target);
  const at::Tensor variance_p = (blur(predicted * predicted) - mean_p * mean_p).clamp_min(0);
  const at::Tensor variance_t = (blur(target * target) - mean_t * mean_t).clamp_min(0);
  const at::Tensor covariance = blur(predicted * target) - mean_p * mean_t;
  const at::Tensor similarity = (2 * mean_p * mean_t + c1) * (2 * covariance + c2) /
                                ((mean_p * mean_p + mean_t * mean_t + c1) * (variance_p + variance_t + c2));
  const at::Tensor p = predicted.select(1, 0).select(1, 0).select(1, 0),
                   t = target.select(1, 0).select(1, 0).select(1, 0);
  const at::Tensor plain = at::where(p.eq(t), at::ones_like(p), 2 * p * t / (p * p + t * t));
  return at::where(range.flatten().eq(0), plain, similarity.mean({1, 2, 3}));
}

}  // namespace

at::Tensor mean_absolute_difference(const at::Tensor& a, const at::Tensor& b) {
  return a.is_cpu() ? tensor_of(absolute_means(a, b), a) : (a - b).abs_().mean({1, 2});
}

at::Tensor mean_squared_difference(const at::Tensor& a, const at::Tensor& b) {
  return a.is_cpu() ? tensor_of(squared_means(a, b), a) : (a - b).square_().mean({1, 2});
}

at::Tensor geometric_mean_difference(const at::Tensor& a, const at::Tensor& b) {
  const int64_t m = a.size(0), patches = a.size(1);
  if (!a.is_cpu()) return geometric_mean_of_variants((a - b).abs_().mean(2).flatten(), m).to(a.scalar_type());
  const std::vector<double> means =
      absolute_means(a.flatten(0, 1).unsqueeze(1), b.flatten(0, 1).unsqueeze(1));
  return geometric_mean_of_variants(at::tensor(means, at::kDouble).view({m, patches}), m).to(a.scalar_type());
}

at::Tensor structural_similarity(const at::Tensor& anchors, const at::Tensor& image,
                                 const ProductRows& changed, bool difference, PatchGrid grid) {
  const int64_t variants = image.size(0), patches = grid.rows * grid.columns, width = anchors.size(2);
  if (variants == 0) return at::empty({0}, anchors.options());
  const int64_t rows = changed.values.size(0) / variants;
  const auto patch_size = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(width) / 3)));
  TORCH_CHECK(std::min(grid.rows, grid.columns) * patch_size >= kWindow,
              "SSIM needs images of at least 11 x 11 pixels");
  TORCH_CHECK(width == 3 * patch_size * patch_size && anchors.size(1) == patches && rows >= patches,
              "patches of another grid");
  const Backend& backend = backend_of(anchors);
  if (backend.similarity == nullptr || anchors.scalar_type() != at::kFloat) {
    const at::Tensor target = anchors.index_select(0, image);
    at::Tensor values = anchors.scalar_type() == at::kFloat ? product_values(changed) : changed.values;
    values = values.view({variants, rows, width}).slice(1, rows - patches);
    if (difference) values = values + target;
    const auto image_of = [&](const at::Tensor& x) {
      return unpatchify_channels_last(x, grid.rows, grid.columns, patch_size);
    };
    return composed_similarity(image_of(values), image_of(target));
  }
  const at::Tensor targets = anchors.contiguous();
  const at::Tensor found = at::empty({variants}, at::kDouble);
  args::Similarity arguments;
  arguments.rows = grid.rows;
  arguments.columns = grid.columns;
  arguments.patch_size = patch_size;
  arguments.image = ints(image);
  arguments.anchor = floats(targets);
  arguments.tokens = rows;
  arguments.changed = product_of(changed, variants * rows, width);
  arguments.difference = difference;
  arguments.out = found.mutable_data_ptr<double>();
  backend.similarity(arguments, variants);
  return found.to(at::kFloat);
}

at::Tensor peak_signal_to_noise(const at::Tensor& squared_error) {
  const double decibels = 10 / std::log(10.0), most = 2 * std::log(kSignalRange);
  if (!squared_error.is_cpu()) {
    return (most - squared_error.clamp_min(kSmallestError).log()) * decibels;
  }
  // LibTorch's logarithm would depend on the place among the others.
  const at::Tensor errors = squared_error.to(at::kDouble).contiguous();
  std::vector<double> values(errors.const_data_ptr<double>(),
                             errors.const_data_ptr<double>() + errors.numel());
  // Written so that NaN stays what it is.
  for (double& value : values) {
    value = (most - std::log(value < kSmallestError ? kSmallestError : value)) * decibels;
  }
  return tensor_of(values, squared_error);
}

// (Π (d + e))^(1/T) − e as e expm1(mean log1p(d / e)), which is 0 where nothing moves.
at::Tensor geometric_mean_of_variants(const at::Tensor& means, int64_t variants) {
  if (!means.is_cpu()) {
    return means.to(at::kDouble)
        .view({variants, -1})
        .div(kLeastMove)
        .log1p_()
        .mean(1)
        .expm1_()
        .mul_(kLeastMove);
  }
  // LibTorch's logarithm would depend on the place among the others.
  const at::Tensor given = means.to(at::kDouble).contiguous();
  std::vector<double> logarithms(given.const_data_ptr<double>(),
                                 given.const_data_ptr<double>() + given.numel());
  for (double& value : logarithms) value = std::log1p(value / kLeastMove);
  std::vector<double> result = added_up(logarithms, variants);
  const auto patches = static_cast<double>(logarithms.size() / result.size());
  for (double& value : result) value = kLeastMove * std::expm1(value / patches);
  return at::tensor(result, at::kDouble);
}

at::Tensor sums_of_variants(const at::Tensor& sums, int64_t variants) {
  if (!sums.is_cpu()) return sums.view({variants, -1}).sum(1);
  const at::Tensor values = sums.contiguous();
  const std::vector<double> given(values.const_data_ptr<double>(),
                                  values.const_data_ptr<double>() + values.numel());
  return at::tensor(added_up(given, variants), at::kDouble);
}

}  // namespace ltrp
