#include "core/checkpoint/geometry.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <utility>

#include "core/checkpoint/settings.h"
#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

using nlohmann::json;

// What different tensors say about one size.
class Vote {
 public:
  void add(int64_t value) {
    const auto known =
        std::find_if(votes_.begin(), votes_.end(), [&](const auto& vote) { return vote.first == value; });
    if (known == votes_.end()) {
      votes_.emplace_back(value, 1);
    } else {
      ++known->second;
    }
  }
  // The most frequent value, of equally frequent ones the first; nothing when no tensor was there.
  std::optional<int64_t> winner() const {
    const auto best = std::max_element(votes_.begin(), votes_.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    if (best == votes_.end()) return std::nullopt;
    return best->first;
  }

 private:
  std::vector<std::pair<int64_t, int>> votes_;
};

// 1 + the largest block index after `prefix`.
int64_t count_blocks(const StateDict& tensors, const std::string& prefix) {
  constexpr int64_t kMaxBlocks = 1024;
  int64_t count = 0;
  for (auto it = tensors.lower_bound(prefix);
       it != tensors.end() && it->first.compare(0, prefix.size(), prefix) == 0; ++it) {
    const char* begin = it->first.data() + prefix.size();
    const char* end = it->first.data() + it->first.size();
    int64_t index = 0;
    const auto [rest, error] = std::from_chars(begin, end, index);
    if (error != std::errc() || rest == end || *rest != '.' || index < 0 || index >= kMaxBlocks) continue;
    count = std::max(count, index + 1);
  }
  return count;
}

// Shapes of a file's tensors, read back into the fields that they come from.
class Measuring final : public TensorVisitor {
 public:
  Measuring(const StateDict& tensors, const Naming& naming) : tensors_(tensors), naming_(naming) {}

  void tensor(const std::string& name, const Shape& shape) override {
    const std::vector<std::string> names = naming_.stored(name);
    for (const std::string& stored : names) {
      const auto found = tensors_.find(stored);
      if (found == tensors_.end() || found->second.shape.size() != shape.size()) continue;
      for (size_t axis = 0; axis < shape.size(); ++axis) {
        const Extent& extent = shape[axis];
        // Several tensors of the file are stacked along the rows.
        const int64_t times = axis == 0 ? extent.times / static_cast<int64_t>(names.size()) : extent.times;
        const int64_t size = found->second.shape[axis] - extent.plus;
        if (extent.field && times > 0 && size % times == 0) votes_[extent.field].add(size / times);
      }
    }
  }
  bool has(bool /*said*/, std::initializer_list<const char*> layers) override {
    return std::any_of(layers.begin(), layers.end(), [&](const char* layer) { return has(layer); });
  }
  void transformer(const std::string& prefix, TransformerConfig& config) override {
    config.depth = count_blocks(tensors_, naming_.stored_layer(prefix));
    TensorVisitor::transformer(prefix, config);
    blocks_.push_back(&config);
  }

  bool has(const std::string& layer) const {
    const std::string name = naming_.stored_layer(layer);
    if (tensors_.contains(name)) return true;
    return any_starts_with(tensors_, name.ends_with(".") ? name : name + ".");
  }
  // Writes what the tensors say. Fields that none of them knows stay.
  void decide() {
    for (const auto& [field, vote] : votes_) *field = vote.winner().value_or(*field);
    for (TransformerConfig* config : blocks_) {
      if (!votes_[&config->mlp_dim].winner()) config->mlp_dim = 4 * config->dim;
    }
  }
  std::optional<int64_t> winner(int64_t* field) { return votes_[field].winner(); }

 private:
  const StateDict& tensors_;
  const Naming& naming_;
  std::map<int64_t*, Vote> votes_;
  std::vector<TransformerConfig*> blocks_;
};

// Whole number from 1 up under `key`; absent otherwise.
std::optional<int64_t> positive(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_integer() || *found < 1 || *found > (int64_t{1} << 32))
    return std::nullopt;
  return found->get<int64_t>();
}

std::optional<bool> truth(const json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (found == object.end() || !found->is_boolean()) return std::nullopt;
  return found->get<bool>();
}

// A config.json beside a lone file may belong to something else: it counts unless it describes other tensors.
std::string contradiction(const Settings& settings, const VitConfig& config) {
  const auto differs = [](const char* what, const std::optional<int64_t>& said, int64_t found) {
    return said && *said != found
               ? std::string(what) + " " + std::to_string(*said) + " instead of " + std::to_string(found)
               : "";
  };
  for (const std::string& difference : {differs("a width of", settings.encoder.dim, config.encoder.dim),
                                        differs("a depth of", settings.encoder.depth, config.encoder.depth),
                                        differs("patches of", settings.patch_size, config.patch_size)}) {
    if (!difference.empty()) return difference;
  }
  return {};
}

