// The losses of docs/method.md, 4 on the device against LibTorch's operators in float64: values,
// gradients, and the gradients against differences of the values.
#include <cmath>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "kernels/cuda/launchers.h"
#include "test/checkpoint_support.h"
#include "test/cuda/device_tensors.h"

namespace ltrp::test {
namespace {

struct Case {
  args::ListLoss loss;
  const char* name;
};
const Case kCases[] = {{args::ListLoss::kPointWise, "pointWise"},
                       {args::ListLoss::kListNet, "listNet"},
                       {args::ListLoss::kListMle, "listMle"},
                       {args::ListLoss::kRankNet, "rankNet"},
                       {args::ListLoss::kFocusedRank, "focusedRank"}};

struct Result {
  at::Tensor value;     // []
  at::Tensor gradient;  // [lists, items]
};

Result of_kernel(args::ListLoss loss, const at::Tensor& predicted, const at::Tensor& target, int64_t k = 0,
                 const at::Tensor& noise = {}) {
  const int64_t lists = predicted.size(0);
  const at::Tensor s = on_device(predicted.to(at::kFloat)), y = on_device(target.to(at::kFloat)),
                   list_loss = room_on_device({lists}, at::kDouble), value = room_on_device({1}),
                   gradient = room_on_device(predicted.sizes());
  const at::Tensor drawn_by = noise.defined() ? on_device(noise) : noise;
  args::ListwiseLoss arguments;
  arguments.loss = loss;
  arguments.items = predicted.size(1);
  arguments.k = k;
  arguments.predicted = s.const_data_ptr<float>();
  arguments.target = y.const_data_ptr<float>();
  if (noise.defined()) arguments.noise = drawn_by.const_data_ptr<float>();
  arguments.list_loss = list_loss.mutable_data_ptr<double>();
  arguments.value = value.mutable_data_ptr<float>();
  arguments.gradient = gradient.mutable_data_ptr<float>();
  cuda::launch_listwise_loss(arguments, lists, nullptr);
  const Result result{on_host(value)[0], on_host(gradient)};
  // Without the gradient the value has the same bits.
  arguments.gradient = nullptr;
  value.fill_(0);
  cuda::launch_listwise_loss(arguments, lists, nullptr);
  CHECK(at::equal(on_host(value)[0].isnan(), result.value.isnan()));
  if (!result.value.isnan().item<bool>()) CHECK(same(on_host(value)[0], result.value));
  return result;
}

// Items of each list in falling order of `values`, as LibTorch sorts: ties by place, NaN first.
at::Tensor falling(const at::Tensor& values) {
  return values.argsort(/*stable=*/true, 1, /*descending=*/true);
}

at::Tensor reference_list_mle(const at::Tensor& s, const at::Tensor& y) {
  const at::Tensor sorted = s.gather(1, falling(y));
  return (sorted.flip({1}).logcumsumexp(1).flip({1}) - sorted).sum(1).mean();
}

at::Tensor reference_pairs(const at::Tensor& row_s, const at::Tensor& row_y, const at::Tensor& column_s,
                           const at::Tensor& column_y) {
  const at::Tensor order = row_y.unsqueeze(2) - column_y.unsqueeze(1);
  const at::Tensor label =
      at::where(order.abs() < 0.001, at::full_like(order, 0.5), (order > 0).to(order.scalar_type()));
  return at::binary_cross_entropy_with_logits(row_s.unsqueeze(2) - column_s.unsqueeze(1), label) / 2;
}

at::Tensor reference_loss(args::ListLoss loss, const at::Tensor& s, const at::Tensor& y, int64_t k,
                          const at::Tensor& noise) {
  switch (loss) {
    case args::ListLoss::kPointWise:
      return at::mse_loss(s, y);
    case args::ListLoss::kListNet:
      return -(y.softmax(1) * s.log_softmax(1)).mean();
    case args::ListLoss::kListMle: {
      if (!noise.defined()) return reference_list_mle(s, y);
      const at::Tensor drawn = noise.argsort(/*stable=*/true, 1, /*descending=*/false).slice(1, 0, k);
      return reference_list_mle(s.gather(1, drawn), y.gather(1, drawn));
    }
    case args::ListLoss::kRankNet:
      return reference_pairs(s, y, s, y);
    case args::ListLoss::kFocusedRank:
      break;
  }
  const at::Tensor order = falling(y), sorted_s = s.gather(1, order), sorted_y = y.gather(1, order);
  const at::Tensor focus = reference_list_mle(sorted_s.slice(1, 0, k), sorted_y.slice(1, 0, k));
  if (k == s.size(1)) return focus;
  return focus + reference_pairs(sorted_s.slice(1, 0, k), sorted_y.slice(1, 0, k), sorted_s.slice(1, k),
                                 sorted_y.slice(1, k));
}

// The formulas in LibTorch's operators and by its autograd.
Result of_libtorch(args::ListLoss loss, const at::Tensor& predicted, const at::Tensor& target,
                   at::ScalarType type, int64_t k = 0, const at::Tensor& noise = {}) {
  const at::Tensor s = predicted.to(type).clone().requires_grad_(true);
  const at::Tensor value = reference_loss(loss, s, target.to(type), k, noise);
  value.backward();
  return {value.detach(), s.grad()};
}

// LibTorch in float64 sees the same float32 numbers; ties of rank_net are decided on their difference,
// so targets keep clear of the threshold.
at::Tensor clear_targets(int64_t lists, int64_t items, uint64_t seed) {
  return (normal({lists, items}, seed) * 4).round() / 4;
}

TEST_CASE("every loss and its gradient: at most twice LibTorch's error in float32") {
  for (const Case& c : kCases) {
    ErrorBound values, gradients;
    CAPTURE(c.name);
    for (const auto& [lists, items] : std::vector<std::pair<int64_t, int64_t>>{
             {1, 1}, {3, 2}, {2, 7}, {5, 19}, {1, 32}, {2, 33}, {3, 49}, {1, 100}, {2, 196}, {1, 300}}) {
      for (const double spread : {1.0, 10.0, 1e-3}) {
        const at::Tensor target = clear_targets(lists, items, 5),
                         predicted = normal({lists, items}, 6, spread, spread);
        const int64_t k = c.loss == args::ListLoss::kFocusedRank ? std::max<int64_t>(1, items / 3) : 0;
        const Result got = of_kernel(c.loss, predicted, target, k),
                     exact = of_libtorch(c.loss, predicted, target, at::kDouble, k),
                     plain = of_libtorch(c.loss, predicted, target, at::kFloat, k);
        CAPTURE(items);
        CAPTURE(spread);
        // A list of one item has neither loss nor gradient in listMle and listNet.
        if (exact.value.item<double>() == 0) {
          CHECK(got.value.item<float>() == 0);
        } else {
          values.add(got.value, plain.value, exact.value);
        }
        if (exact.gradient.abs().max().item<double>() < 1e-12) {
          CHECK(got.gradient.abs().max().item<double>() < 1e-6);
        } else {
          gradients.add(got.gradient, plain.gradient, exact.gradient);
        }
      }
    }
    values.check();
    gradients.check();
  }
}

TEST_CASE("gradients agree with central differences of the value in float64") {
  for (const Case& c : kCases) {
    CAPTURE(c.name);
    for (const int64_t items : {2, 7, 19}) {
      const int64_t k = c.loss == args::ListLoss::kFocusedRank ? items / 2 : 0;
      const at::Tensor target = clear_targets(2, items, 8), predicted = normal({2, items}, 9, 2);
      const at::Tensor point = predicted.to(at::kDouble), y = target.to(at::kDouble);
      const at::Tensor numeric = at::empty_like(point);
      constexpr double kStep = 1e-5;
      for (int64_t i = 0; i < point.numel(); ++i) {
        at::Tensor moved = point.clone();
        moved.view({-1})[i] += kStep;
        const double above = reference_loss(c.loss, moved, y, k, {}).item<double>();
        moved.view({-1})[i] -= 2 * kStep;
        const double below = reference_loss(c.loss, moved, y, k, {}).item<double>();
        numeric.view({-1})[i] = (above - below) / (2 * kStep);
      }
      const Result got = of_kernel(c.loss, predicted, target, k);
      CHECK(largest_error(got.gradient, numeric) < 2e-6 * std::max(1.0, numeric.abs().max().item<double>()));
    }
  }
}

TEST_CASE("a list as long as there can be, and many lists") {
  for (const auto& [lists, items] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 4096}, {1, 1025}, {300, 5}}) {
    CAPTURE(items);
    const at::Tensor target = normal({lists, items}, 5), predicted = normal({lists, items}, 6, 3);
    const Result got = of_kernel(args::ListLoss::kListMle, predicted, target),
                 exact = of_libtorch(args::ListLoss::kListMle, predicted, target, at::kDouble),
                 plain = of_libtorch(args::ListLoss::kListMle, predicted, target, at::kFloat);
    ErrorBound bound;
    bound.add(got.value, plain.value, exact.value);
    bound.add(got.gradient, plain.gradient, exact.gradient);
    bound.check();
  }
}

