// Which files a path stands for, what lies beside them, and files that are something else.
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <thread>

#include "checkpoint_support.h"
#include "core/checkpoint/config_json.h"
#include "core/checkpoint/file_io.h"
#include "core/checkpoint/safetensors.h"

using namespace ltrp;
using namespace ltrp::test;

namespace {

MaeCheckpoint load(const std::string& path) { return load_checkpoint<MaeConfig>(path, tiny_heads()); }

std::map<std::string, at::Tensor> stored(const TensorMap& tensors) {
  return {tensors.begin(), tensors.end()};
}

// Canonical names -> those of Hugging Face's hub files.
std::map<std::string, at::Tensor> hugging_face(const TensorMap& tensors, const std::string& encoder) {
  const std::vector<std::pair<std::string, std::string>> parts = {
      {"decoder_blocks.", "decoder.decoder_layers."},
      {"decoder_embed", "decoder.decoder_embed"},
      {"decoder_pos_embed", "decoder.decoder_pos_embed"},
      {"decoder_norm", "decoder.decoder_norm"},
      {"decoder_pred", "decoder.decoder_pred"},
      {"mask_token", "decoder.mask_token"},
      {"blocks.", encoder + "encoder.layer."},
      {"cls_token", encoder + "embeddings.cls_token"},
      {"pos_embed", encoder + "embeddings.position_embeddings"},
      {"patch_embed.proj", encoder + "embeddings.patch_embeddings.projection"},
      {"norm.", encoder + "layernorm."}};
  const std::vector<std::pair<std::string, std::string>> inner = {{".norm1.", ".layernorm_before."},
                                                                  {".norm2.", ".layernorm_after."},
                                                                  {".attn.proj.", ".attention.output.dense."},
                                                                  {".mlp.fc1.", ".intermediate.dense."},
                                                                  {".mlp.fc2.", ".output.dense."}};
  std::map<std::string, at::Tensor> result;
  for (const auto& [canonical, tensor] : tensors) {
    std::string name = canonical;
    for (const auto& [from, to] : parts) {
      if (!name.starts_with(from)) continue;
      name = to + name.substr(from.size());
      break;
    }
    for (const auto& [from, to] : inner) {
      if (const size_t at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
    }
    const size_t qkv = name.find(".attn.qkv.");
    if (qkv == std::string::npos) {
      result[name] = tensor;
      continue;
    }
    const std::vector<at::Tensor> split = tensor.chunk(3);
    const char* const names[] = {"query", "key", "value"};
    for (size_t i = 0; i < 3; ++i)
      result[name.substr(0, qkv) + ".attention.attention." + names[i] + name.substr(qkv + 9)] =
          split[i].clone();
  }
  return result;
}

constexpr const char* kTinyConfig = R"({"image_size": 8, "patch_size": 4, "hidden_size": 8,
  "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "decoder_hidden_size": 4,
  "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 1, "decoder_intermediate_size": 8,
  "layer_norm_eps": 1e-12, "norm_pix_loss": true, "hidden_act": "gelu", "num_channels": 3, "qkv_bias": true})";

std::string with(const std::string& extra) {
  std::string config = kTinyConfig;
  config.pop_back();
  return config + ", " + extra + "}";
}

// Writes `tensors` as `count` shards and returns the index.
std::string write_shards(const ScratchFolder& folder, const std::map<std::string, at::Tensor>& tensors,
                         size_t count) {
  std::vector<std::map<std::string, at::Tensor>> shards(count);
  std::string index;
  size_t i = 0;
  const auto name = [&](size_t shard) {
    return "model-0000" + std::to_string(shard + 1) + "-of-0000" + std::to_string(count) + ".safetensors";
  };
  for (const auto& [key, tensor] : tensors) {
    const size_t shard = i++ % count;
    shards[shard][key] = tensor;
    index += (index.empty() ? "" : ",") + std::string("\"") + key + "\":\"" + name(shard) + "\"";
  }
  for (size_t shard = 0; shard < count; ++shard) write_safetensors(folder / name(shard), shards[shard], {});
  return R"({"metadata":{"total_size":1},"weight_map":{)" + index + "}}";
}

