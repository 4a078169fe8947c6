// The names that checkpoints give to the same weights (docs/method.md, 7).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/any_config.h"
#include "core/checkpoint/state_dict.h"

namespace ltrp {

// Canonical names are those of the official checkpoints; what a naming does not list is called the same.
struct Naming {
  std::string name;  // as in Checkpoint
  // Layers, tokens and tables; of a stack of blocks what stands before the index ("blocks.").
  std::map<std::string, std::string> layers;
  // Layers inside a block, by its stack: "blocks.". A fused layer may be several in the file.
  std::map<std::string, std::map<std::string, std::vector<std::string>>> parts;
  bool qkv_bias = true;  // else the file has none, and they are zero

  // "norm" -> "layernorm", "blocks." -> "encoder.layer."
  std::string stored_layer(const std::string& canonical) const;
  // "blocks.0.attn.qkv.weight" -> the three that are to be stacked along the rows; none where it is zero.
  std::vector<std::string> stored(const std::string& canonical) const;
};

// The names that a checkpoint's model has.
Naming naming_of(const StoredCheckpoint& checkpoint);
// The canonical naming.
Naming canonical_names();

// One canonical tensor and where it comes from: one stored tensor, three to be stacked along the rows, or
// none where it is zero.
struct ExpectedTensor {
  std::string canonical;
  std::vector<std::string> stored;
  std::vector<int64_t> shape;  // of the canonical tensor
  bool positions = false;      // a table of them
};

// All tensors of a model in the given naming, with their shapes.
std::vector<ExpectedTensor> expected_tensors(AnyConfig& config, const Naming& naming);
template <typename Config>
std::vector<ExpectedTensor> expected_tensors(Config config, const Naming& naming) {
  ConfigOf<Config> any(config);
  return expected_tensors(static_cast<AnyConfig&>(any), naming);
}

// What our own header calls a table of positions: "decoder_pos_embed" -> "decoder_positions".
std::string positions_key(const std::string& canonical);

}  // namespace ltrp