TEST_CASE("only differences of predictions matter, at any magnitude") {
  const at::Tensor target = clear_targets(3, 19, 1);
  // Quarters, so that adding 800 is exact.
  const at::Tensor predicted = (normal({3, 19}, 2) * 8).round() / 4;
  for (const args::ListLoss loss : {args::ListLoss::kListMle, args::ListLoss::kListNet,
                                    args::ListLoss::kRankNet, args::ListLoss::kFocusedRank}) {
    const Result near = of_kernel(loss, predicted, target, 7, uniform({3, 19}, 3)),
                 far = of_kernel(loss, predicted + 800, target, 7, uniform({3, 19}, 3));
    CHECK(same(near.value, far.value));
    CHECK(same(near.gradient, far.gradient));
  }
  // Predictions hundreds apart: every tail has its own largest item.
  const at::Tensor steep = at::arange(40, at::kFloat).view({1, 40}) * -200;
  const at::Tensor order = at::arange(40, at::kFloat).view({1, 40});
  for (const at::Tensor& y : {order, -order}) {
    const Result got = of_kernel(args::ListLoss::kListMle, steep, y),
                 exact = of_libtorch(args::ListLoss::kListMle, steep, y, at::kDouble);
    CHECK(largest_error(got.value, exact.value) <= 1e-6 * std::abs(exact.value.item<double>()) + 1e-30);
    CHECK(largest_error(got.gradient, exact.gradient) < 1e-6);
  }
}

