// NativePicture and score shards of lib/native/binding.ts.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "binding/node_api.h"
#include "core/training/trainer.h"

namespace ltrp::binding {

// Copies of the caller's pictures; `pictures` points into the tensors.
struct PictureBatch {
  std::vector<at::Tensor> pixels;
  std::vector<at::Tensor> scores;
  std::vector<Picture> pictures;
};

PictureBatch pictures_argument(const Napi::Value& value);

// readScoreShard(job, path)
Napi::Value read_score_shard(const Napi::CallbackInfo& info);

}  // namespace ltrp::binding