// Makes flock() below fail.
std::atomic<int> flock_error{0};

}  // namespace

// In front of the C library's, for file systems without locks.
extern "C" int flock(int descriptor, int operation) noexcept {
  if (flock_error != 0) {
    errno = flock_error;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_flock, descriptor, operation));
}

TEST_CASE("other formats are called what they are, with what helps") {
  const ScratchFolder folder;
  using namespace std::string_literals;
  const std::string tar = std::string(257, 'x') + "ustar" + std::string(800, '\0');
  const std::vector<std::tuple<std::string, std::string, std::string>> files = {
      {"x.tar", tar, "a tar archive"},
      {"x.pth.tar", "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03."s,
       "before 1.6"},
      {"x.pth", "", "is empty"},
      {"x.h5", "\x89HDF\r\n\x1a\n"s + std::string(100, 'x'), "HDF5"},
      {"x.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n",
       "git lfs pull"},
      {"x.bin", "<!DOCTYPE html>\n<html><body>Sign in</body></html>", "a web page"},
      {"x.bin", "\n  <html>", "a web page"},
      {"x.gguf", "GGUF\3\0\0\0"s, "GGUF"},
      {"x.npy", "\x93NUMPY\1\0v\0"s, "NumPy"},
      {"x.pth.gz", "\x1f\x8b\x08\0\0\0\0\0"s, "gzip"},
      {"x.onnx",
       "\x08\x08\x12\x04ltrp\x1a\x05"
       "0.1.0"s,
       "ONNX"},
      {"x.pkl", "\x80\x04}\x94."s, "a plain pickle"},
      {"x.json", "{\"a\": 1}", "is JSON"},
      {"x.txt", "These are not weights.", "begins with 'These are not weights.'"},
      {"x", "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x10"s, "01 02 03 04"},
      {"x.pth", std::string(5000, '\0'), "bytes that are zero"},
      {"x.safetensors", little_endian(100000, 8) + "{\"a\"", "its header claims 100000 bytes"},
      {"x.png", "\x89PNG\r\n\x1a\n"s, "PNG picture"},
  };
  for (const auto& [name, bytes, part] : files) {
    CAPTURE(part);
    write_bytes(folder / name, bytes);
    check_refused(codes::kCheckpointFormat, part, [&] { load_checkpoint<MaeConfig>(folder / name); });
    check_refused(codes::kCheckpointFormat, part, [&] { load_checkpoint<RankerConfig>(folder / name); });
  }
  // A name says nothing: each format under the other's.
  const TensorMap tensors = random_tensors(tiny_mae_config());
  write_model_pth(folder / "really-a-pickle.safetensors", tensors);
  check_same(load(folder / "really-a-pickle.safetensors").tensors, tensors);
  write_safetensors(folder / "really-safetensors.pth", stored(tensors), {});
  check_same(load(folder / "really-safetensors.pth").tensors, tensors);

  const std::string whole = read_bytes(folder / "really-a-pickle.safetensors");
  write_bytes(folder / "cut.pth", whole.substr(0, whole.size() / 2));
  check_refused(codes::kCheckpointFormat, "cut off after", [&] { load(folder / "cut.pth"); });
  {
    caffe2::serialize::PyTorchStreamWriter writer(folder / "arrays.npz");
    writer.writeRecord("weight.npy", "x", 1);
    writer.writeEndOfFile();
  }
  check_refused(codes::kCheckpointFormat, ".npz", [&] { load(folder / "arrays.npz"); });
}

