// Reading and writing models on disk.
//
// Canonical names (ours, and those of the official MAE checkpoints):
//   autoencoder: cls_token [1,1,D], pos_embed [1,1+L,D], patch_embed.proj.{weight [D,3,p,p],bias},
//                blocks.i.{norm1,attn.qkv,attn.proj,norm2,mlp.fc1,mlp.fc2}.{weight,bias}, norm.{weight,bias},
//                decoder_embed.{weight,bias}, mask_token [1,1,E], decoder_pos_embed [1,1+L,E],
//                decoder_blocks.i.*, decoder_norm.{weight,bias}, decoder_pred.{weight [p*p*3,E],bias}
//   ranker:      cls_token, pos_embed, patch_embed.proj, blocks.i.*, norm, head.{weight [L or 1, D],bias}
// qkv rows are ordered q, k, v. All linear weights are [out, in].
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <optional>
#include <string>
#include <variant>

#include "core/model/config.h"

namespace ltrp {

using TensorMap =
    std::map<std::string, at::Tensor>;  // canonical name -> tensor (float32 unless a file is written in half)

struct MaeCheckpoint {
  MaeConfig config;
  TensorMap tensors;
  std::string
      naming;  // "ltrp", "official", "ltrp-reference", "hf-hub", "hf-v5", "hf-v5-saved": what the file used
};

struct RankerCheckpoint {
  RankerConfig config;
  TensorMap tensors;
  std::string naming;
};

// `path`: a .safetensors or .pth file, or a folder with config.json and model.safetensors (Hugging Face
// layout; a config.json beside a .safetensors file is read too). Tensors come back in float32 on the CPU,
// owned by the map. Strict: a missing, unexpected or misshapen tensor is Error(kCheckpointContent) naming the
// key. Never executes a pickle. When `require_decoder` and the file has none: Error(kCheckpointContent)
// saying that mae_pretrain_*.pth cannot teach.
MaeCheckpoint load_mae_checkpoint(const std::string& path, bool require_decoder = true);
RankerCheckpoint load_ranker_checkpoint(const std::string& path);

enum class StoredType { kFloat32, kFloat16, kBFloat16 };

// Our own layout: safetensors whose __metadata__ has {"format": "ltrp-1", "kind": "mae" | "ranker", "config":
// "<JSON>"}. Position tables equal to the fixed sin-cos table (within 1e-6) are left out and named in the
// config
// ("positions": "sincos2d"); others are stored in float32. Atomic (temporary file in the same folder, fsync,
// rename); a full disk is Error(kFileWrite) and leaves an existing file untouched.
void save_mae_checkpoint(const std::string& path, const MaeConfig& config, const TensorMap& tensors,
                         StoredType type);
void save_ranker_checkpoint(const std::string& path, const RankerConfig& config, const TensorMap& tensors,
                            StoredType type);

}  // namespace ltrp