TEST_CASE("ties of the target keep the order of the items, or of the noise") {
  const at::Tensor target = at::empty({6, 50}, at::kFloat).random_(0, 4, generator_for(1, 1));
  const at::Tensor predicted = normal({6, 50}, 2), noise = uniform({6, 50}, 3);
  const auto check = [&](int64_t k, const at::Tensor& drawn_by) {
    const Result got = of_kernel(args::ListLoss::kListMle, predicted, target, k, drawn_by),
                 exact = of_libtorch(args::ListLoss::kListMle, predicted, target, at::kDouble, k, drawn_by);
    CHECK(largest_error(got.value, exact.value) <= 1e-6 * exact.value.abs().item<double>());
    CHECK(largest_error(got.gradient, exact.gradient) < 1e-6);
    return got;
  };
  check(0, {});
  for (const int64_t k : {1, 2, 31, 32, 33, 49, 50, 99}) check(k, noise);
  // Equal noise: the lower index is drawn first.
  check(20, (noise * 5).floor());
  // Items that were not drawn have no gradient.
  const Result few = check(10, noise);
  CHECK((few.gradient != 0).sum(1).le(10).all().item<bool>());
  const at::Tensor signed_zeros = at::where(target > 1, at::full_like(target, -0.0), at::zeros_like(target));
  CHECK(same(of_kernel(args::ListLoss::kListMle, predicted, signed_zeros).value,
             of_kernel(args::ListLoss::kListMle, predicted, at::zeros_like(target)).value));
}

TEST_CASE("rank_net's ties end at 0.001, the diagonal counts") {
  const at::Tensor target = at::tensor({0.5F, 0.5004F, -1.0F, -1.0011F, 0.5F}).view({1, 5});
  const at::Tensor predicted = normal({1, 5}, 4);
  const Result got = of_kernel(args::ListLoss::kRankNet, predicted, target),
               exact = of_libtorch(args::ListLoss::kRankNet, predicted, target, at::kDouble);
  CHECK(largest_error(got.value, exact.value) < 1e-7);
  CHECK(largest_error(got.gradient, exact.gradient) < 1e-7);
}

