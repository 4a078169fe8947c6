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

#include "core/model/config.h"

namespace ltrp {

// Canonical name -> tensor (float32 unless a file is written in half).
using TensorMap = std::map<std::string, at::Tensor>;

struct MaeCheckpoint {
  MaeConfig config;
  TensorMap tensors;
  // What the file used: "ltrp", "official", "ltrp-reference", "hf-hub", "hf-v5" or "hf-v5-saved".
  std::string naming;
};

struct RankerCheckpoint {
  RankerConfig config;
  TensorMap tensors;
  std::string naming;  // "ltrp", "official" or "ltrp-reference"
};

// What the caller knows better than the file. These win over everything that the file or its config.json
// says.
struct CheckpointOverrides {
  std::optional<int64_t> encoder_heads;
  std::optional<int64_t> decoder_heads;  // autoencoder only
  std::optional<int64_t> image_height;   // pixels; both or none. Needed for tables of a non-square grid
  std::optional<int64_t> image_width;
  std::optional<double> layer_norm_eps;
  std::optional<bool> normalized_target;  // autoencoder only
};

// `path`: a .safetensors or .pth file, or a folder with config.json and model.safetensors or
// pytorch_model.bin (Hugging Face layout). Tensors come back in float32 on the CPU, contiguous, owned by the
// map.
//
// What the tensors do not tell comes, in this order, from `overrides`, from our own header, from a
// config.json beside the file (Hugging Face's keys, or img_size, patch_size, embed_dim, num_heads, ...;
// unless the file has Hugging Face's names, one that describes another geometry is ignored), from the
// arguments recorded in a training checkpoint, and from the published models: eps 1e-6 (autoencoder, official
// names), 1e-12 (autoencoder, Hugging Face's names) or 1e-5 (ranker); heads by width (192: 3, 384: 6, 768:
// 12, 1024 and 1280: 16; otherwise 64 wide; decoder 512: 16, otherwise 32 wide), a square image.
//
// Strict: a missing, unexpected or misshapen tensor, and one with NaN or infinite values, is
// Error(kCheckpointContent) naming the key as the file spells it. A training checkpoint holds both models:
// each function takes its own. Never executes a pickle. When `require_decoder` and the file has none:
// Error(kCheckpointContent) saying that mae_pretrain_*.pth cannot reconstruct.
MaeCheckpoint load_mae_checkpoint(const std::string& path, bool require_decoder = true,
                                  const CheckpointOverrides& overrides = {});
RankerCheckpoint load_ranker_checkpoint(const std::string& path, const CheckpointOverrides& overrides = {});

enum class StoredType { kFloat32, kFloat16, kBFloat16 };

// Our own layout: safetensors with canonical names whose __metadata__ has {"format": "ltrp-1",
// "kind": "mae" | "ranker", "config": "<JSON>"} (config_json.h). A position table that is the fixed sin-cos
// table is left out and named in the config ("positions", "decoder_positions": "sincos2d"): bit for bit when
// writing float32, within 1e-6 in half precision; other tables are stored in float32 ("stored"). Atomic
// (temporary file in the same folder, fsync, rename); a full disk is Error(kFileWrite) and leaves an existing
// file untouched. Error(kInvalidArgument) when the tensors do not fit the config, or overflow the stored
// type.
void save_mae_checkpoint(const std::string& path, const MaeConfig& config, const TensorMap& tensors,
                         StoredType type);
void save_ranker_checkpoint(const std::string& path, const RankerConfig& config, const TensorMap& tensors,
                            StoredType type);

}  // namespace ltrp
