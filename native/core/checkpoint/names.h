// The names that checkpoints give to the same weights (method section 7).
#pragma once

#include <string>
#include <vector>

#include "core/checkpoint/state_dict.h"
#include "core/model/config.h"

namespace ltrp {

// Names inside one transformer block, after "<prefix><index>.". Linear and norm layers without ".weight" and
// ".bias".
struct BlockNames {
  std::string prefix;
  std::string norm1, norm2, proj, fc1, fc2;
  std::vector<std::string> qkv;  // one fused layer, or query, key and value
};

struct ModelNames {
  std::string naming;  // as in MaeCheckpoint
  std::string cls_token, pos_embed, patch_embed, norm;
  BlockNames blocks;
  std::string decoder_embed, mask_token, decoder_pos_embed, decoder_norm, decoder_pred;
  BlockNames decoder_blocks;
  std::string head;                  // ranker only
  std::vector<std::string> foreign;  // prefixes of another model in the same file, known and left alone
};

// Recognises the naming by the keys. Error(kCheckpointContent) when the file holds the other kind of model.
ModelNames mae_names(const StoredCheckpoint& checkpoint);
ModelNames ranker_names(const StoredCheckpoint& checkpoint);

// True for keys of the decoder in this naming.
bool has_decoder(const StateDict& tensors, const ModelNames& names);

// One canonical tensor and where it comes from: one stored tensor, or three to be stacked along the rows.
struct ExpectedTensor {
  std::string canonical;
  std::vector<std::string> stored;
  std::vector<int64_t> shape;  // of the canonical tensor
};

// All tensors of a model in the given naming, with their shapes.
std::vector<ExpectedTensor> expected_tensors(const MaeConfig& config, const ModelNames& names);
std::vector<ExpectedTensor> expected_tensors(const RankerConfig& config, const ModelNames& names);

// The canonical naming, which is that of the official checkpoints.
ModelNames canonical_names();

}  // namespace ltrp