TEST_CASE("shards: a folder, an index and one of them stand for the whole") {
  const ScratchFolder folder;
  const TensorMap tensors = random_tensors(tiny_mae_config());
  const auto names = hugging_face(tensors, "vit.");
  const std::string index = write_shards(folder, names, 3);
  const std::string index_path = folder / "model.safetensors.index.json";
  write_bytes(index_path, index);
  write_bytes(folder / "config.json", kTinyConfig);
  const std::string second = folder / "model-00002-of-00003.safetensors";
  for (const std::string& path : {folder / "", index_path, second}) {
    CAPTURE(path);
    const MaeCheckpoint loaded = load_checkpoint<MaeConfig>(path);
    check_same(loaded.tensors, tensors);
    CHECK(loaded.config.normalized_target);
    CHECK(loaded.naming == "hf-hub");
  }
  fs::remove(index_path);  // without it, all of them still are the model
  check_same(load_checkpoint<MaeConfig>(second).tensors, tensors);
  check_same(load_checkpoint<MaeConfig>(folder / "").tensors, tensors);

  write_bytes(index_path, index);
  const std::string bytes = read_bytes(second);
  write_bytes(second, bytes.substr(0, bytes.size() - 10));
  check_refused(codes::kCheckpointFormat,
                "model-00002-of-00003.safetensors' is not a valid safetensors file: it is truncated",
                [&] { load_checkpoint<MaeConfig>(folder / ""); });
  fs::remove(second);
  check_refused(codes::kFileNotFound, "is missing beside it: 'model-00002-of-00003.safetensors'",
                [&] { load_checkpoint<MaeConfig>(folder / ""); });
  fs::remove(index_path);
  check_refused(codes::kFileNotFound, "is shard 1 of 3 of a model",
                [&] { load_checkpoint<MaeConfig>(folder / "model-00001-of-00003.safetensors"); });

  for (const std::string name : {"../x.safetensors", "/etc/passwd", "a/b", "..", ""}) {
    write_bytes(index_path, R"({"weight_map":{"vit.embeddings.cls_token":")" + name + "\"}}");
    check_refused(codes::kCheckpointFormat, "must be a file of the same folder", [&] { load(index_path); });
  }
  write_bytes(index_path, R"({"weight_map":{"absent":"model-00001-of-00003.safetensors"}})");
  check_refused(codes::kCheckpointContent, "lacks the tensor 'absent'", [&] { load(index_path); });
  write_bytes(index_path, R"({"weight_map":[]})");
  check_refused(codes::kCheckpointFormat, "is no index", [&] { load(index_path); });
}

TEST_CASE("shards of torch.save") {
  const ScratchFolder folder;
  const TensorMap tensors = random_tensors(tiny_mae_config());
  std::map<std::string, TensorMap> shards;
  std::string index;
  for (const auto& [name, tensor] : tensors) {
    const std::string file =
        name.starts_with("decoder") ? "pytorch_model-00002-of-00002.bin" : "pytorch_model-00001-of-00002.bin";
    shards[file][name] = tensor;
    index += (index.empty() ? "" : ",") + std::string("\"") + name + "\":\"" + file + "\"";
  }
  for (const auto& [file, part] : shards) {
    std::vector<at::Tensor> storages;
    const std::string state = pickle_state(part, storages);
    write_pth(folder / file, pickle_file(state), storages);
  }
  write_bytes(folder / "pytorch_model.bin.index.json", R"({"weight_map":{)" + index + "}}");
  check_same(load(folder / "").tensors, tensors);
}

TEST_CASE("folders without a model say what they hold; one checkpoint of any name will do") {
  const ScratchFolder folder;
  check_refused(codes::kFileNotFound, "it holds nothing", [&] { load(folder / ""); });
  write_bytes(folder / "README.md", "x");
  check_refused(codes::kFileNotFound, "it holds 'README.md'", [&] { load(folder / ""); });
  const TensorMap tensors = random_tensors(tiny_mae_config());
  write_model_pth(folder / "checkpoint-399.pth", tensors);
  check_same(load(folder / "").tensors, tensors);
  write_model_pth(folder / "checkpoint-199.pth", tensors);
  check_refused(codes::kFileNotFound, "give one of 'checkpoint-199.pth', 'checkpoint-399.pth'",
                [&] { load(folder / ""); });
  write_bytes(folder / "__0_0.distcp", "x");
  check_refused(codes::kCheckpointFormat, "dcp_to_torch", [&] { load(folder / ""); });
}

