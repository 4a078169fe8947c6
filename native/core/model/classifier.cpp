#include "core/model/classifier.h"

#include <ATen/ATen.h>

#include "core/check.h"
#include "core/random.h"

namespace ltrp {

namespace {
constexpr const char* kDecoder = "head.decoder.";
}  // namespace

const ModelKind ClassifierConfig::kind{
    "classifier",
    "a classifier",
    {Content::kHead, Content::kEncoder, Content::kAutoencoder},
    /*hugging_face=*/true,
    /*left_out=*/{"decoder_", "decoder.", "mask_token", "score_net.", "pooler.", "vit.pooler."}};

void ClassifierConfig::each_tensor(ClassifierConfig& c, TensorVisitor& visit) {
  VitConfig::each_tensor(c, visit);
  visit.layer(visit.has(c.pooling == Pooling::kMean, {"fc_norm"}) ? "fc_norm" : "norm", {&c.encoder.dim});
  if (c.pooling == Pooling::kQueries) {
    MlDecoder::each_tensor(visit, kDecoder, &c.encoder.dim, &c.query_dim, &c.queries, &c.classes);
  } else if (visit.has(c.classes > 0, {"head"})) {
    visit.layer("head", {&c.classes, &c.encoder.dim});
  }
}

void ClassifierConfig::recognise(Evidence& file) {
  if (file.has("dist_token")) {
    file.unsupported("a distillation token, which no model here has; take a DeiT without distillation");
  }
  // timm's word; other files have none.
  const std::string said = file.word("global_pool").value_or("");
  const bool norms_pooled = file.has("fc_norm");
  if (!said.empty() && said != "avg" && said != "token")
    file.unsupported("the pooling '" + said + "', and only 'avg' and 'token' are supported");
  if (said == "token" && norms_pooled)
    file.unsupported("the pooling 'token' before its norm, and only 'token' after the norm is supported");
  pooling = file.has("head.decoder") ? Pooling::kQueries
            : norms_pooled           ? Pooling::kMean
            : said == "avg"          ? Pooling::kNormedMean
                                     : Pooling::kCls;
}

std::optional<Lacking> ClassifierConfig::lacking() const {
  if (classes > 0) return std::nullopt;
  return Lacking{"holds an encoder without a head and cannot classify; fine-tune it first",
                 "It has no head for classes: it can embed, but not classify."};
}

void ClassifierConfig::check() const {
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  check_in(closed(0, 1 << 20), "classes", number(classes));
  if (pooling != Pooling::kQueries) {
    if (queries != 0 || query_dim != 0)
      invalid("queries and queryDim must be 0 with pooling '" + name_of(pooling) + "'; got " +
              std::to_string(queries) + " and " + std::to_string(query_dim) + ".");
    return;
  }
  check_in(at_least(1), "classes", number(classes));
  check_in(closed(1, number(classes)), "queries", number(queries));
  check_in(closed(MlDecoder::kHeads, 1 << 16), "queryDim", number(query_dim));
  if (query_dim % MlDecoder::kHeads != 0)
    invalid("queryDim must be a multiple of " + std::to_string(MlDecoder::kHeads) + "; got " +
            std::to_string(query_dim) + ".");
}

Classifier::Classifier(const ClassifierCheckpoint& checkpoint, at::ScalarType dtype, at::Device device,
                       const RunContext& context)
    : config_(validate(checkpoint.config)),
      vit_(config_, checkpoint.tensors, dtype, device, context,
           config_.pooling == Pooling::kMean ? "" : "norm") {
  if (config_.pooling == Pooling::kMean)
    fc_norm_ = layer_norm_weights(tensors(), "fc_norm", config_.layer_norm_eps);
  if (config_.pooling == Pooling::kQueries) {
    decoder_ = MlDecoder(tensors(), kDecoder, config_.classes);
  } else if (config_.classes > 0) {
    head_ = linear_weights(tensors(), "head");
  }
}

Classifier Classifier::initialized(const ClassifierConfig& config, uint64_t seed, at::Device device) {
  validate(config);
  at::Generator generator = generator_for(seed, 0);
  TensorMap weights =
      Vit::initial_weights(config, generator, config.pooling == Pooling::kMean ? "fc_norm" : "norm");
  if (config.pooling == Pooling::kQueries) {
    MlDecoder::initialize(weights, kDecoder, config.encoder.dim, config.query_dim, config.queries,
                          config.classes, generator);
  } else if (config.classes > 0) {
    initialize_linear(weights, "head", config.encoder.dim, config.classes, generator);
    weights["head.weight"].normal_(0, 2e-5, generator);  // as MAE's fine-tuning begins
  }
  return Classifier({config, std::move(weights), "ltrp"}, at::kFloat, device);
}

void Classifier::drop_products() {
  if (head_.weight.defined()) head_.pack();
  if (config_.pooling == Pooling::kQueries) decoder_.pack();
  vit_.drop_unpacked(/*all=*/true);
}

at::Tensor Classifier::pooled(const at::Tensor& tokens) const {
  if (config_.pooling == Pooling::kCls) return tokens.select(1, 0);
  if (config_.pooling == Pooling::kQueries) return tokens.mean(1);
  return fc_norm_(tokens.slice(1, 1).mean(1));
}

TokenReader Classifier::embedding() const {
  return {"embeddings", config_.pooling == Pooling::kCls, config_.encoder.dim,
          [this](const at::Tensor& tokens) { return pooled(tokens); }};
}

TokenReader Classifier::logits(const MlDecoderDropout* dropout) const {
  if (config_.classes == 0)
    throw Error(codes::kCheckpointContent, "This model has no head: it can embed, but not classify.");
  if (config_.pooling == Pooling::kQueries) {
    return {"logits", false, config_.classes,
            [this, dropout](const at::Tensor& tokens) { return decoder_(tokens, dropout); }};
  }
  return {"logits", config_.pooling == Pooling::kCls, config_.classes,
          [this](const at::Tensor& tokens) { return head_(pooled(tokens)); }};
}

at::Tensor top_classes(const at::Tensor& logits, int64_t k) {
  check_in(closed(1, static_cast<double>(logits.size(1))), "topK", static_cast<double>(k));
  return logits.argsort(/*stable=*/true, /*dim=*/1, /*descending=*/true).slice(1, 0, k);
}

}  // namespace ltrp
