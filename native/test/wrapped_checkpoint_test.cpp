// What training frameworks put around a model, and files with several models.
#include <nlohmann/json.hpp>

#include "checkpoint_support.h"
#include "core/checkpoint/safetensors.h"

using namespace ltrp;
using namespace ltrp::test;

namespace {

using Entries = std::vector<std::pair<std::string, std::string>>;

std::map<std::string, at::Tensor> stored(const TensorMap& tensors) {
  return {tensors.begin(), tensors.end()};
}

MaeCheckpoint load(const std::string& path, const std::string& weights = "") {
  CheckpointOverrides overrides = tiny_heads();
  if (!weights.empty()) overrides.weights = weights;
  return load_checkpoint<MaeConfig>(path, overrides);
}

// A dictionary inside dictionaries: nest({"a", "b"}, x) is {"a": {"b": x}}.
std::string nest(const std::vector<std::string>& keys, std::string value) {
  for (auto key = keys.rbegin(); key != keys.rend(); ++key) value = pickle_dict({{*key, value}});
  return value;
}

TensorMap renamed(const TensorMap& tensors, const std::string& from, const std::string& to) {
  TensorMap result;
  for (const auto& [name, tensor] : tensors) {
    std::string changed = name;
    const size_t at = changed.find(from);
    if (at != std::string::npos) changed.replace(at, from.size(), to);
    result[changed] = tensor;
  }
  return result;
}

// torch.save(model): attributes of objects, parameters and modules in dictionaries.
std::string pickle_module(const TensorMap& tensors, const std::string& prefix,
                          std::vector<at::Tensor>& storages) {
  TensorMap own;
  std::map<std::string, bool> children;
  for (const auto& [name, tensor] : tensors) {
    if (!name.starts_with(prefix)) continue;
    const std::string rest = name.substr(prefix.size());
    const size_t dot = rest.find('.');
    if (dot == std::string::npos) {
      own[rest] = tensor;
    } else {
      children[rest.substr(0, dot)] = true;
    }
  }
  Entries modules;
  for (const auto& [child, unused] : children)
    modules.emplace_back(child, pickle_module(tensors, prefix + child + ".", storages));
  return "cmodels_mae\nMaskedAutoencoderViT\n)\x81" +
         pickle_dict({{"training", "\x88"},
                      {"_parameters", pickle_state(own, storages)},
                      {"_buffers", pickle_dict({})},
                      {"_modules", pickle_dict(modules)}}) +
         "b";
}

}  // namespace

TEST_CASE("wrappers: prefixes and parts of names are taken off, in pickles and in safetensors") {
  const ScratchFolder folder;
  const TensorMap tensors = random_tensors(tiny_mae_config());
  for (const std::string prefix :
       {"module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.", "model.module.",
        "lit.backbone.", "_fsdp_wrapped_module.", "_forward_module.model.", "ema.module.",
        "mae_model._orig_mod."}) {
    CAPTURE(prefix);
    std::vector<at::Tensor> storages;
    const std::string state = pickle_state(tensors, storages, prefix);
    write_pth(folder / "x.ckpt", pickle_file(pickle_dict({{"state_dict", state}, {"epoch", pickle_int(3)}})),
              storages);
    check_same(load(folder / "x.ckpt").tensors, tensors);
    write_safetensors(folder / "x.safetensors", stored(prefixed(tensors, prefix)), {});
    check_same(load(folder / "x.safetensors").tensors, tensors);
  }
  // Wrappers of single blocks.
  for (const std::string inner : {"blocks.0._fsdp_wrapped_module.", "blocks.0._checkpoint_wrapped_module.",
                                  "blocks.0._orig_mod.", "blocks.0.module."}) {
    CAPTURE(inner);
    write_safetensors(folder / "y.safetensors",
                      stored(prefixed(renamed(tensors, "blocks.0.", inner), "_fsdp_wrapped_module.")), {});
    check_same(load(folder / "y.safetensors").tensors, tensors);
  }
}