TEST_CASE("an encoder alone is called that, with and without Hugging Face's prefix") {
  const ScratchFolder folder;
  MaeConfig config = tiny_mae_config();
  config.decoder.reset();
  const TensorMap tensors = random_tensors(config);
  write_bytes(folder / "config.json", kTinyConfig);
  for (const std::string prefix : {"", "vit.", "model.vit.", "model."}) {
    CAPTURE(prefix);
    write_safetensors(folder / "model.safetensors", hugging_face(tensors, prefix), {});
    check_refused(codes::kCheckpointContent, "holds an encoder alone",
                  [&] { load_checkpoint<MaeConfig>(folder / ""); });
    const MaeCheckpoint loaded = load_checkpoint<MaeConfig>(folder / "", {.incomplete = true});
    check_same(loaded.tensors, tensors);
    CHECK(has_note(loaded.notes, "encoder alone"));
  }
  auto pooled = hugging_face(tensors, "");
  pooled["pooler.dense.weight"] = at::ones({8, 8});
  write_safetensors(folder / "model.safetensors", pooled, {});
  check_refused(codes::kCheckpointContent, "unexpected tensor 'pooler.dense.weight'",
                [&] { load_checkpoint<MaeConfig>(folder / "", {.incomplete = true}); });
}

TEST_CASE("settings beside a model are used, or said, or refused") {
  const ScratchFolder folder;
  const TensorMap tensors = random_tensors(tiny_mae_config());
  write_safetensors(folder / "model.safetensors", hugging_face(tensors, "vit."), {});
  const auto config_of = [&](const std::string& config) {
    write_bytes(folder / "config.json", config);
    return load_checkpoint<MaeConfig>(folder / "");
  };
  CHECK(config_of(kTinyConfig).config.layer_norm_eps == 1e-12);
  CHECK(has_note(config_of(with(R"("mask_ratio": 0.6)")).notes, "mask_ratio 0.6"));
  check_refused(codes::kUnsupported, "1 channels",
                [&] { config_of(with(R"("in_chans": 1, "num_channels": 1)")); });
  check_refused(codes::kUnsupported, "'quick_gelu'",
                [&] { config_of(with(R"("hidden_act": "quick_gelu")")); });
  check_refused(codes::kCheckpointContent, "unexpected tensor",
                [&] { config_of(with(R"("qkv_bias": false)")); });

  config_of(kTinyConfig);
  const auto preprocessed = [&](const std::string& preprocessor) {
    write_bytes(folder / "preprocessor_config.json", preprocessor);
    return load_checkpoint<MaeConfig>(folder / "");
  };
  MaeCheckpoint loaded = preprocessed(
      R"({"image_mean": [0.5, 0.25, 0.125], "image_std": [0.5, 0.5, 1], "size": {"height": 8, "width": 8}})");
  CHECK(loaded.config.mean == std::array<double, 3>{0.5, 0.25, 0.125});
  CHECK(loaded.config.std == std::array<double, 3>{0.5, 0.5, 1});
  CHECK_FALSE(has_note(loaded.notes, "preprocessor"));
  CHECK(has_note(preprocessed(R"({"size": {"shortest_edge": 16}})").notes, "16 x 16"));
  loaded = preprocessed(R"({"do_normalize": false})");
  CHECK(loaded.config.mean == std::array<double, 3>{0, 0, 0});
  CHECK(loaded.config.std == std::array<double, 3>{1, 1, 1});
  loaded = preprocessed(
      R"({"do_rescale": false, "image_mean": [127.5, 127.5, 127.5], "image_std": [51, 51, 51]})");
  CHECK(loaded.config.mean == std::array<double, 3>{0.5, 0.5, 0.5});
  CHECK(loaded.config.std == std::array<double, 3>{0.2, 0.2, 0.2});
  check_refused(codes::kCheckpointContent, "image_mean", [&] { preprocessed(R"({"image_mean": [1, 2]})"); });
  check_refused(codes::kCheckpointContent, "std", [&] { preprocessed(R"({"image_std": [1, 0, 1]})"); });
  check_refused(codes::kCheckpointFormat, "preprocessor_config.json", [&] { preprocessed("["); });
}

