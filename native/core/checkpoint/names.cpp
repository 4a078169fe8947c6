#include "core/checkpoint/names.h"

#include <utility>

namespace ltrp {
namespace {

// Whether a name under `prefix` has `part` in it.
bool any_contains(const StateDict& tensors, const std::string& prefix, const std::string& part) {
  for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix); ++it) {
    if (it->first.find(part) != std::string::npos) return true;
  }
  return false;
}

// Hugging Face blocks: sub-names of transformers 4, or of transformers 5 when the file has any of those under
// `prefix`.
std::map<std::string, std::vector<std::string>> hugging_face_parts(const StateDict& tensors,
                                                                   const std::string& prefix) {
  bool version5 = false;
  for (const char* part : {".attention.q_proj.", ".attention.o_proj.", ".mlp.fc1."})
    version5 = version5 || any_contains(tensors, prefix, part);
  if (version5) {
    return {{"norm1", {"layernorm_before"}},
            {"norm2", {"layernorm_after"}},
            {"attn.qkv", {"attention.q_proj", "attention.k_proj", "attention.v_proj"}},
            {"attn.proj", {"attention.o_proj"}},
            {"mlp.fc1", {"mlp.fc1"}},
            {"mlp.fc2", {"mlp.fc2"}}};
  }
  return {{"norm1", {"layernorm_before"}},
          {"norm2", {"layernorm_after"}},
          {"attn.qkv", {"attention.attention.query", "attention.attention.key", "attention.attention.value"}},
          {"attn.proj", {"attention.output.dense"}},
          {"mlp.fc1", {"intermediate.dense"}},
          {"mlp.fc2", {"output.dense"}}};
}

Naming hugging_face(const StateDict& tensors) {
  // Models with a head put their encoder under "vit." ("deit."), bare ones are it.
  std::string encoder;
  for (const char* prefix : {"vit.", "deit."}) {
    if (any_starts_with(tensors, prefix)) encoder = prefix;
  }
  const bool version5 = any_starts_with(tensors, encoder + "layers.");
  const bool saved_by_version5 = any_starts_with(tensors, "decoder.decoder_encoder.layer.");
  Naming naming;
  naming.name = saved_by_version5 ? "hf-v5-saved" : version5 ? "hf-v5" : "hf-hub";
  naming.layers = {
      {"cls_token", encoder + "embeddings.cls_token"},
      {"dist_token", encoder + "embeddings.distillation_token"},
      {"pos_embed", encoder + "embeddings.position_embeddings"},
      {"patch_embed.proj", encoder + "embeddings.patch_embeddings.projection"},
      {"blocks.", encoder + (version5 ? "layers." : "encoder.layer.")},
      {"norm", encoder + "layernorm"},
      {"head", "classifier"},
      {"mask_token", "decoder.mask_token"},
      {"decoder_blocks.", saved_by_version5 ? "decoder.decoder_encoder.layer." : "decoder.decoder_layers."}};
  for (const char* layer : {"decoder_embed", "decoder_pos_embed", "decoder_norm", "decoder_pred"})
    naming.layers[layer] = std::string("decoder.") + layer;
  for (const char* stack : {"blocks.", "decoder_blocks."})
    naming.parts[stack] = hugging_face_parts(tensors, naming.layers[stack]);
  return naming;
}

// Models without biases of query, key and value have them in no block at all.
bool any_qkv_bias(const StateDict& tensors, const Naming& naming) {
  for (const char* stack : {"blocks.", "decoder_blocks."}) {
    for (const std::string& name : naming.stored(std::string(stack) + "0.attn.qkv.bias")) {
      const std::string part = name.substr(naming.stored_layer(stack).size() + 1);
      if (any_contains(tensors, naming.stored_layer(stack), part)) return true;
    }
  }
  return false;
}

// Collects a model's tensors.
class Expecting final : public TensorVisitor {
 public:
  explicit Expecting(const Naming& naming) : naming_(naming) {}
  void tensor(const std::string& name, const Shape& shape) override {
    ExpectedTensor tensor{name, naming_.stored(name), {}};
    for (const Extent& extent : shape) tensor.shape.push_back(extent.size());
    all.push_back(std::move(tensor));
  }
  void positions(const std::string& name, int64_t* dim) override {
    TensorVisitor::positions(name, dim);
    all.back().positions = true;
  }
  std::vector<ExpectedTensor> all;

 private:
  const Naming& naming_;
};

}  // namespace

std::string Naming::stored_layer(const std::string& canonical) const {
  const auto found = layers.find(canonical);
  return found == layers.end() ? canonical : found->second;
}

std::vector<std::string> Naming::stored(const std::string& canonical) const {
  std::string layer = canonical, end;
  for (const char* kind : {".weight", ".bias"}) {
    if (!canonical.ends_with(kind)) continue;
    end = kind;
    layer.resize(layer.size() - end.size());
  }
  const size_t dot = layer.find("blocks.");
  if (dot == std::string::npos) return {stored_layer(layer) + end};
  const std::string stack = layer.substr(0, dot + 7);
  const size_t index_end = layer.find('.', stack.size());
  const std::string part = layer.substr(index_end + 1);
  if (!qkv_bias && part == "attn.qkv" && end == ".bias") return {};
  const std::string block = stored_layer(stack) + layer.substr(stack.size(), index_end - stack.size()) + ".";
  const auto names = parts.find(stack);
  if (names == parts.end()) return {block + part + end};
  std::vector<std::string> result;
  for (const std::string& name : names->second.at(part)) result.push_back(block + name + end);
  return result;
}

Naming canonical_names() { return {"ltrp", {}, {}}; }

Naming naming_of(const StoredCheckpoint& checkpoint) {
  Naming naming = canonical_names();
  if (checkpoint.header) return naming;
  if (checkpoint.hugging_face) {
    naming = hugging_face(checkpoint.tensors);
  } else {
    naming.name = checkpoint.reference ? "ltrp-reference" : "official";
  }
  naming.qkv_bias = any_qkv_bias(checkpoint.tensors, naming);
  if (checkpoint.hugging_face && checkpoint.sidecar.is_object()) {
    const auto said = checkpoint.sidecar.find("qkv_bias");
    if (said != checkpoint.sidecar.end() && said->is_boolean()) naming.qkv_bias = said->get<bool>();
  }
  return naming;
}

std::vector<ExpectedTensor> expected_tensors(AnyConfig& config, const Naming& naming) {
  Expecting expected(naming);
  config.each_tensor(expected);
  return std::move(expected.all);
}

std::string positions_key(const std::string& canonical) {
  return canonical.substr(0, canonical.size() - std::string("pos_embed").size()) + "positions";
}

}  // namespace ltrp