TEST_CASE("wrappers: keys above the weights, at any depth") {
  const ScratchFolder folder;
  const TensorMap tensors = random_tensors(tiny_mae_config());
  const std::vector<std::vector<std::string>> places = {{},
                                                        {"model"},
                                                        {"state_dict"},
                                                        {"model_state_dict"},
                                                        {"module"},
                                                        {"teacher"},
                                                        {"student"},
                                                        {"net"},
                                                        {"ema"},
                                                        {"model_ema"},
                                                        {"checkpoint", "model"},
                                                        {"a", "b", "weights of it"},
                                                        {"state", "app", "model", "mae"}};
  for (const auto& place : places) {
    CAPTURE(place.size());
    std::vector<at::Tensor> storages;
    write_pth(folder / "x.pt", pickle_file(nest(place, pickle_state(tensors, storages, "module."))),
              storages);
    check_same(load(folder / "x.pt").tensors, tensors);
  }
  std::vector<at::Tensor> storages;  // [epoch, weights], and a whole module
  const std::string state = pickle_state(tensors, storages);
  write_pth(folder / "x.pt", pickle_file("](" + pickle_int(7) + state + "e"), storages);
  check_same(load(folder / "x.pt").tensors, tensors);
  storages.clear();
  const std::string module = pickle_module(tensors, "", storages);
  write_pth(folder / "x.pt", pickle_file(module), storages);
  check_same(load(folder / "x.pt").tensors, tensors);
}

TEST_CASE("wrappers: optimizers are not models, recorded arguments are found beside any key") {
  const ScratchFolder folder;
  const TensorMap tensors = random_tensors(tiny_mae_config());
  std::vector<at::Tensor> storages;
  const std::string state = pickle_state(tensors, storages, "model."),
                    moments = pickle_state(random_tensors(tiny_mae_config()), storages);
  const std::string arguments = pickle_dict(
      {{"num_heads", pickle_int(2)}, {"decoder_num_heads", pickle_int(1)}, {"norm_pix_loss", "\x88"}});
  write_pth(folder / "x.ckpt",
            pickle_file(pickle_dict(
                {{"optimizer_exp_avg", moments}, {"state_dict", state}, {"hyper_parameters", arguments}})),
            storages);
  const MaeCheckpoint loaded = load_checkpoint<MaeConfig>(folder / "x.ckpt");
  check_same(loaded.tensors, tensors);
  CHECK(loaded.config.encoder.heads == 2);
  CHECK(loaded.config.normalized_target);
  CHECK_FALSE(has_note(loaded.notes, "norm_pix_loss"));
}

TEST_CASE("several models: the ordinary weights are taken and said, another by its name") {
  const ScratchFolder folder;
  const TensorMap plain = random_tensors(tiny_mae_config()), average = random_tensors(tiny_mae_config());
  for (const auto& [first, second] : {std::pair<std::string, std::string>{"model", "model_ema"},
                                      {"state_dict", "state_dict_ema"},
                                      {"student", "teacher"},
                                      {"state_dict", "averaged_model"}}) {
    CAPTURE(second);
    std::vector<at::Tensor> storages;
    const std::string one = pickle_state(average, storages, "module."), two = pickle_state(plain, storages);
    write_pth(folder / "x.pth", pickle_file(pickle_dict({{second, one}, {first, two}})), storages);
    const MaeCheckpoint loaded = load(folder / "x.pth");
    check_same(loaded.tensors, plain);
    CHECK(has_note(loaded.notes, "'" + first + "' is taken"));
    CHECK(has_note(loaded.notes, "(weights: '" + second + "')"));
    check_same(load(folder / "x.pth", second).tensors, average);
    check_same(load(folder / "x.pth", first).tensors, plain);
  }
  // Prefixes in one file.
  TensorMap both = prefixed(plain, "model.");
  both.merge(prefixed(average, "ema.module."));
  write_safetensors(folder / "x.safetensors", stored(both), {});
  check_same(load(folder / "x.safetensors").tensors, plain);
  check_same(load(folder / "x.safetensors", "ema").tensors, average);
  check_refused(codes::kCheckpointContent, "no weights named 'other'; it has 'ema', 'model'",
                [&] { load(folder / "x.safetensors", "other"); });
  both = plain;
  both.merge(prefixed(average, "ema."));
  write_safetensors(folder / "x.safetensors", stored(both), {});
  check_same(load(folder / "x.safetensors").tensors, plain);

  both = prefixed(plain, "first.");
  both.merge(prefixed(average, "second."));
  write_safetensors(folder / "x.safetensors", stored(both), {});
  check_refused(codes::kCheckpointContent, "holds several models, 'first', 'second'",
                [&] { load(folder / "x.safetensors"); });
  check_same(load(folder / "x.safetensors", "second").tensors, average);
}