TEST_CASE("what is not a number is not hidden") {
  const at::Tensor good = normal({2, 9}, 1);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  at::Tensor broken = good.clone();
  broken[1][4] = nan;
  for (const Case& c : kCases) {
    CAPTURE(c.name);
    const int64_t k = c.loss == args::ListLoss::kFocusedRank ? 4 : 0;
    const Result got = of_kernel(c.loss, broken, normal({2, 9}, 2), k);
    CHECK(std::isnan(got.value.item<float>()));
    CHECK(got.gradient[0].isfinite().all().item<bool>());
  }
  // A NaN target is the largest, as LibTorch sorts.
  const Result got = of_kernel(args::ListLoss::kListMle, good, broken),
               exact = of_libtorch(args::ListLoss::kListMle, good, broken, at::kDouble);
  CHECK(largest_error(got.value, exact.value) < 1e-6 * exact.value.abs().item<double>());
}

TEST_CASE("the authors' losses and gradients") {
  const auto golden = golden_folder();
  if (!golden) return;
  const SafetensorsFile expected = read_safetensors((*golden / "full" / "expected.safetensors").string());
  const auto tensor = [&](const std::string& name) { return expected.tensors.at(name); };
  const at::Tensor predicted = tensor("loss_pred"), target = tensor("loss_true");
  const auto check = [&](const std::string& name, args::ListLoss loss, int64_t k, const at::Tensor& noise) {
    CAPTURE(name);
    const Result got = of_kernel(loss, predicted, target, k, noise);
    const at::Tensor value = tensor("loss_" + name).to(at::kDouble)[0],
                     gradient = tensor("loss_" + name + "_grad").to(at::kDouble);
    CHECK(largest_error(got.value, value) < 1e-5 * value.abs().item<double>());
    CHECK(largest_error(got.gradient, gradient) < 1e-5 * gradient.abs().max().item<double>());
  };
  const at::Tensor noise = tensor("loss_list_mle_ex_noise");
  check("point_wise", args::ListLoss::kPointWise, 0, {});
  check("list_net", args::ListLoss::kListNet, 0, {});
  check("list_mle", args::ListLoss::kListMle, 0, {});
  check("list_mle_ex_full", args::ListLoss::kListMle, 19, noise);
  check("list_mle_ex_10", args::ListLoss::kListMle, 10, noise);
  check("rank_net", args::ListLoss::kRankNet, 0, {});
  check("focused_rank_10", args::ListLoss::kFocusedRank, 10, {});
}

TEST_CASE("losses do not depend on the order of threads") {
  const at::Tensor target = normal({3, 70}, 10), predicted = normal({3, 70}, 11, 4),
                   noise = uniform({3, 70}, 12);
  for (const Case& c : kCases) {
    CAPTURE(c.name);
    check_every_order([&] {
      const Result got = of_kernel(c.loss, predicted, target, 30, noise);
      return std::vector<at::Tensor>{got.value.reshape({1}), got.gradient};
    });
  }
}

TEST_CASE("losses that make no sense are refused") {
  args::ListwiseLoss arguments;
  CHECK_THROWS_AS(cuda::launch_listwise_loss(arguments, 1, nullptr), std::invalid_argument);
  arguments.items = args::kMostSorted + 1;
  CHECK_THROWS_AS(cuda::launch_listwise_loss(arguments, 1, nullptr), std::invalid_argument);
  arguments.items = 5;
  CHECK_THROWS_AS(cuda::launch_listwise_loss(arguments, 0, nullptr), std::invalid_argument);
  arguments.k = 3;  // to draw without noise
  CHECK_THROWS_AS(cuda::launch_listwise_loss(arguments, 1, nullptr), std::invalid_argument);
  arguments.loss = args::ListLoss::kFocusedRank;
  arguments.k = 6;
  CHECK_THROWS_AS(cuda::launch_listwise_loss(arguments, 1, nullptr), std::invalid_argument);
  arguments.k = 0;
  CHECK_THROWS_AS(cuda::launch_listwise_loss(arguments, 1, nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace ltrp::test