// --- completing
// ------------------------------------------------------------------------------------------------------------

int64_t choose_heads(const StoredCheckpoint& checkpoint, const char* part, int64_t dim,
                     std::optional<int64_t> override_value, std::optional<int64_t> hint,
                     std::optional<int64_t> recorded,
                     std::initializer_list<std::pair<int64_t, int64_t>> published, int64_t usual_width) {
  if (override_value) {
    if (*override_value < 1 || dim % *override_value != 0) {
      throw Error(codes::kInvalidArgument, std::string(part) + " heads must divide the width " +
                                               std::to_string(dim) + " of '" + checkpoint.path + "'; " +
                                               std::to_string(*override_value) + " does not.");
    }
    return *override_value;
  }
  if (hint) return *hint;
  if (recorded) return *recorded;
  for (const auto& [width, heads] : published) {
    if (width == dim) return heads;
  }
  if (dim > 0 && dim % usual_width == 0) return dim / usual_width;
  refuse(checkpoint, std::string("does not say how many attention heads its ") + part + " of width " +
                         std::to_string(dim) + " has; put a config.json with " +
                         (std::string(part) == "decoder" ? "decoder_num_heads" : "num_heads") + " beside it");
}

// Of a stack of blocks: "encoder" or "decoder".
int64_t heads_of(const StoredCheckpoint& checkpoint, const std::string& part, int64_t dim,
                 const Settings& settings, const CheckpointOverrides& overrides) {
  const bool decoder = part == "decoder";
  const TransformerSettings& said = decoder ? settings.decoder : settings.encoder;
  const std::optional<int64_t> heads = said.dim.value_or(dim) == dim ? said.heads : std::nullopt;
  if (decoder) {
    return choose_heads(checkpoint, "decoder", dim, overrides.decoder_heads, heads,
                        positive(checkpoint.arguments, "decoder_num_heads"), {{512, 16}}, 32);
  }
  return choose_heads(checkpoint, "encoder", dim, overrides.encoder_heads, heads,
                      positive(checkpoint.arguments, "num_heads"),
                      {{192, 3}, {384, 6}, {768, 12}, {1024, 16}, {1280, 16}}, 64);
}

// Rows of the position tables say how many patches there are, a size says how they lie; the square is the
// default.
void choose_image_size(const StoredCheckpoint& checkpoint, const Naming& naming, const Settings& hints,
                       const CheckpointOverrides& overrides, std::optional<int64_t> patches,
                       VitConfig& config) {
  if (overrides.image_height.has_value() != overrides.image_width.has_value()) {
    throw Error(codes::kInvalidArgument, "Of the image height and width both or none must be given.");
  }
  if (overrides.image_height) {
    config.image_height = *overrides.image_height;
    config.image_width = *overrides.image_width;
    return;
  }
  if (hints.image_height && hints.image_width) {
    config.image_height = *hints.image_height;
    config.image_width = *hints.image_width;
    return;
  }
  const int64_t count = patches.value_or(0);
  const auto side =
      static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(std::max<int64_t>(count, 0)))));
  if (count < 1 || count > (int64_t{1} << 32) || side * side != count) {
    refuse(checkpoint,
           "has " + quote_name(checkpoint.prefix + naming.stored_layer("pos_embed")) + " for " +
               std::to_string(count) +
               " patches, which is no square grid; put a config.json with img_size [height, width] "
               "beside it");
  }
  config.image_height = side * config.patch_size;
  config.image_width = side * config.patch_size;
}

template <typename T>
void replace(T& value, const std::optional<T>& known) {
  if (known) value = *known;
}

// The settings beside the file, as far as they belong to it.
Settings settings_for(StoredCheckpoint& checkpoint, const VitConfig& config) {
  Settings settings = read_settings(checkpoint);
  if (!checkpoint.hugging_face) {  // with those names, config.json and tensors belong together
    const std::string difference = contradiction(settings, config);
    if (!difference.empty()) {
      checkpoint.note("The config.json beside it describes another model, with " + difference +
                      ", and is not used.");
      checkpoint.sidecar = {};
      return {};
    }
  }
  check_supported(checkpoint);
  checkpoint.notes.insert(checkpoint.notes.end(), settings.notes.begin(), settings.notes.end());
  return settings;
}

// What stands for pictures: sizes that a preprocessor makes, and normalisation.
void apply_preprocessing(StoredCheckpoint& checkpoint, const Settings& settings, VitConfig& config) {
  replace(config.mean, settings.mean);
  replace(config.std, settings.std);
  const auto& size = settings.picture_size;
  if (!size || (size->first == config.image_height && size->second == config.image_width)) return;
  checkpoint.note("The preprocessor_config.json beside it prepares pictures of " +
                  std::to_string(size->second) + " x " + std::to_string(size->first) +
                  " pixels; the model's positions are for " + std::to_string(config.image_width) + " x " +
                  std::to_string(config.image_height) + ", which is taken.");
}

