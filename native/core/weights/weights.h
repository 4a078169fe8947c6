// The weights of a model and what they are of. Models are made of them, checkpoints hold them.
//
// Canonical names (ours, and those of the official MAE checkpoints):
//   autoencoder: cls_token [1,1,D], pos_embed [1,1+L,D], patch_embed.proj.{weight [D,3,p,p],bias},
//                blocks.i.{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}.{weight,bias}, norm.{weight,bias},
//                decoder_embed.{weight,bias}, mask_token [1,1,E], decoder_pos_embed [1,1+L,E],
//                decoder_blocks.i.*, decoder_norm.{weight,bias}, decoder_pred.{weight [p*p*3,E],bias}
//   ranker:      cls_token, pos_embed, patch_embed.proj, blocks.i.*, norm, head.{weight [L or 1, D],bias}
//   classifier:  the same with norm or fc_norm, head.{weight [classes, D],bias}
// qkv rows are ordered q, k, v. All linear weights are [out, in].
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

namespace ltrp {

// Canonical name -> tensor (float32 unless a file is written in half).
using TensorMap = std::map<std::string, at::Tensor>;

template <typename Config>
struct Checkpoint {
  Config config;
  TensorMap tensors;
  // Whose names the file used: "ltrp", "official", "ltrp-reference", "hf-hub", "hf-v5" or "hf-v5-saved".
  // Those of timm are the official ones.
  std::string naming;
  // What was assumed, left out or chosen without being asked, in sentences. Empty for our own layout.
  std::vector<std::string> notes = {};
};
}  // namespace ltrp