TEST_CASE("settings beside a lone file count unless they describe another model") {
  const ScratchFolder folder;
  const TensorMap tensors = random_tensors(tiny_mae_config());
  write_model_pth(folder / "x.pth", tensors);
  CHECK(has_note(load(folder / "x.pth").notes, "normalizedTarget says otherwise"));
  write_bytes(folder / "config.json", R"({"norm_pix_loss": true})");
  MaeCheckpoint loaded = load(folder / "x.pth");
  CHECK(loaded.config.normalized_target);
  CHECK_FALSE(has_note(loaded.notes, "normalizedTarget"));
  write_bytes(folder / "config.json", R"({"num_heads": 2, "decoder_num_heads": 1})");
  CHECK(load_checkpoint<MaeConfig>(folder / "x.pth").config.encoder.heads == 2);
  write_bytes(folder / "config.json", kTinyConfig);  // the other spelling
  CHECK(load_checkpoint<MaeConfig>(folder / "x.pth").config.normalized_target);
  write_bytes(folder / "config.json", R"({"norm_pix_loss": true, "embed_dim": 768})");
  loaded = load(folder / "x.pth");
  CHECK_FALSE(loaded.config.normalized_target);
  CHECK(has_note(loaded.notes, "a width of 768 instead of 8, and is not used"));
  CheckpointOverrides overrides = tiny_heads();
  overrides.normalized_target = true;
  CHECK(load_checkpoint<MaeConfig>(folder / "x.pth", overrides).config.normalized_target);
}

TEST_CASE("a training checkpoint of ours is a model too, and a run's folder stands for the newest") {
  const ScratchFolder folder;
  const MaeConfig config = tiny_mae_config();
  const auto write = [&](const std::string& name, const TensorMap& tensors) {
    TensorMap state = prefixed(tensors, "model/");
    state.merge(prefixed(random_tensors(config), "adam_m/"));
    state.merge(prefixed(random_tensors(config), "adam_v/"));
    write_safetensors(folder / name, stored(state),
                      {{"format", "ltrp-training-1"},
                       {"kind", "pretrain"},
                       {"step", "2"},
                       {"options", nlohmann::json{{"model", config_to_json(config)}}.dump()}});
  };
  const TensorMap older = random_tensors(config), newer = random_tensors(config);
  write("checkpoint-000000002.safetensors", older);
  const MaeCheckpoint loaded = load_checkpoint<MaeConfig>(folder / "checkpoint-000000002.safetensors");
  CHECK(loaded.config == config);
  check_same(loaded.tensors, older);
  CHECK(has_note(loaded.notes, "after 2 steps"));
  check_refused(codes::kCheckpointContent, "holds an autoencoder, not a ranker",
                [&] { load_checkpoint<RankerConfig>(folder / "checkpoint-000000002.safetensors"); });
  write_bytes(folder / "run.json", "{}");
  write("checkpoint-000000010.safetensors", newer);
  const MaeCheckpoint newest = load_checkpoint<MaeConfig>(folder / "");
  check_same(newest.tensors, newer);
  CHECK(has_note(newest.notes, "'checkpoint-000000010.safetensors'"));
  save_checkpoint(folder / "model.safetensors", config, older, StoredType::kFloat32);
  fs::last_write_time(folder / "model.safetensors",
                      fs::file_time_type::clock::now() + std::chrono::seconds(5));
  check_same(load_checkpoint<MaeConfig>(folder / "").tensors, older);
}