TEST_CASE("wrapped models stay strict, and name keys as the file spells them") {
  const ScratchFolder folder;
  const TensorMap tensors = prefixed(random_tensors(tiny_mae_config()), "module.");
  const auto check = [&](const TensorMap& bad, const std::string& part) {
    write_model_pth(folder / "x.pth", bad);
    check_refused(codes::kCheckpointContent, part, [&] { load(folder / "x.pth"); });
  };
  TensorMap bad = tensors;
  bad["module.blocks.0.attn.extra"] = at::ones({1});
  check(bad, "unexpected tensor 'module.blocks.0.attn.extra'");
  bad = tensors;
  bad["module.norm.bias"] = at::ones({9});
  check(bad, "'module.norm.bias' with the shape [9]");
  bad = prefixed(random_tensors(tiny_mae_config()), "net.");
  bad.erase("net.norm.bias");
  check(bad, "lacks the tensor 'net.norm.bias'");
  // What stands beside the prefix is not the model's, and said.
  bad = prefixed(random_tensors(tiny_mae_config()), "net.");
  bad["criterion.weight"] = at::ones({3});
  write_model_pth(folder / "x.pth", bad);
  CHECK(has_note(load(folder / "x.pth").notes, "'criterion.weight'"));
  // torch.optim.swa_utils.AveragedModel counts beside its module.
  bad = prefixed(random_tensors(tiny_mae_config()), "module.");
  bad["n_averaged"] = at::scalar_tensor(3, at::kLong);
  write_model_pth(folder / "x.pth", bad);
  CHECK(has_note(load(folder / "x.pth").notes, "'n_averaged'"));
}

TEST_CASE("nothing known: the message says what there is, in at most 200 characters of it") {
  const ScratchFolder folder;
  const auto message_of = [&](const std::string& path) -> std::string {
    try {
      load(path);
    } catch (const Error& error) {
      CHECK(std::string(error.code()) == codes::kCheckpointContent);
      return error.what();
    }
    FAIL("loaded");
    return "";
  };
  std::vector<at::Tensor> storages;
  const std::string state =
      pickle_state({{"layer.weight", at::ones({2})}, {std::string(5000, 'x'), at::ones({2})}}, storages);
  write_pth(folder / "x.pth", pickle_file(pickle_dict({{"epoch", pickle_int(1)}, {"weights", state}})),
            storages);
  const std::string found = message_of(folder / "x.pth");
  CHECK(found.find("'epoch' (an int)") != std::string::npos);
  CHECK(found.find("'layer.weight'") != std::string::npos);
  CHECK(found.size() < folder.operator/("x.pth").size() + 300);

  std::map<std::string, at::Tensor> many;
  for (int i = 0; i < 3000; ++i) many["transformer.h." + std::to_string(i) + ".weight"] = at::ones({1});
  write_safetensors(folder / "x.safetensors", many, {});
  const std::string listed = message_of(folder / "x.safetensors");
  CHECK(listed.find("'transformer.h.0.weight'") != std::string::npos);
  CHECK(listed.find(" more") != std::string::npos);
  CHECK(listed.size() < folder.operator/("x.safetensors").size() + 300);
}

TEST_CASE("DeepSpeed: a whole model is read, shards of one are called that") {
  const ScratchFolder folder;
  const TensorMap tensors = random_tensors(tiny_mae_config());
  std::vector<at::Tensor> storages;
  const std::string state = pickle_state(tensors, storages);
  write_pth(
      folder / "mp_rank_00_model_states.pt",
      pickle_file(pickle_dict({{"module", state}, {"ds_version", pickle_text("0.14")}, {"optimizer", "N"}})),
      storages);
  check_same(load(folder / "mp_rank_00_model_states.pt").tensors, tensors);
  check_same(load(folder / "").tensors, tensors);

  write_pth(folder / "zero.pt",
            pickle_file(pickle_dict({{"optimizer_state_dict", nest({"zero_stage"}, pickle_int(3))},
                                     {"ds_version", pickle_text("0.14")}})),
            {});
  check_refused(codes::kCheckpointContent, "zero_to_fp32.py", [&] { load(folder / "zero.pt"); });
}

