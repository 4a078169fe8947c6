// Gradients added up over the ranks while the backward pass still computes others.
//
// Weights lie in buckets, in the order in which rank 0's first step finished their gradients; a bucket is
// sent when it is complete and those before it are sent, so that all ranks send the same in the same order.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/ranks/ranks.h"

namespace ltrp {

class GradientSum {
 public:
  // `weights` are the trained ones, the same on all ranks. LibTorch's backward pass is watched from here on;
  // passes of our own call complete().
  GradientSum(std::vector<at::Tensor> weights, std::shared_ptr<Ranks> ranks);
  ~GradientSum();
  GradientSum(const GradientSum&) = delete;
  GradientSum& operator=(const GradientSum&) = delete;

  // The next backward pass is the last one of the step: what it completes may be sent.
  void last_pass() { sending_ = true; }
  void complete(const at::Tensor& weight);
  // Sends what is left and waits: then gradients are the sums of all ranks'. Those of weights that had none
  // anywhere are zero. Returns the seconds that this took, which no computation hid.
  double finish();

 private:
  struct Bucket {
    std::vector<size_t> weights;
    at::Tensor flat;
    size_t missing = 0;
    std::function<void()> wait;
  };

  void lay_out();
  void send(Bucket& bucket);

  std::vector<at::Tensor> weights_;
  std::shared_ptr<Ranks> ranks_;
  std::unordered_map<const void*, size_t> index_;  // by the tensor's identity
  std::vector<size_t> order_;                      // in which the first step finished them
  std::vector<Bucket> buckets_;                    // none before that
  std::vector<size_t> bucket_of_;
  std::vector<bool> done_;
  size_t sent_ = 0;  // buckets
  bool sending_ = false;
};

}  // namespace ltrp