TEST_CASE("a load is cancelled at once, and reads nothing of a model that does not fit") {
  const ScratchFolder folder;
  const uint64_t bytes = uint64_t{5} << 30;  // sparse: it takes no room, but reading it would take seconds
  const auto write_sparse = [&](const std::string& header) {
    write_bytes(folder / "x.safetensors", little_endian(header.size(), 8) + header);
    fs::resize_file(folder / "x.safetensors", 8 + header.size() + bytes);
  };
  write_sparse(R"({"lm_head.weight":{"dtype":"F32","shape":[1342177280],"data_offsets":[0,5368709120]}})");
  const auto begin = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  check_refused(codes::kCheckpointContent, "'lm_head.weight'", [&] { load(folder / "x.safetensors"); });
  CHECK(seconds() < 2);
  std::atomic<bool> cancelled{true};
  const RunContext context(&cancelled, nullptr);
  write_safetensors(folder / "y.safetensors", stored(random_tensors(tiny_mae_config())), {});
  check_refused(codes::kCancelled, "cancelled",
                [&] { load_checkpoint<MaeConfig>(folder / "y.safetensors", tiny_heads(), context); });
  std::vector<float> values(1 << 20);
  cancelled = false;
  const InputFile file(folder / "x.safetensors");
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    cancelled = true;
  });
  check_refused(codes::kCancelled, "cancelled", [&] {
    for (;;) file.read_at(0, values.data(), values.size() * sizeof(float), context);
  });
  later.join();
  check_refused(codes::kCheckpointFormat, "at most 16777216 are read", [&] {
    write_bytes(folder / "z.safetensors", little_endian(uint64_t{88} << 20, 8) + "{");
    fs::resize_file(folder / "z.safetensors", uint64_t{100} << 20);
    load(folder / "z.safetensors");
  });
}

TEST_CASE("writing: files that are there, pipes, devices and links") {
  const ScratchFolder folder;
  const std::string path = folder / "x";
  const auto write = [&](const std::string& to, IfThere if_there) {
    write_safetensors(to, {{"a", at::ones({4})}}, {}, if_there);
  };
  write(path, IfThere::kRefuse);
  check_refused(codes::kFileExists, "exists already", [&] { write(path, IfThere::kRefuse); });
  fs::remove(path);
  {  // it comes to be there meanwhile
    AtomicFileWriter writer(path, IfThere::kRefuse);
    writer.write("mine", 4);
    write_bytes(path, "theirs");
    check_refused(codes::kFileExists, "exists already", [&] { writer.commit(); });
  }
  CHECK(read_bytes(path) == "theirs");
  CHECK(folder.files() == 1);

  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  check_refused(codes::kFileWrite, "a named pipe", [&] { write(folder / "pipe", IfThere::kReplace); });
  fs::create_symlink("/dev/null", folder / "null");
  check_refused(codes::kFileWrite, "a device", [&] { write(folder / "null", IfThere::kReplace); });
  fs::create_symlink("later", folder / "dangling");
  write(folder / "dangling", IfThere::kReplace);
  CHECK(fs::is_symlink(folder / "dangling"));
  CHECK(read_safetensors(folder / "later").tensors.size() == 1);
}

TEST_CASE("writing on a file system without locks") {
  const ScratchFolder folder;
  for (const int error : {ENOLCK, ENOTSUP, ENOSYS, EINVAL}) {
    CAPTURE(error);
    flock_error = error;
    write_safetensors(folder / "x", {{"a", at::ones({4})}}, {});
    flock_error = 0;
    CHECK(read_safetensors(folder / "x").tensors.size() == 1);
    CHECK(folder.files() == 1);
  }
}
