#include "core/checkpoint/names.h"

#include <algorithm>

#include "core/error.h"

namespace ltrp {
namespace {

bool any_starts_with(const StateDict& tensors, const std::string& prefix) {
  const auto first = tensors.lower_bound(prefix);
  return first != tensors.end() && first->first.compare(0, prefix.size(), prefix) == 0;
}

BlockNames official_blocks(const std::string& prefix) {
  return {prefix, "norm1", "norm2", "attn.proj", "mlp.fc1", "mlp.fc2", {"attn.qkv"}};
}

// Hugging Face blocks: sub-names of transformers 4, or of transformers 5 when the file has any of those under
// `prefix`.
BlockNames hugging_face_blocks(const StateDict& tensors, const std::string& prefix) {
  bool version5 = false;
  for (auto it = tensors.lower_bound(prefix);
       it != tensors.end() && it->first.compare(0, prefix.size(), prefix) == 0; ++it) {
    for (const char* part : {".attention.q_proj.", ".attention.o_proj.", ".mlp.fc1."}) {
      version5 = version5 || it->first.find(part) != std::string::npos;
    }
  }
  if (version5) {
    return {prefix,
            "layernorm_before",
            "layernorm_after",
            "attention.o_proj",
            "mlp.fc1",
            "mlp.fc2",
            {"attention.q_proj", "attention.k_proj", "attention.v_proj"}};
  }
  return {prefix,
          "layernorm_before",
          "layernorm_after",
          "attention.output.dense",
          "intermediate.dense",
          "output.dense",
          {"attention.attention.query", "attention.attention.key", "attention.attention.value"}};
}

ModelNames official(const std::string& prefix, const std::string& naming) {
  ModelNames names;
  names.naming = naming;
  names.cls_token = prefix + "cls_token";
  names.pos_embed = prefix + "pos_embed";
  names.patch_embed = prefix + "patch_embed.proj";
  names.norm = prefix + "norm";
  names.blocks = official_blocks(prefix + "blocks.");
  names.decoder_embed = prefix + "decoder_embed";
  names.mask_token = prefix + "mask_token";
  names.decoder_pos_embed = prefix + "decoder_pos_embed";
  names.decoder_norm = prefix + "decoder_norm";
  names.decoder_pred = prefix + "decoder_pred";
  names.decoder_blocks = official_blocks(prefix + "decoder_blocks.");
  names.head = prefix + "head";
  return names;
}

ModelNames hugging_face(const StateDict& tensors) {
  const bool version5 = any_starts_with(tensors, "vit.layers.");
  const bool saved_by_version5 = any_starts_with(tensors, "decoder.decoder_encoder.layer.");
  ModelNames names;
  names.naming = saved_by_version5 ? "hf-v5-saved" : version5 ? "hf-v5" : "hf-hub";
  names.cls_token = "vit.embeddings.cls_token";
  names.pos_embed = "vit.embeddings.position_embeddings";
  names.patch_embed = "vit.embeddings.patch_embeddings.projection";
  names.norm = "vit.layernorm";
  names.blocks = hugging_face_blocks(tensors, version5 ? "vit.layers." : "vit.encoder.layer.");
  names.decoder_embed = "decoder.decoder_embed";
  names.mask_token = "decoder.mask_token";
  names.decoder_pos_embed = "decoder.decoder_pos_embed";
  names.decoder_norm = "decoder.decoder_norm";
  names.decoder_pred = "decoder.decoder_pred";
  names.decoder_blocks = hugging_face_blocks(
      tensors, saved_by_version5 ? "decoder.decoder_encoder.layer." : "decoder.decoder_layers.");
  return names;
}

[[noreturn]] void refuse_kind(const StoredCheckpoint& checkpoint, const char* has, const char* wanted) {
  throw Error(codes::kCheckpointContent, "'" + checkpoint.path + "' holds " + has + ", not " + wanted + ".");
}

void check_own_kind(const StoredCheckpoint& checkpoint, const std::string& wanted) {
  if (!checkpoint.header || checkpoint.header->kind == wanted) return;
  const std::string& kind = checkpoint.header->kind;
  refuse_kind(checkpoint,
              kind == "ranker" ? "a ranker"
              : kind == "mae"  ? "an autoencoder"
                               : "something else",
              wanted == "ranker" ? "a ranker" : "an autoencoder");
}

constexpr const char* kMimPrefix = "mim.";
constexpr const char* kRankerPrefix = "score_net.";

using Expected = std::vector<ExpectedTensor>;

void add(Expected& expected, const std::string& canonical, const std::string& stored,
         std::vector<int64_t> shape) {
  expected.push_back({canonical, {stored}, std::move(shape)});
}

void add_layer(Expected& expected, const std::string& canonical, const std::string& stored,
               std::vector<int64_t> weight) {
  add(expected, canonical + ".bias", stored + ".bias", {weight[0]});
  add(expected, canonical + ".weight", stored + ".weight", std::move(weight));
}

void add_blocks(Expected& expected, const std::string& canonical_prefix, const BlockNames& names,
                const TransformerConfig& config) {
  for (int64_t i = 0; i < config.depth; ++i) {
    const std::string canonical = canonical_prefix + std::to_string(i) + ".";
    const std::string stored = names.prefix + std::to_string(i) + ".";
    add_layer(expected, canonical + "norm1", stored + names.norm1, {config.dim});
    add_layer(expected, canonical + "norm2", stored + names.norm2, {config.dim});
    for (const char* part : {".bias", ".weight"}) {
      ExpectedTensor qkv{canonical + "attn.qkv" + part, {}, {3 * config.dim}};
      for (const std::string& name : names.qkv) qkv.stored.push_back(stored + name + part);
      if (std::string(part) == ".weight") qkv.shape.push_back(config.dim);
      expected.push_back(std::move(qkv));
    }
    add_layer(expected, canonical + "attn.proj", stored + names.proj, {config.dim, config.dim});
    add_layer(expected, canonical + "mlp.fc1", stored + names.fc1, {config.mlp_dim, config.dim});
    add_layer(expected, canonical + "mlp.fc2", stored + names.fc2, {config.dim, config.mlp_dim});
  }
}

template <typename Config>
Expected expected_encoder(const Config& config, const ModelNames& names) {
  Expected expected;
  const int64_t dim = config.encoder.dim;
  add(expected, "cls_token", names.cls_token, {1, 1, dim});
  add(expected, "pos_embed", names.pos_embed, {1, 1 + config.grid().patches(), dim});
  add_layer(expected, "patch_embed.proj", names.patch_embed, {dim, 3, config.patch_size, config.patch_size});
  add_blocks(expected, "blocks.", names.blocks, config.encoder);
  add_layer(expected, "norm", names.norm, {dim});
  return expected;
}

}  // namespace

ModelNames canonical_names() { return official("", "ltrp"); }

ModelNames mae_names(const StoredCheckpoint& checkpoint) {
  check_own_kind(checkpoint, "mae");
  const StateDict& tensors = checkpoint.tensors;
  if (checkpoint.header) return canonical_names();
  if (any_starts_with(tensors, kMimPrefix)) {
    ModelNames names = official(kMimPrefix, "ltrp-reference");
    names.foreign = {kRankerPrefix};
    return names;
  }
  if (any_starts_with(tensors, kRankerPrefix)) refuse_kind(checkpoint, "a ranker", "an autoencoder");
  if (any_starts_with(tensors, "vit.") || any_starts_with(tensors, "decoder.")) return hugging_face(tensors);
  if (tensors.count("head.weight") != 0 && tensors.count("mask_token") == 0) {
    refuse_kind(checkpoint, "a model with a head ('head.weight')", "an autoencoder");
  }
  return official("", "official");
}

ModelNames ranker_names(const StoredCheckpoint& checkpoint) {
  check_own_kind(checkpoint, "ranker");
  const StateDict& tensors = checkpoint.tensors;
  if (checkpoint.header) return canonical_names();
  if (any_starts_with(tensors, kRankerPrefix)) {
    ModelNames names = official(kRankerPrefix, "ltrp-reference");
    names.foreign = {kMimPrefix};
    return names;
  }
  if (any_starts_with(tensors, kMimPrefix) || any_starts_with(tensors, "vit.") ||
      tensors.count("mask_token") != 0) {
    refuse_kind(checkpoint, "an autoencoder", "a ranker");
  }
  return official("", "official");
}

bool has_decoder(const StateDict& tensors, const ModelNames& names) {
  for (const std::string& prefix : {names.decoder_embed, names.mask_token, names.decoder_pos_embed,
                                    names.decoder_norm, names.decoder_pred, names.decoder_blocks.prefix}) {
    if (any_starts_with(tensors, prefix)) return true;
  }
  return false;
}

Expected expected_tensors(const MaeConfig& config, const ModelNames& names) {
  Expected expected = expected_encoder(config, names);
  if (!config.decoder) return expected;
  const int64_t dim = config.decoder->dim;
  add_layer(expected, "decoder_embed", names.decoder_embed, {dim, config.encoder.dim});
  add(expected, "mask_token", names.mask_token, {1, 1, dim});
  add(expected, "decoder_pos_embed", names.decoder_pos_embed, {1, 1 + config.grid().patches(), dim});
  add_blocks(expected, "decoder_blocks.", names.decoder_blocks, *config.decoder);
  add_layer(expected, "decoder_norm", names.decoder_norm, {dim});
  add_layer(expected, "decoder_pred", names.decoder_pred, {config.patch_values(), dim});
  return expected;
}

Expected expected_tensors(const RankerConfig& config, const ModelNames& names) {
  Expected expected = expected_encoder(config, names);
  const int64_t logits = config.head == RankerHead::kCls ? config.grid().patches() : 1;
  add_layer(expected, "head", names.head, {logits, config.encoder.dim});
  return expected;
}

}  // namespace ltrp
