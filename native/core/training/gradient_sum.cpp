#include "core/training/gradient_sum.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <chrono>

namespace ltrp {
namespace {

struct Completed final : torch::autograd::PostAccumulateGradHook {
  explicit Completed(GradientSum& sum) : sum(sum) {}
  void operator()(const at::Tensor& weight) override { sum.complete(weight); }
  GradientSum& sum;
};

}  // namespace

GradientSum::GradientSum(std::vector<at::Tensor> weights, std::shared_ptr<Ranks> ranks)
    : weights_(std::move(weights)),
      ranks_(std::move(ranks)),
      bucket_of_(weights_.size()),
      done_(weights_.size()) {
  for (size_t i = 0; i < weights_.size(); ++i) {
    index_[weights_[i].unsafeGetTensorImpl()] = i;
    torch::autograd::impl::set_post_acc_grad_hooks(weights_[i], std::make_unique<Completed>(*this));
  }
}

GradientSum::~GradientSum() {
  for (const at::Tensor& weight : weights_) torch::autograd::impl::set_post_acc_grad_hooks(weight, nullptr);
}

void GradientSum::complete(const at::Tensor& weight) {
  if (!sending_) return;
  const auto found = index_.find(weight.unsafeGetTensorImpl());
  if (found == index_.end() || done_[found->second]) return;
  done_[found->second] = true;
  if (buckets_.empty()) {
    order_.push_back(found->second);
    return;
  }
  --buckets_[bucket_of_[found->second]].missing;
  while (sent_ < buckets_.size() && buckets_[sent_].missing == 0) send(buckets_[sent_++]);
}

// By rank 0's order; weights that its first step left out come last.
void GradientSum::lay_out() {
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (!done_[i]) order_.push_back(i);
  }
  std::vector<int64_t> order(order_.begin(), order_.end());
  ranks_->broadcast(at::from_blob(order.data(), {static_cast<int64_t>(order.size())}, at::kLong));
  const at::ScalarType type =
      ranks_->options().reduction == Reduction::kBFloat16 ? at::kBFloat16 : weights_[0].scalar_type();
  const auto most = ranks_->options().bucket_bytes / static_cast<int64_t>(c10::elementSize(type));
  std::vector<int64_t> sizes;
  for (const int64_t i : order) {
    const auto weight = static_cast<size_t>(i);
    const int64_t size = weights_[weight].numel();
    if (buckets_.empty() || sizes.back() + size > most) {
      buckets_.emplace_back();
      sizes.push_back(0);
    }
    buckets_.back().weights.push_back(weight);
    bucket_of_[weight] = buckets_.size() - 1;
    sizes.back() += size;
  }
  for (size_t i = 0; i < buckets_.size(); ++i)
    buckets_[i].flat = at::empty({sizes[i]}, weights_[0].options().dtype(type).requires_grad(false));
}

void GradientSum::send(Bucket& bucket) {
  const c10::NoGradGuard no_grad;
  int64_t at = 0;
  for (const size_t i : bucket.weights) {
    const at::Tensor& gradient = weights_[i].grad();
    const int64_t size = weights_[i].numel();
    const at::Tensor place = bucket.flat.narrow(0, at, size).view(weights_[i].sizes());
    if (gradient.defined()) {
      place.copy_(gradient);
    } else {
      place.zero_();
    }
    at += size;
  }
  bucket.wait = ranks_->start_sum(bucket.flat);
}

double GradientSum::finish() {
  const c10::NoGradGuard no_grad;
  const auto begin = std::chrono::steady_clock::now();
  if (buckets_.empty()) lay_out();
  while (sent_ < buckets_.size()) send(buckets_[sent_++]);
  for (Bucket& bucket : buckets_) {
    bucket.wait();
    int64_t at = 0;
    for (const size_t i : bucket.weights) {
      at::Tensor& gradient = weights_[i].mutable_grad();
      const int64_t size = weights_[i].numel();
      if (!gradient.defined()) gradient = at::zeros_like(weights_[i]);
      gradient.copy_(bucket.flat.narrow(0, at, size).view(gradient.sizes()));
      at += size;
    }
    bucket.missing = bucket.weights.size();
  }
  done_.assign(done_.size(), false);
  sent_ = 0;
  sending_ = false;
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace ltrp