class FileEvidence final : public Evidence {
 public:
  FileEvidence(StoredCheckpoint& checkpoint, const Naming& naming, const CheckpointOverrides& overrides)
      : checkpoint_(checkpoint), naming_(naming), overrides_(overrides) {}
  bool has(const std::string& layer) const override {
    return Measuring(checkpoint_.tensors, naming_).has(layer);
  }
  std::optional<int64_t> rows(const std::string& layer) const override {
    int64_t rows = 0;
    Measuring measured(checkpoint_.tensors, naming_);
    measured.tensor(layer + ".bias", {&rows});
    measured.tensor(layer + ".weight", {&rows, 1});
    return measured.winner(&rows);
  }
  std::optional<int64_t> patches() const override {
    Measuring measured(checkpoint_.tensors, naming_);
    int64_t dim = 0;
    measured.positions("pos_embed", &dim);
    return measured.winner(&measured.patches);
  }
  std::optional<bool> truth(const char* key) const override {
    if (std::string(key) == "norm_pix_loss" && overrides_.normalized_target)
      return overrides_.normalized_target;
    const auto said = ltrp::truth(checkpoint_.sidecar, key);
    return said ? said : ltrp::truth(checkpoint_.arguments, key);
  }
  std::optional<std::string> word(const char* key) const override {
    for (const json* object : {&checkpoint_.sidecar, &checkpoint_.arguments}) {
      const auto found = object->is_object() ? object->find(key) : object->end();
      if (found != object->end() && found->is_string()) return found->get<std::string>();
    }
    return std::nullopt;
  }
  void note(const std::string& sentence) override { checkpoint_.note(sentence); }
  void unsupported(const std::string& what) const override {
    throw Error(codes::kUnsupported, "'" + checkpoint_.path + "' needs " + what + ".");
  }

 private:
  StoredCheckpoint& checkpoint_;
  const Naming& naming_;
  const CheckpointOverrides& overrides_;
};

}  // namespace

void infer_config(StoredCheckpoint& checkpoint, const Naming& naming, const CheckpointOverrides& overrides,
                  AnyConfig& config) {
  VitConfig& vit = config.vit();
  // What lies beside the file may belong to something else, which the ViT tells.
  Measuring backbone(checkpoint.tensors, naming);
  VitConfig::each_tensor(vit, backbone);
  backbone.decide();
  const Settings settings = settings_for(checkpoint, vit);
  FileEvidence evidence(checkpoint, naming, overrides);
  config.recognise(evidence);
  Measuring measured(checkpoint.tensors, naming);
  config.each_tensor(measured);
  // Without the patch embedding its weight will be reported missing; any size serves until then.
  measured.decide();
  if (vit.encoder.dim == 0 || vit.encoder.depth == 0) {
    refuse(checkpoint, "holds no whole model: it lacks " +
                           quote_name(checkpoint.prefix + (vit.encoder.dim == 0
                                                               ? naming.stored_layer("cls_token")
                                                               : naming.stored_layer("blocks.") + "0.*")));
  }

  const std::optional<double> eps = settings.layer_norm_eps(config.kind().word);
  if (checkpoint.hugging_face) {
    vit.layer_norm_eps = 1e-12;
    // Where they disagree, the tensor is at fault and will be named.
    replace(vit.patch_size, settings.patch_size);
    config.each_transformer([&](const std::string& part, TransformerConfig& blocks) {
      const TransformerSettings& said = part == "decoder" ? settings.decoder : settings.encoder;
      replace(blocks.dim, said.dim);
      replace(blocks.depth, said.depth);
      replace(blocks.mlp_dim, said.mlp_dim);
    });
    if (!eps && !overrides.layer_norm_eps)
      checkpoint.note("Nothing beside it says the layer_norm_eps; Hugging Face's default of 1e-12 is taken.");
  }
  choose_image_size(checkpoint, naming, settings, overrides, measured.winner(&measured.patches), vit);
  config.each_transformer([&](const std::string& part, TransformerConfig& blocks) {
    blocks.heads = heads_of(checkpoint, part, blocks.dim, settings, overrides);
  });
  replace(vit.layer_norm_eps, eps);
  replace(vit.layer_norm_eps, overrides.layer_norm_eps);
  apply_preprocessing(checkpoint, settings, vit);
  try {
    config.validate();
  } catch (const Error& error) {
    refuse(checkpoint, std::string("describes a model that cannot be: ") + error.what());
  }
}

}  // namespace ltrp
