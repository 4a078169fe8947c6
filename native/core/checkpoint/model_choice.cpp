#include "core/checkpoint/model_choice.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>

#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

// Names that nothing but such a model has in this company. A few of them may be missing or misshapen: that is
// for later to say.
constexpr const char* kOfficialMarks[] = {"cls_token",
                                          "pos_embed",
                                          "patch_embed.proj.weight",
                                          "patch_embed.proj.bias",
                                          "blocks.0.norm1.weight",
                                          "blocks.0.attn.qkv.weight",
                                          "norm.weight"};
constexpr const char* kHuggingFaceMarks[] = {"embeddings.cls_token",
                                             "embeddings.position_embeddings",
                                             "embeddings.patch_embeddings.projection.weight",
                                             "embeddings.patch_embeddings.projection.bias",
                                             "layernorm.weight",
                                             "encoder.layer.0.layernorm_before.weight",
                                             "layers.0.layernorm_before.weight"};
constexpr int kEnoughMarks = 3;

struct Candidate {
  const Mapping* mapping;
  FoundModel found;
  Content content;
  std::vector<std::string> parts;  // keys above it and parts of its prefix

  std::string label() const {
    std::string text;
    for (const std::string& part : parts) text += (text.empty() ? "" : ".") + part;
    return text;
  }
};

std::vector<std::string> split(const std::string& text, std::string_view separators) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (separators.find(c) != std::string_view::npos) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  std::erase(parts, "");
  return parts;
}

// Words of a key in lower case: "modelEma_v2" has none that matter here, "model_ema" has "ema".
template <typename Test>
bool any_word(const std::vector<std::string>& parts, const Test& test) {
  for (const std::string& part : parts) {
    std::string lower = part;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    for (const std::string& word : split(lower, "_-. 0123456789")) {
      if (test(word)) return true;
    }
  }
  return false;
}

// Moments and gradients have the names and shapes of the weights.
bool is_optimizer(const Candidate& candidate) {
  return any_word(candidate.parts, [](const std::string& word) {
    return word.starts_with("adam") || word.starts_with("optim") || word == "exp" ||
           word.starts_with("grad") || word.starts_with("moment");
  });
}

// Averages of the weights over the steps of a training.
bool is_average(const Candidate& candidate) {
  return any_word(candidate.parts, [](const std::string& word) {
    return word == "ema" || word == "swa" || word == "avg" || word.starts_with("averag") ||
           word == "teacher" || word == "target" || word == "shadow" || word == "polyak";
  });
}

// LTRP's trainings put the ranker under such a key.
bool is_score_net(const std::vector<std::string>& parts) {
  return !parts.empty() && parts.back() == "score_net";
}

Content content_of(const StateDict& tensors, const Candidate& candidate) {
  const FoundModel& found = candidate.found;
  const auto has = [&](const char* name) { return any_starts_with(tensors, found.prefix + name); };
  if (has(found.hugging_face ? "decoder." : "decoder_") || has("mask_token")) return Content::kAutoencoder;
  if (!has(found.hugging_face ? "classifier." : "head.")) return Content::kEncoder;
  return is_score_net(candidate.parts) ? Content::kRanker : Content::kHead;
}

std::vector<Candidate> candidates_of(const FileContents& contents) {
  std::vector<Candidate> candidates;
  for (const Mapping& mapping : contents.mappings) {
    for (const FoundModel& found : find_models(mapping.tensors)) {
      Candidate candidate{&mapping, found, Content::kEncoder, mapping.place};
      for (std::string& part : split(found.prefix, "./")) candidate.parts.push_back(std::move(part));
      candidate.content = content_of(mapping.tensors, candidate);
      if (!is_optimizer(candidate)) candidates.push_back(std::move(candidate));
    }
  }
  return candidates;
}

std::string labels(const std::vector<Candidate>& candidates) {
  std::vector<std::string> names;
  for (const Candidate& candidate : candidates) {
    const std::string label = candidate.label();
    names.push_back(label.empty() ? "(on top)" : label);
  }
  return list_names(names, 150);
}

bool answers_to(const Candidate& candidate, const std::string& name) {
  return candidate.label() == name ||
         std::find(candidate.parts.begin(), candidate.parts.end(), name) != candidate.parts.end();
}

void keep_if(std::vector<Candidate>& candidates, const auto& wanted) {
  if (std::any_of(candidates.begin(), candidates.end(), wanted))
    std::erase_if(candidates, [&](const Candidate& candidate) { return !wanted(candidate); });
}

[[noreturn]] void refuse_unknown(const FileContents& contents, const StoredCheckpoint& checkpoint) {
  for (const char* key : {"zero_stage", "fp32_flat_groups", "single_partition_of_fp32_groups", "param_shapes",
                          "ds_version", "ds_config"}) {
    if (!contents.keys.contains(key)) continue;
    refuse(checkpoint,
           "is a shard of a DeepSpeed checkpoint (ZeRO) and holds no whole model; join the shards with "
           "zero_to_fp32.py, which DeepSpeed writes beside them, and take its output");
  }
  refuse(checkpoint, "holds no model that is known; what there is: " + contents.inventory);
}

[[noreturn]] void refuse_kind(const StoredCheckpoint& checkpoint, const Candidate& candidate,
                              const ModelKind& kind) {
  const char* has = candidate.content == Content::kAutoencoder ? "an autoencoder"
                    : candidate.content == Content::kEncoder   ? "the encoder of an autoencoder alone"
                    : candidate.content == Content::kRanker    ? "a ranker"
                                                               : "a model with a head ('head.weight')";
  refuse(checkpoint, std::string("holds ") + has + ", not " + kind.phrase);
}

