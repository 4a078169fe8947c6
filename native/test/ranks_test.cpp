// Gradients added up over ranks, which are threads here, in float64: step by step the curve of one rank.
#include "core/ranks/ranks.h"

#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <cmath>
#include <thread>

#include "core/training/gradient_sum.h"

namespace ltrp::test {
namespace {

constexpr int64_t kBatch = 7, kSteps = 8, kInputs = 8, kHidden = 16, kOutputs = 4;

at::Tensor random(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed), at::kDouble);
}

// The last one has a gradient from picture 0 alone: most ranks have none for it.
std::vector<at::Tensor> start_weights() {
  std::vector<at::Tensor> weights = {random({kInputs, kHidden}, 1), random({kHidden}, 2),
                                     random({kHidden, kOutputs}, 3), random({kOutputs}, 4),
                                     random({kOutputs}, 5)};
  for (at::Tensor& weight : weights) weight.mul_(0.3).set_requires_grad(true);
  return weights;
}

at::Tensor loss_of(const std::vector<at::Tensor>& weights, int64_t picture, int64_t step) {
  const at::Tensor input = random({1, kInputs}, 100 * static_cast<uint64_t>(step + 1) + picture);
  at::Tensor output = at::gelu(input.matmul(weights[0]) + weights[1]).matmul(weights[2]) + weights[3];
  if (picture == 0) output = output * weights[4].exp();
  return (output - input.narrow(1, 0, kOutputs).sin()).square().sum();
}

// Losses of the whole batch by step, as one rank sees them; `ranks` may be null.
std::vector<double> curve(const std::shared_ptr<Ranks>& ranks) {
  const int64_t rank = ranks ? ranks->rank() : 0, size = ranks ? ranks->size() : 1;
  const std::vector<at::Tensor> weights = start_weights();
  std::vector<at::Tensor> momenta;
  for (const at::Tensor& weight : weights) momenta.push_back(at::zeros_like(weight.detach()));
  std::unique_ptr<GradientSum> sum;
  if (ranks) sum = std::make_unique<GradientSum>(weights, ranks);
  std::vector<double> losses;
  for (int64_t step = 0; step < kSteps; ++step) {
    at::Tensor total = at::zeros({1}, at::kDouble);
    for (int64_t picture = rank; picture < kBatch; picture += size) {
      if (sum && picture + size >= kBatch) sum->last_pass();
      const at::Tensor loss = loss_of(weights, picture, step) / static_cast<double>(kBatch);
      loss.backward();
      total += loss.detach();
    }
    if (sum) {
      sum->finish();
      ranks->sum(total);
    }
    losses.push_back(total.item<double>());
    for (size_t i = 0; i < weights.size(); ++i) {
      at::Tensor values = weights[i].detach(), gradient = weights[i].grad();
      values.sub_(momenta[i].mul_(0.9).add_(gradient), 0.02);
      gradient.zero_();
    }
  }
  return losses;
}

// What each of `size` ranks sees.
std::vector<std::vector<double>> curves(int64_t size, Reduction reduction) {
  const RankStore store;
  std::vector<std::vector<double>> result(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      RanksOptions options;
      options.rank = rank;
      options.size = size;
      options.host = "127.0.0.1";
      options.port = store.port();
      options.store_owner = "the test";
      options.reduction = reduction;
      options.bucket_bytes = 512;  // several buckets
      const std::shared_ptr<Ranks> ranks = Ranks::join(options, {});
      result[static_cast<size_t>(rank)] = curve(ranks);
      ranks->leave();
    });
  }
  for (std::thread& thread : threads) thread.join();
  return result;
}

double largest_difference(const std::vector<double>& got, const std::vector<double>& expected) {
  REQUIRE(got.size() == expected.size());
  double largest = 0;
  for (size_t step = 0; step < got.size(); ++step)
    largest = std::max(largest, std::abs(got[step] / expected[step] - 1));
  return largest;
}

TEST_CASE("sums of gradients over 2 and 4 ranks: step by step the curve of one, in float64") {
  const std::vector<double> one = curve(nullptr);
  CHECK(one.back() < 0.7 * one.front());
  for (const int64_t size : {2, 4}) {
    CAPTURE(size);
    for (const std::vector<double>& seen : curves(size, Reduction::kFloat32))
      CHECK(largest_difference(seen, one) < 1e-13);
  }
  const double rounded = largest_difference(curves(2, Reduction::kBFloat16)[0], one);
  CHECK(rounded > 1e-6);  // so that the bound above says something
  CHECK(rounded < 0.05);
}

}  // namespace
}  // namespace ltrp::test