TEST_CASE("models without biases of query, key and value have zeros there") {
  const ScratchFolder folder;
  TensorMap tensors = random_tensors(tiny_mae_config());
  const TensorMap whole = tensors;
  tensors.erase("blocks.0.attn.qkv.bias");
  tensors.erase("decoder_blocks.0.attn.qkv.bias");
  write_model_pth(folder / "x.pth", tensors);
  const MaeCheckpoint loaded = load(folder / "x.pth");
  CHECK(at::equal(loaded.tensors.at("blocks.0.attn.qkv.bias"), at::zeros({24})));
  CHECK(at::equal(loaded.tensors.at("decoder_blocks.0.attn.qkv.weight"),
                  whole.at("decoder_blocks.0.attn.qkv.weight")));
  CHECK(has_note(loaded.notes, "no biases of query, key and value"));
}

TEST_CASE("weights in other types and as views of any strides come as the same numbers") {
  const ScratchFolder folder;
  const MaeConfig config = tiny_mae_config();
  TensorMap tensors = random_tensors(config);
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16, at::kDouble}) {
    TensorMap converted, expected;
    for (const auto& [name, tensor] : tensors) {
      converted[name] = tensor.to(type);
      expected[name] = converted[name].to(at::kFloat);
    }
    write_model_pth(folder / "x.pth", converted);
    check_same(load(folder / "x.pth").tensors, expected);
    write_safetensors(folder / "x.safetensors", stored(converted), {});
    check_same(load(folder / "x.safetensors").tensors, expected);
  }
  // mask_token expanded from one number, the latent projection transposed.
  std::vector<at::Tensor> storages;
  TensorMap rest = tensors;
  rest.erase("mask_token");
  rest.erase("decoder_embed.weight");
  std::string state = pickle_state(rest, storages);
  storages.push_back(at::full({1}, 0.25f));
  const at::Tensor transposed = tensors.at("decoder_embed.weight").t().contiguous();
  storages.push_back(transposed);
  const std::string one = std::to_string(storages.size() - 2), two = std::to_string(storages.size() - 1);
  state.pop_back();
  state += pickle_text("mask_token") + pickle_tensor({"FloatStorage", one, 1, 0, {1, 1, 4}, {0, 0, 0}}) +
           pickle_text("decoder_embed.weight") + pickle_tensor({"FloatStorage", two, 32, 0, {4, 8}, {1, 4}}) +
           "u";
  write_pth(folder / "x.pth", pickle_file(pickle_dict({{"model", state}})), storages);
  tensors["mask_token"] = at::full({1, 1, 4}, 0.25f);
  check_same(load(folder / "x.pth").tensors, tensors);
}

TEST_CASE("a small file must not describe a large model") {
  const ScratchFolder folder;
  MaeConfig config = tiny_mae_config();
  config.encoder = {4096, 4, 64, 16384};  // a gigabyte, of repeated zeros
  config.decoder.reset();
  Entries entries;
  for (const ExpectedTensor& tensor : expected_tensors(config, canonical_names())) {
    entries.emplace_back(tensor.canonical, pickle_tensor({"FloatStorage", "0", 1, 0, tensor.shape,
                                                          std::vector<int64_t>(tensor.shape.size(), 0)}));
  }
  write_pth(folder / "x.pth", pickle_file(pickle_dict(entries)), {at::zeros({1})});
  check_refused(codes::kOutOfMemory, "must be stored in full",
                [&] { load_checkpoint<MaeConfig>(folder / "x.pth", {.incomplete = true}); });

  config = tiny_mae_config();
  config.encoder = {64, 1, 2, 16};
  save_checkpoint(folder / "x.safetensors", config, random_tensors(config), StoredType::kFloat32);
  SafetensorsFile file = read_safetensors(folder / "x.safetensors");
  auto description = nlohmann::json::parse(file.metadata.at("config"));
  description["image_height"] = description["image_width"] = 4096;  // 1024 x 1024 patches
  description["positions"] = description["decoder_positions"] = "sincos2d";
  file.metadata["config"] = description.dump();
  file.tensors.erase("pos_embed");
  file.tensors.erase("decoder_pos_embed");
  write_safetensors(folder / "x.safetensors", file.tensors, file.metadata);
  check_refused(codes::kOutOfMemory, "so large a table must be in the file",
                [&] { load_checkpoint<MaeConfig>(folder / "x.safetensors"); });
}