// What this kind of model can be read from, of the best content that there is.
void keep_kind(std::vector<Candidate>& candidates, const ModelKind& kind,
               const StoredCheckpoint& checkpoint) {
  for (const Content content : kind.from) {
    const auto fits = [&](const Candidate& candidate) {
      return candidate.content == content && (kind.hugging_face || !candidate.found.hugging_face);
    };
    if (std::none_of(candidates.begin(), candidates.end(), fits)) continue;
    std::erase_if(candidates, [&](const Candidate& candidate) { return !fits(candidate); });
    return;
  }
  refuse_kind(checkpoint, candidates.front(), kind);
}

void take(const Candidate& chosen, const std::vector<Candidate>& all, StoredCheckpoint& checkpoint) {
  const Mapping& mapping = *chosen.mapping;
  const std::string& prefix = chosen.found.prefix;
  checkpoint.prefix = prefix;
  checkpoint.hugging_face = chosen.found.hugging_face;
  checkpoint.reference =
      is_score_net(chosen.parts) || (!chosen.parts.empty() && chosen.parts.back() == "mim");
  checkpoint.arguments = *mapping.arguments;
  std::vector<std::string> left_out;
  for (const auto& [name, tensor] : mapping.tensors) {
    const bool elsewhere = std::any_of(all.begin(), all.end(), [&](const Candidate& other) {
      return other.mapping == &mapping && other.found.prefix.size() > prefix.size() &&
             name.starts_with(other.found.prefix);
    });
    if (elsewhere) continue;
    if (tensor.shape.empty()) {  // counters and rates of wrappers; no weight is a single number
      left_out.push_back(tensor.key);
    } else if (name.starts_with(prefix)) {
      checkpoint.tensors.emplace(name.substr(prefix.size()), tensor);
    } else if (std::none_of(all.begin(), all.end(), [&](const Candidate& other) {
                 return other.mapping == &mapping && name.starts_with(other.found.prefix);
               })) {
      left_out.push_back(tensor.key);
    }
  }
  for (const auto& [name, description] : mapping.others) {
    if (name.starts_with(prefix)) checkpoint.others.emplace(name.substr(prefix.size()), description);
  }
  if (!left_out.empty() && !checkpoint.header)
    checkpoint.note("Left out, since they are not part of the model: " + list_names(left_out, 120) + ".");
}

}  // namespace

std::vector<FoundModel> find_models(const StateDict& tensors) {
  std::map<std::pair<std::string, bool>, int> marks;
  const auto count = [&](const std::string& name, const char* mark, bool hugging_face) {
    if (!name.ends_with(mark)) return;
    const std::string prefix = name.substr(0, name.size() - std::string_view(mark).size());
    if (prefix.empty() || prefix.back() == '.' || prefix.back() == '/') ++marks[{prefix, hugging_face}];
  };
  for (const auto& entry : tensors) {
    for (const char* mark : kOfficialMarks) count(entry.first, mark, false);
    for (const char* mark : kHuggingFaceMarks) count(entry.first, mark, true);
  }
  std::vector<FoundModel> found;
  for (const auto& [place, number] : marks) {
    if (number < kEnoughMarks) continue;
    FoundModel model{place.first, place.second};
    for (const std::string encoder : {"vit.", "deit."}) {  // beside which a decoder or head stands
      if (model.hugging_face && (model.prefix == encoder || model.prefix.ends_with("." + encoder)))
        model.prefix = model.prefix.substr(0, model.prefix.rfind(encoder));
    }
    found.push_back(std::move(model));
  }
  return found;
}

void choose_model(const FileContents& contents, const ModelKind& kind,
                  const std::optional<std::string>& weights, StoredCheckpoint& checkpoint) {
  const std::vector<Candidate> all = candidates_of(contents);
  if (all.empty()) refuse_unknown(contents, checkpoint);
  std::vector<Candidate> candidates = all;
  if (weights) {
    std::erase_if(candidates, [&](const Candidate& candidate) { return !answers_to(candidate, *weights); });
    if (candidates.empty())
      refuse(checkpoint, "has no weights named " + quote_name(*weights) + "; it has " + labels(all));
  }
  keep_kind(candidates, kind, checkpoint);

  const std::vector<Candidate> possible = candidates;
  keep_if(candidates, [](const Candidate& candidate) { return !is_average(candidate); });
  if (candidates.size() > 1) {
    refuse(checkpoint,
           "holds several models, " + labels(candidates) + "; say whose are wanted (weights: 'NAME')");
  }
  const Candidate& chosen = candidates.front();
  if (possible.size() > 1) {
    std::vector<Candidate> others = possible;
    std::erase_if(others, [&](const Candidate& other) { return other.label() == chosen.label(); });
    const std::string label = chosen.label();
    checkpoint.note("Of several models, " + quote_name(label.empty() ? "(on top)" : label) +
                    " is taken; averages of its weights are there too (weights: " + labels(others) + ").");
  }
  take(chosen, all, checkpoint);
  const bool empty = std::all_of(checkpoint.tensors.begin(), checkpoint.tensors.end(), [](const auto& entry) {
    return std::find(entry.second.shape.begin(), entry.second.shape.end(), 0) != entry.second.shape.end();
  });
  if (empty) refuse_unknown(contents, checkpoint);
}

}  // namespace ltrp
