// Classifiers on all and on kept patches: the authors' and MAE's goldens, every precision against float64,
// names of files.
#include "core/model/classifier.h"

#include <ATen/ATen.h>

#include "checkpoint_support.h"
#include "core/checkpoint/safetensors.h"
#include "core/device/precision.h"
#include "core/engine/inference.h"
#include "core/engine/masking.h"
#include "test/core_support.h"
#include "test/delta_support.h"

namespace ltrp::test {
namespace {

constexpr Pooling kPoolings[] = {Pooling::kCls, Pooling::kMean, Pooling::kNormedMean};

ClassifierCheckpoint small_classifier(Pooling pooling) {
  ClassifierConfig config;
  config.image_height = 80;
  config.image_width = 96;
  config.patch_size = 8;
  config.encoder = {72, 4, 3, 200};
  config.classes = 7;
  config.pooling = pooling;
  return {config, perturbed(Classifier::initialized(config, 2).tensors(), 2), "ltrp"};
}

double error_of(const at::Tensor& got, const at::Tensor& exact) {
  return largest_difference(got.to(at::kDouble), exact) / exact.std().item<double>();
}

// Names of a classifier as Hugging Face's ViTForImageClassification spells them (transformers 4).
TensorMap hugging_face_names(const TensorMap& tensors) {
  TensorMap renamed;
  for (const auto& [name, tensor] : tensors) {
    std::string to = name;
    const auto swap = [&](const std::string& from, const std::string& by) {
      const size_t at = to.find(from);
      if (at != std::string::npos) to.replace(at, from.size(), by);
    };
    if (name.find("attn.qkv") != std::string::npos) {
      const std::vector<at::Tensor> parts = tensor.chunk(3);
      const char* words[] = {"query", "key", "value"};
      for (size_t i = 0; i < 3; ++i) {
        std::string part = name;
        part.replace(part.find("attn.qkv"), 8, std::string("attention.attention.") + words[i]);
        renamed["vit.encoder.layer." + part.substr(7)] = parts[i].contiguous();
      }
      continue;
    }
    swap("norm1", "layernorm_before");
    swap("norm2", "layernorm_after");
    swap("attn.proj", "attention.output.dense");
    swap("mlp.fc1", "intermediate.dense");
    swap("mlp.fc2", "output.dense");
    swap("blocks.", "encoder.layer.");
    swap("cls_token", "embeddings.cls_token");
    swap("pos_embed", "embeddings.position_embeddings");
    swap("patch_embed.proj", "embeddings.patch_embeddings.projection");
    if (name.starts_with("norm.")) swap("norm", "layernorm");
    renamed[name.starts_with("head.") ? "classifier" + name.substr(4) : "vit." + to] = tensor;
  }
  return renamed;
}

TEST_CASE("goldens: logits of MAE's and LTRP's classifiers on all patches and on kept ones") {
  const auto golden = golden_folder();
  if (!golden) return;
  const SafetensorsFile expected = read_safetensors((*golden / "downstream/classifier.safetensors").string());
  const at::Tensor images =
      read_safetensors((*golden / "full/expected.safetensors").string()).tensors.at("pixel_values");
  for (const auto& [file, prefix, pooling] :
       {std::tuple{"downstream/mae-finetuned.pth", std::string("mae"), Pooling::kMean},
        {"downstream/ltrp-classifier.pth", "ltrp", Pooling::kCls}}) {
    CAPTURE(file);
    const auto checkpoint = load_checkpoint<ClassifierConfig>((*golden / file).string());
    CHECK(checkpoint.config.encoder == TransformerConfig{48, 3, 3, 192});
    CHECK(checkpoint.config.pooling == pooling);
    CHECK(checkpoint.config.classes == 10);
    const Classifier exact(checkpoint, at::kDouble), plain(checkpoint);
    const Inference<Classifier> fast(Classifier(checkpoint), Precision::kFloat32);
    for (const std::string kept : {"full", "147", "98", "49", "19", "1"}) {
      CAPTURE(kept);
      std::optional<at::Tensor> keep;
      if (kept != "full") keep = expected.tensors.at("keep_" + kept).to(at::kLong).contiguous();
      const auto named = [&](const char* end) {
        return expected.tensors.at(prefix + (kept == "full" ? "_logits_full" : "_logits_" + kept) + end);
      };
      // The float64 references' pictures are not stored. Another rounding of these moves logits by 1e-7 to
      // 3e-7.
      CHECK(largest_difference(exact.forward(images, keep), named("_f64")) < 1e-6);
      CHECK(largest_difference(plain.forward(images, keep), named("")) < 1e-5);
      CHECK(largest_difference(fast.vit().read(images, keep, fast.model().logits(), {}), named("")) < 1e-5);
    }
  }
}

TEST_CASE("a ranker beside a classifier: each is found, the optimizer is not") {
  const auto golden = golden_folder();
  if (!golden) return;
  const std::string path = (*golden / "downstream/ltrp-classifier.pth").string();
  CheckpointOverrides heads;
  heads.encoder_heads = 1;
  CHECK(load_checkpoint<RankerConfig>(path, heads).naming == "ltrp-reference");
  CHECK(load_checkpoint<ClassifierConfig>(path).naming == "official");
  check_refused(codes::kCheckpointContent, "not an autoencoder", [&] { load_checkpoint<MaeConfig>(path); });
  // Of a pre-training run the encoder is there and no head.
  const std::string pretraining = (*golden / "full/ltrp-reference.pth").string();
  check_refused(codes::kCheckpointContent, "without a head",
                [&] { load_checkpoint<ClassifierConfig>(pretraining); });
  const auto encoder = load_checkpoint<ClassifierConfig>(pretraining, {.incomplete = true});
  CHECK(encoder.config.classes == 0);
  CHECK(has_note(encoder.notes, "cannot classify") == false);
  CHECK(has_note(encoder.notes, "not classify"));
}

TEST_CASE("every precision and pooling agrees with float64, in any batch, on any number of threads") {
  for (const Pooling pooling : kPoolings) {
    const ClassifierCheckpoint checkpoint = small_classifier(pooling);
    const Classifier exact(checkpoint, at::kDouble);
    const at::Tensor images = random_tensor({5, 3, 80, 96}, 1, at::kFloat);
    const at::Tensor keep = visible_from_noise(masking_noise(5, 120, 3), 50);
    for (const Precision precision : all_precisions()) {
      CAPTURE(static_cast<int>(precision));
      CAPTURE(static_cast<int>(pooling));
      const Inference<Classifier> model(Classifier(checkpoint), precision);
      const double tolerance = model.precision() == Precision::kFloat32    ? 1e-5
                               : model.precision() == Precision::kBfloat16 ? 0.06
                                                                           : 0.2;
      for (const bool some : {false, true}) {
        const auto read = [&](const TokenReader& reader, int64_t begin, int64_t count) {
          const std::optional<at::Tensor> ids =
              some ? std::optional<at::Tensor>(keep.narrow(0, begin, count)) : std::nullopt;
          return model.vit().read(images.narrow(0, begin, count), ids, reader, {});
        };
        const std::optional<at::Tensor> all = some ? std::optional<at::Tensor>(keep) : std::nullopt;
        const at::Tensor logits = read(model.model().logits(), 0, 5);
        CHECK(error_of(logits, exact.forward(images, all)) < tolerance);
        CHECK(error_of(read(model.model().embedding(), 0, 5),
                       exact.vit().read(images, all, exact.embedding())) < tolerance);
        const ThreadCount one(1);
        for (const int64_t i : {0, 4})
          CHECK(at::equal(read(model.model().logits(), i, 1)[0], read(model.model().logits(), 0, 5)[i]));
        const ThreadCount three(3);  // shares the rows of one image
        CHECK(error_of(read(model.model().logits(), 0, 1), exact.forward(images, all).narrow(0, 0, 1)) <
              tolerance);
      }
    }
  }
}

TEST_CASE("our own file, timm's and Hugging Face's names give the same classifier") {
  const ScratchFolder folder;
  CheckpointOverrides given;
  given.encoder_heads = 3;
  given.image_height = 80;
  given.image_width = 96;
  given.layer_norm_eps = 1e-6;
  for (const Pooling pooling : kPoolings) {
    const ClassifierCheckpoint checkpoint = small_classifier(pooling);
    save_checkpoint(folder / "own.safetensors", checkpoint.config, checkpoint.tensors, StoredType::kFloat32);
    const auto own = load_checkpoint<ClassifierConfig>(folder / "own.safetensors");
    CHECK(own.config == checkpoint.config);
    check_same(own.tensors, checkpoint.tensors);
    check_refused(codes::kCheckpointContent, "holds a classifier, not a ranker",
                  [&] { load_checkpoint<RankerConfig>(folder / "own.safetensors"); });

    write_bytes(folder / "config.json", pooling == Pooling::kNormedMean ? R"({"global_pool": "avg"})" : "{}");
    write_model_pth(folder / "timm.pth", checkpoint.tensors);
    const auto timm = load_checkpoint<ClassifierConfig>(folder / "timm.pth", given);
    CHECK(timm.config == checkpoint.config);
    check_same(timm.tensors, checkpoint.tensors);
    // What timm can pool in another way is not read as the way that the tensors look like.
    write_bytes(folder / "config.json", R"({"global_pool": "avgmax"})");
    check_refused(codes::kUnsupported, "the pooling 'avgmax'",
                  [&] { load_checkpoint<ClassifierConfig>(folder / "timm.pth", given); });
    if (pooling != Pooling::kMean) continue;
    write_bytes(folder / "config.json", R"({"global_pool": "token"})");
    check_refused(codes::kUnsupported, "'token' before its norm",
                  [&] { load_checkpoint<ClassifierConfig>(folder / "timm.pth", given); });
  }
  const ClassifierCheckpoint checkpoint = small_classifier(Pooling::kCls);
  write_bytes(folder / "config.json", "{}");
  TensorMap renamed = hugging_face_names(checkpoint.tensors);
  write_model_pth(folder / "hf.pth", renamed);
  const auto hf = load_checkpoint<ClassifierConfig>(folder / "hf.pth", given);
  CHECK(hf.naming == "hf-hub");
  CHECK(hf.config == checkpoint.config);
  check_same(hf.tensors, checkpoint.tensors);
  renamed["vit.embeddings.distillation_token"] = at::zeros({1, 1, 72});
  write_model_pth(folder / "deit.pth", renamed);
  check_refused(codes::kUnsupported, "distillation token",
                [&] { load_checkpoint<ClassifierConfig>(folder / "deit.pth", given); });
}

TEST_CASE("kept patches may come in any order; ids twice or outside, and none, are refused") {
  const auto sorted = [](std::vector<int64_t> ids, int64_t images) {
    at::Tensor keep =
        at::tensor(ids, at::kLong).view({images, static_cast<int64_t>(ids.size()) / images}).clone();
    sort_keep(keep, images, 12);
    return keep;
  };
  CHECK(at::equal(sorted({3, 11, 0, 5, 4, 1}, 2), at::tensor({0, 3, 11, 1, 4, 5}, at::kLong).view({2, 3})));
  const auto refused = [&](std::vector<int64_t> ids, int64_t images, const char* part) {
    check_refused(codes::kInvalidArgument, part, [&] { sorted(std::move(ids), images); });
  };
  refused({3, 3}, 1, "got 3 twice for image 0");
  refused({0, 1, 12, 2}, 2, "got 12 for image 1");
  refused({-1, 1}, 1, "got -1 for image 0");
  check_refused(codes::kInvalidArgument, "at least 1", [&] {
    sort_keep(at::empty({2, 0}, at::kLong), 2, 12);
  });
}

TEST_CASE("classes by falling logit, the lower one first where they tie") {
  const at::Tensor logits = at::tensor({1.0F, 3.0F, 3.0F, 2.0F}).view({1, 4});
  CHECK(at::equal(top_classes(logits, 3), at::tensor({1, 2, 3}, at::kLong).view({1, 3})));
  check_refused(codes::kInvalidArgument, "topK must be in [1, 4]", [&] { top_classes(logits, 5); });
}

}  // namespace
}  // namespace ltrp::test
