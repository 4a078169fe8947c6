#include "core/checkpoint/checkpoint.h"

#include "checkpoint_support.h"
#include "core/checkpoint/config_json.h"
#include "core/checkpoint/safetensors.h"
#include "core/weights/positions.h"

using namespace ltrp;
using namespace ltrp::test;

namespace {

void check_content_refused(const std::string& path, const std::string& part) {
  check_refused(codes::kCheckpointContent, part, [&] { load_checkpoint<MaeConfig>(path); });
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("goldens: the four files of one autoencoder give the same tensors and geometry") {
  const auto golden = golden_folder();
  if (!golden) return;
  for (const std::string size : {"small", "full"}) {
    CAPTURE(size);
    const auto load = [&](const char* name) {
      return load_checkpoint<MaeConfig>((*golden / size / name).string());
    };
    const MaeCheckpoint official = load("mae-official.pth");
    CHECK(official.naming == "official");
    CHECK(official.config.grid().patches() == (size == "small" ? 49 : 196));
    CHECK(official.config.encoder == TransformerConfig{96, 3, 3, 384});
    CHECK(official.config.decoder == TransformerConfig{64, 2, 4, 256});
    CHECK(official.config.layer_norm_eps == 1e-6);
    CHECK(official.config.patch_size == 16);
    for (const auto& [file, naming] : {std::pair{"ltrp-reference.pth", "ltrp-reference"},
                                       {"hf-hub", "hf-hub"},
                                       {"hf-v5", "hf-v5-saved"}}) {
      CAPTURE(file);
      const MaeCheckpoint other = load(file);
      CHECK(other.naming == naming);
      CHECK(other.config == official.config);
      check_same(other.tensors, official.tensors);
    }
    CHECK(load("hf-hub/model.safetensors").config == official.config);
    // The tables in the files are the fixed ones.
    CHECK(at::allclose(official.tensors.at("pos_embed"), sincos_positions(official.config.grid(), 96), 0,
                       1e-6));
    CHECK(at::allclose(official.tensors.at("decoder_pos_embed"), sincos_positions(official.config.grid(), 64),
                       0, 1e-6));
  }
}

TEST_CASE("goldens: the ranker of a training checkpoint") {
  const auto golden = golden_folder();
  if (!golden) return;
  const RankerCheckpoint ranker =
      load_checkpoint<RankerConfig>((*golden / "full/ltrp-reference.pth").string());
  CHECK(ranker.naming == "ltrp-reference");
  CHECK(ranker.config.head == RankerHead::kCls);
  CHECK(ranker.config.encoder == TransformerConfig{96, 3, 3, 384});
  CHECK(ranker.config.layer_norm_eps == 1e-5);
  CHECK(ranker.tensors.at("head.weight").sizes().vec() == std::vector<int64_t>{196, 96});
  check_refused(codes::kCheckpointContent, "holds an autoencoder, not a ranker",
                [&] { load_checkpoint<RankerConfig>((*golden / "full/mae-official.pth").string()); });
}

TEST_CASE("goldens: without a config.json the heads of an unusual width must be given") {
  const auto golden = golden_folder();
  if (!golden) return;
  const ScratchFolder folder;
  fs::copy_file(*golden / "small/mae-official.pth", folder / "x.pth");
  check_content_refused(folder / "x.pth", "a config.json with num_heads");
  CheckpointOverrides overrides;
  overrides.encoder_heads = 3;
  overrides.layer_norm_eps = 1e-4;
  const MaeCheckpoint given = load_checkpoint<MaeConfig>(folder / "x.pth", overrides);
  CHECK(given.config.encoder.heads == 3);
  CHECK(given.config.decoder->heads == 2);  // 64 wide: 32 a head unless something says 4
  CHECK(given.config.layer_norm_eps == 1e-4);
  overrides.encoder_heads = 5;
  check_refused(codes::kInvalidArgument, "5 does not",
                [&] { load_checkpoint<MaeConfig>(folder / "x.pth", overrides); });
  // A config.json of some other model is not taken for this one.
  write_bytes(folder / "config.json",
              R"({"embed_dim": 768, "depth": 12, "patch_size": 16, "num_heads": 12})");
  check_content_refused(folder / "x.pth", "a config.json with num_heads");
}

TEST_CASE("transformers 5 module names, and eps from config.json or Hugging Face's default") {
  const auto golden = golden_folder();
  if (!golden) return;
  const MaeCheckpoint reference = load_checkpoint<MaeConfig>((*golden / "small/hf-hub").string());
  std::map<std::string, at::Tensor> renamed;
  const SafetensorsFile hub = read_safetensors((*golden / "small/hf-hub/model.safetensors").string());
  for (const auto& [hub_name, tensor] : hub.tensors) {
    std::string name = hub_name;
    name = replaced(name, "vit.encoder.layer.", "vit.layers.");
    for (const char* part : {"query", "key", "value"}) {
      name = replaced(name, std::string("attention.attention.") + part,
                      std::string("attention.") + part[0] + "_proj");
    }
    name = replaced(name, "attention.output.dense", "attention.o_proj");
    name = replaced(name, "intermediate.dense", "mlp.fc1");
    name = replaced(name, ".output.dense", ".mlp.fc2");
    renamed[name] = tensor;
  }
  const ScratchFolder folder;
  write_safetensors(folder / "model.safetensors", renamed, {{"format", "pt"}});
  std::string config = read_bytes((*golden / "small/hf-hub/config.json").string());
  write_bytes(folder / "config.json", config);
  const MaeCheckpoint loaded = load_checkpoint<MaeConfig>(folder / "");
  CHECK(loaded.naming == "hf-v5");
  CHECK(loaded.config == reference.config);
  check_same(loaded.tensors, reference.tensors);

  write_bytes(folder / "config.json", replaced(config, "layer_norm_eps", "something_else"));
  CHECK(load_checkpoint<MaeConfig>(folder / "").config.layer_norm_eps == 1e-12);
  write_bytes(folder / "config.json", replaced(config, "\"gelu\"", "\"relu\""));
  check_refused(codes::kUnsupported, "'relu'", [&] { load_checkpoint<MaeConfig>(folder / ""); });
  write_bytes(folder / "config.json", replaced(config, "\"image_size\": 112", "\"image_size\": 224"));
  check_content_refused(folder / "", "vit.embeddings.position_embeddings");
  write_bytes(folder / "config.json", "{");
  check_refused(codes::kCheckpointFormat, "config.json", [&] { load_checkpoint<MaeConfig>(folder / ""); });

  renamed.erase("vit.layers.1.attention.k_proj.bias");
  write_bytes(folder / "config.json", config);
  write_safetensors(folder / "model.safetensors", renamed, {});
  check_content_refused(folder / "", "lacks the tensor 'vit.layers.1.attention.k_proj.bias'");
}

TEST_CASE("published widths need nothing beside the file") {
  const ScratchFolder folder;
  MaeConfig config;  // the widths of mae_visualize_vit_base, two blocks of them
  config.image_height = config.image_width = 32;
  config.encoder = {768, 1, 12, 3072};
  config.decoder = TransformerConfig{512, 1, 16, 2048};
  const TensorMap tensors = random_tensors(config);
  write_model_pth(folder / "x.pth", tensors);
  const MaeCheckpoint loaded = load_checkpoint<MaeConfig>(folder / "x.pth");
  CHECK(loaded.config == config);
  check_same(loaded.tensors, tensors);
}

TEST_CASE("strict: missing, unexpected, misshapen and not finite tensors are named") {
  const ScratchFolder folder;
  const std::string path = folder / "x.pth";
  const TensorMap good = random_tensors(tiny_mae_config());
  const auto check = [&](const TensorMap& tensors, const std::string& part) {
    write_model_pth(path, tensors);
    check_refused(codes::kCheckpointContent, part, [&] { load_checkpoint<MaeConfig>(path, tiny_heads()); });
  };
  write_model_pth(path, good);
  CHECK(load_checkpoint<MaeConfig>(path, tiny_heads()).config == tiny_mae_config());

  for (const auto& [name, tensor] : good) {  // each one, so that no tensor bends the inferred geometry
    CAPTURE(name);
    TensorMap bad = good;
    bad.erase(name);
    check(bad, "lacks the tensor '" + name + "'");
    bad = good;
    bad[name] = at::cat({tensor, tensor}, -1);
    check(bad, "'" + name + "' with the shape");
    bad = good;
    bad[name] = tensor.unsqueeze(0);
    check(bad, "'" + name + "' with the shape");
    bad = good;
    bad[name] = tensor.clone();
    bad[name].view(-1)[0] = std::numeric_limits<float>::quiet_NaN();
    check(bad, "NaN or infinite values in the tensor '" + name + "'");
  }
  TensorMap bad = good;
  bad["blocks.0.attn.extra"] = at::ones({1});
  check(bad, "unexpected tensor 'blocks.0.attn.extra'");
  bad = good;
  bad["norm.bias"] = at::full({8}, std::numeric_limits<float>::infinity());
  check(bad, "'norm.bias'");
  check({{"something", at::ones({2})}}, "holds no model that is known");
}

TEST_CASE("encoder-only files load without a decoder and say so when one is needed") {
  const ScratchFolder folder;
  MaeConfig config = tiny_mae_config();
  config.decoder.reset();
  const TensorMap tensors = random_tensors(config);
  write_model_pth(folder / "mae_pretrain.pth", tensors);
  check_refused(codes::kCheckpointContent, "mae_visualize",
                [&] { load_checkpoint<MaeConfig>(folder / "mae_pretrain.pth", tiny_heads()); });
  CheckpointOverrides encoder_alone = tiny_heads();
  encoder_alone.incomplete = true;
  const MaeCheckpoint loaded = load_checkpoint<MaeConfig>(folder / "mae_pretrain.pth", encoder_alone);
  CHECK_FALSE(loaded.config.decoder.has_value());
  check_same(loaded.tensors, tensors);
}

TEST_CASE("training checkpoints: arguments are read, hostile parts stay inert") {
  const ScratchFolder folder;
  const std::string path = folder / "x.pth";
  const std::string proof = folder / "executed";
  const TensorMap tensors = random_tensors(tiny_mae_config());
  const std::string arguments = "cargparse\nNamespace\n)\x81" +
                                pickle_dict({{"num_heads", pickle_int(2)},
                                             {"decoder_num_heads", pickle_int(1)},
                                             {"norm_pix_loss", "\x88"},
                                             {"evil", pickle_system(proof)}}) +
                                "b";
  write_model_pth(path, tensors, {{"args", arguments}, {"scaler", pickle_system(proof)}});
  const MaeCheckpoint loaded = load_checkpoint<MaeConfig>(path);
  CHECK(loaded.config.encoder.heads == 2);
  CHECK(loaded.config.normalized_target);
  check_same(loaded.tensors, tensors);

  write_pth(path, pickle_file(pickle_system(proof)), {});
  check_content_refused(path, "an object of posix.system");
  write_pth(path, pickle_file(pickle_dict({{"model", pickle_system(proof)}})), {});
  check_content_refused(path, "'model' (an object of posix.system)");
  std::vector<at::Tensor> storages;
  std::string state = pickle_state(tensors, storages);
  state.insert(state.size() - 1, pickle_text("norm.bias") + pickle_system(proof));
  state = pickle_file(pickle_dict({{"model", state}}));
  write_pth(path, state, storages);
  check_refused(codes::kCheckpointContent, "holds an object of posix.system under 'norm.bias'",
                [&] { load_checkpoint<MaeConfig>(path, tiny_heads()); });
  CHECK_FALSE(fs::exists(proof));
}

TEST_CASE("non-square grids need a size") {
  const ScratchFolder folder;
  MaeConfig config = tiny_mae_config();
  config.image_width = 12;
  const TensorMap tensors = random_tensors(config);
  write_model_pth(folder / "x.pth", tensors);
  CheckpointOverrides overrides = tiny_heads();
  check_refused(codes::kCheckpointContent, "a config.json with img_size [height, width]",
                [&] { load_checkpoint<MaeConfig>(folder / "x.pth", overrides); });
  overrides.image_height = 8;
  check_refused(codes::kInvalidArgument, "both or none",
                [&] { load_checkpoint<MaeConfig>(folder / "x.pth", overrides); });
  // A config.json beside the file does as well.
  write_bytes(folder / "config.json", R"({"img_size": [8, 12], "patch_size": 4, "embed_dim": 8, "depth": 1,
    "num_heads": 2, "decoder_embed_dim": 4, "decoder_num_heads": 1})");
  CHECK(load_checkpoint<MaeConfig>(folder / "x.pth").config == config);
  fs::remove(folder / "config.json");
  overrides.image_width = 12;
  CHECK(load_checkpoint<MaeConfig>(folder / "x.pth", overrides).config == config);
}

TEST_CASE("our own layout: float32 round trips are exact") {
  const ScratchFolder folder;
  MaeConfig config = tiny_mae_config();
  config.image_width = 20;
  config.layer_norm_eps = 1.25e-6;
  config.normalized_target = true;
  config.mean = {0.1, 1.0 / 3, 0.7};
  TensorMap tensors = random_tensors(config);
  tensors["decoder_pos_embed"] = sincos_positions(config.grid(), 4);
  save_checkpoint(folder / "mae.safetensors", config, tensors, StoredType::kFloat32);
  const MaeCheckpoint loaded = load_checkpoint<MaeConfig>(folder / "mae.safetensors");
  CHECK(loaded.naming == "ltrp");
  CHECK(loaded.config == config);
  check_same(loaded.tensors, tensors);
  const SafetensorsFile file = read_safetensors(folder / "mae.safetensors");
  CHECK(file.metadata.at("format") == "ltrp-1");
  CHECK(file.metadata.at("kind") == "mae");
  CHECK(file.tensors.count("pos_embed") == 1);
  CHECK(file.tensors.count("decoder_pos_embed") == 0);
  const auto header = nlohmann::json::parse(file.metadata.at("config"));
  CHECK(header.at("positions") == "stored");
  CHECK(header.at("decoder_positions") == "sincos2d");
  CHECK(header.at("layer_norm_eps") == 1.25e-6);

  for (const RankerHead head : {RankerHead::kCls, RankerHead::kToken}) {
    const RankerConfig ranker = tiny_ranker_config(head);
    const TensorMap weights = random_tensors(ranker);
    save_checkpoint(folder / "ranker.safetensors", ranker, weights, StoredType::kFloat32);
    const RankerCheckpoint back = load_checkpoint<RankerConfig>(folder / "ranker.safetensors");
    CHECK(back.config == ranker);
    check_same(back.tensors, weights);
  }
  check_content_refused(folder / "ranker.safetensors", "holds a ranker, not an autoencoder");
  check_refused(codes::kCheckpointContent, "holds an autoencoder, not a ranker",
                [&] { load_checkpoint<RankerConfig>(folder / "mae.safetensors"); });

  config.decoder.reset();
  TensorMap encoder;
  for (const auto& [name, tensor] : tensors) {
    if (name.rfind("decoder_", 0) != 0 && name != "mask_token") encoder[name] = tensor;
  }
  save_checkpoint(folder / "encoder.safetensors", config, encoder, StoredType::kFloat32);
  CHECK(load_checkpoint<MaeConfig>(folder / "encoder.safetensors", {.incomplete = true}).config == config);
  check_content_refused(folder / "encoder.safetensors", "no decoder");
}

TEST_CASE("our own layout: half precision rounds weights once and keeps tables") {
  const ScratchFolder folder;
  const MaeConfig config = tiny_mae_config();
  const TensorMap tensors = random_tensors(config);
  for (const auto& [type, stored] :
       {std::pair{StoredType::kFloat16, at::kHalf}, {StoredType::kBFloat16, at::kBFloat16}}) {
    save_checkpoint(folder / "x.safetensors", config, tensors, type);
    const MaeCheckpoint loaded = load_checkpoint<MaeConfig>(folder / "x.safetensors");
    for (const auto& [name, tensor] : loaded.tensors) {
      CAPTURE(name);
      const bool table = name == "pos_embed" || name == "decoder_pos_embed";
      CHECK(at::equal(tensor, table ? tensors.at(name) : tensors.at(name).to(stored).to(at::kFloat)));
    }
  }
  TensorMap large = tensors;
  large["norm.bias"] = at::full({8}, 1e6f);
  check_refused(codes::kInvalidArgument, "'norm.bias'",
                [&] { save_checkpoint(folder / "y.safetensors", config, large, StoredType::kFloat16); });
  CHECK_FALSE(fs::exists(folder / "y.safetensors"));
}

TEST_CASE("saving refuses models that do not fit their config") {
  const ScratchFolder folder;
  const MaeConfig config = tiny_mae_config();
  const TensorMap good = random_tensors(config);
  const auto check = [&](const TensorMap& tensors, const std::string& part) {
    check_refused(codes::kInvalidArgument, part,
                  [&] { save_checkpoint(folder / "x", config, tensors, StoredType::kFloat32); });
  };
  TensorMap bad = good;
  bad.erase("norm.bias");
  check(bad, "lacks the tensor 'norm.bias'");
  bad = good;
  bad["norm.bias"] = at::ones({9});
  check(bad, "[9] instead of [8]");
  bad = good;
  bad["more"] = at::ones({1});
  check(bad, "tensors instead of");
  CHECK(folder.files() == 0);
}

TEST_CASE("our own layout: a damaged header is refused") {
  const ScratchFolder folder;
  const std::string path = folder / "x.safetensors";
  const MaeConfig config = tiny_mae_config();
  save_checkpoint(path, config, random_tensors(config), StoredType::kFloat32);
  const SafetensorsFile file = read_safetensors(path);
  const auto check = [&](const char* code, const std::string& key, const std::string& value,
                         const std::string& part) {
    auto metadata = file.metadata;
    metadata[key] = value;
    write_safetensors(path, file.tensors, metadata);
    check_refused(code, part, [&] { load_checkpoint<MaeConfig>(path); });
  };
  const auto edited = [&](const std::string& pointer, const nlohmann::json& value) {
    auto description = nlohmann::json::parse(file.metadata.at("config"));
    description[nlohmann::json::json_pointer(pointer)] = value;
    return description.dump();
  };
  check(codes::kUnsupported, "format", "ltrp-9", "layout 'ltrp-9'");
  check(codes::kCheckpointFormat, "config", "{", "not a JSON object");
  check(codes::kCheckpointFormat, "config", std::string(1000, '['), "not a JSON object");
  check(codes::kCheckpointContent, "config", "{}", "lacks 'image_height'");
  check(codes::kCheckpointContent, "config", edited("/encoder/heads", 3), "number of heads 3");
  check(codes::kCheckpointContent, "config", edited("/encoder/depth", 2), "lacks the tensor 'blocks.1.");
  check(codes::kCheckpointContent, "config", edited("/encoder/dim", "8"), "whole number for 'dim'");
  check(codes::kCheckpointContent, "config", edited("/layer_norm_eps", -1),
        "layerNormEps must be in (0, 1); got -1");
  check(codes::kCheckpointContent, "config", edited("/positions", "rotary"), "names unknown 'positions'");
  check(codes::kCheckpointContent, "config", edited("/image_height", 4096), "'pos_embed' with the shape");
  check(codes::kCheckpointContent, "kind", "another kind", "something else");
  CHECK_THROWS_AS(
      config_from_json<MaeConfig>(nlohmann::json::parse(edited("/patch_size", uint64_t{1} << 63))), Error);
}

TEST_CASE("random damage to checkpoints is refused or harmless") {
  const ScratchFolder folder;
  const MaeConfig config = tiny_mae_config();
  const TensorMap tensors = random_tensors(config);
  write_model_pth(folder / "x.pth", tensors);
  save_checkpoint(folder / "x.safetensors", config, tensors, StoredType::kFloat16);
  std::mt19937_64 random(3);
  for (const std::string name : {"x.pth", "x.safetensors"}) {
    CAPTURE(name);
    const std::string bytes = read_bytes(folder / name);
    const std::string damaged = folder / ("damaged-" + name);
    int loaded = 0;
    for (int i = 0; i < 3000; ++i) {
      write_bytes(damaged, mutate(bytes, random, 6000));
      loaded += works_or_is_refused([&] {
        load_checkpoint<MaeConfig>(damaged, name == "x.pth" ? tiny_heads() : CheckpointOverrides{});
      })
                    ? 1
                    : 0;
    }
    MESSAGE(name, ": ", loaded, " of 3000 damaged files still load");
    CHECK(loaded < 3000);
  }
}
