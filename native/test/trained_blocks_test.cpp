#include "core/training/trained_blocks.h"

#include <c10/core/GradMode.h>
#include <doctest/doctest.h>

#include "core/training/trainer.h"
#include "test/checkpoint_support.h"
#include "test/core_support.h"
#include "test/delta_support.h"

namespace ltrp::test {
namespace {

struct Case {
  TransformerConfig config;
  int64_t images, tokens, queries;  // no queries: all tokens
  bool scaled = false;              // what blocks add is scaled, also by 0: drop path
};

// Odd sizes, in which no axis equals another; heads of less than a vector; the widths of `tiny` in the
// encoder and, longer than one block of queries, in the decoder; a single query.
const Case kCases[] = {{{30, 2, 3, 50}, 5, 13, 0},       {{20, 2, 2, 36}, 3, 12, 7},
                       {{24, 1, 1, 40}, 1, 5, 1},        {{192, 2, 3, 768}, 9, 50, 0},
                       {{128, 2, 4, 512}, 3, 197, 147},  {{64, 3, 2, 96}, 7, 20, 1},
                       {{30, 2, 3, 50}, 5, 13, 0, true}, {{20, 2, 2, 36}, 3, 12, 7, true}};

TensorMap weights_of(const TransformerConfig& config) {
  TensorMap tensors;
  at::Generator generator = generator_for(3, 0);
  initialize_transformer(tensors, config, "blocks", "norm", generator);
  return perturbed(tensors, 4);
}

Transformer transformer_of(const TensorMap& tensors, const TransformerConfig& config, at::ScalarType type,
                           TensorMap& own) {
  for (const auto& [name, tensor] : tensors) own[name] = tensor.to(type, false, true).requires_grad_(true);
  return transformer_weights(own, config, "blocks", "norm", 1e-6);
}

struct Passed {
  at::Tensor output;
  TensorMap gradients;  // by name, and "tokens"
};

std::optional<at::Tensor> queries_of(const Case& c) {
  if (c.queries == 0) return {};
  std::vector<at::Tensor> rows;
  for (int64_t i = 0; i < c.images; ++i) {
    const at::Tensor order =
        at::empty({c.tokens}, at::kDouble).uniform_(0, 1, generator_for(17, static_cast<uint64_t>(i)));
    rows.push_back(std::get<0>(order.argsort().slice(0, 0, c.queries).sort()));
  }
  return at::stack(rows);
}

at::Tensor run(const Case& c, const Transformer& transformer, const at::Tensor& tokens) {
  at::Tensor scales;
  if (c.scaled) {
    const at::Tensor drawn =
        at::empty({c.config.depth, 2, c.images}, at::kFloat).uniform_(0, 2, generator_for(21, 0));
    scales = (drawn * drawn.gt(0.6)).to(tokens.scalar_type());
  }
  const std::optional<at::Tensor> ids = queries_of(c);
  return ids ? transformer.forward_at(tokens, *ids, {}, scales) : transformer.forward(tokens, {}, scales);
}

Passed pass(const Case& c, at::ScalarType type, bool own_blocks, Precision precision = Precision::kFloat32) {
  TensorMap tensors;
  Transformer transformer = transformer_of(weights_of(c.config), c.config, type, tensors);
  if (own_blocks) transformer.pass = std::make_shared<TrainedBlocks>(transformer.blocks, precision);
  const at::Tensor tokens =
      random_tensor({c.images, c.tokens, c.config.dim}, 5).to(type).requires_grad_(true);
  Passed result;
  result.output = run(c, transformer, tokens);
  const at::Tensor upstream = random_tensor(result.output.sizes(), 6).to(type);
  (result.output * upstream).sum().backward();
  result.output = result.output.detach();
  for (const auto& [name, tensor] : tensors) result.gradients[name] = tensor.grad();
  result.gradients["tokens"] = tokens.grad();
  return result;
}

double relative_error(const at::Tensor& got, const at::Tensor& expected) {
  return ((got.to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
}

TEST_CASE("a trained transformer equals LibTorch's autograd in float64, on every parameter") {
  at_every_level([] {
    for (const Case& c : kCases) {
      CAPTURE(c.config.dim);
      const Passed expected = pass(c, at::kDouble, false), got = pass(c, at::kFloat, true),
                   theirs = pass(c, at::kFloat, false);
      CHECK(got.output.sizes() == expected.output.sizes());
      CHECK(relative_error(got.output, expected.output) < 1e-6);
      for (const auto& [name, gradient] : expected.gradients) {
        CAPTURE(name);
        // The gradient of a key's bias is zero but for rounding: it shifts all logits of a query alike.
        if (name.ends_with("qkv.bias")) {
          CHECK((got.gradients.at(name).to(at::kDouble) - gradient).abs().max().item<double>() <
                1e-5 * gradient.abs().max().item<double>());
          continue;
        }
        const double error = relative_error(got.gradients.at(name), gradient);
        CHECK(error < 2e-6);
        // LibTorch's own error in float32 is of that size.
        CHECK(error < 4 * relative_error(theirs.gradients.at(name), gradient) + 5e-7);
      }
    }
  });
}

TEST_CASE("a trained transformer's gradients equal finite differences in float64, on every parameter") {
  constexpr double kStep = 1e-5;
  for (const size_t which : {size_t{0}, size_t{1}, size_t{4}, size_t{6}}) {
    const Case& c = kCases[which];
    const Passed got = pass(c, at::kFloat, true);
    TensorMap tensors;
    const Transformer transformer = transformer_of(weights_of(c.config), c.config, at::kDouble, tensors);
    const c10::NoGradGuard no_grad;
    tensors["tokens"] = random_tensor({c.images, c.tokens, c.config.dim}, 5).to(at::kFloat).to(at::kDouble);
    const at::Tensor upstream = random_tensor(got.output.sizes(), 6).to(at::kFloat).to(at::kDouble);
    const auto loss = [&] {
      return (run(c, transformer, tensors.at("tokens")) * upstream).sum().item<double>();
    };
    uint64_t seed = 30;
    for (auto& [name, tensor] : tensors) {
      CAPTURE(name);
      // Along the gradient and a random direction: a change of one value would drown in the loss's digits.
      for (const at::Tensor& direction :
           {got.gradients.at(name).to(at::kDouble), random_tensor(tensor.sizes(), ++seed)}) {
        const at::Tensor unit = direction / direction.norm();
        tensor.add_(unit, kStep);
        const double above = loss();
        tensor.sub_(unit, 2 * kStep);
        const double below = loss();
        tensor.add_(unit, kStep);
        const double numeric = (above - below) / (2 * kStep);
        const double analytic = (got.gradients.at(name).to(at::kDouble) * unit).sum().item<double>();
        const double size = got.gradients.at(name).norm().item<double>();
        CHECK(std::abs(numeric - analytic) < 1e-5 * size);
      }
    }
  }
}

TEST_CASE("with bfloat16 products a trained transformer errs as bfloat16 does, on every parameter") {
  at_every_level([] {
    for (const size_t which : {size_t{0}, size_t{1}, size_t{5}}) {
      const Case& c = kCases[which];
      const Passed expected = pass(c, at::kDouble, false),
                   got = pass(c, at::kFloat, true, Precision::kBfloat16);
      CHECK(relative_error(got.output, expected.output) < 4e-3);
      CHECK(relative_error(got.output, expected.output) > 1e-5);
      for (const auto& [name, gradient] : expected.gradients) {
        CAPTURE(name);
        CHECK(relative_error(got.gradients.at(name), gradient) < 2e-2);
      }
    }
  });
}

TEST_CASE("a trained transformer's rows do not depend on their neighbours or threads, its gradients repeat") {
  const Case whole = kCases[3];
  const Passed first = pass(whole, at::kFloat, true);
  CHECK(at::equal(pass(whole, at::kFloat, true).gradients.at("blocks.0.mlp.fc1.weight"),
                  first.gradients.at("blocks.0.mlp.fc1.weight")));
  const ThreadCount one(1);
  const Passed alone = pass(whole, at::kFloat, true);
  CHECK(at::equal(alone.output, first.output));
  CHECK(at::equal(alone.gradients.at("tokens"), first.gradients.at("tokens")));
}

TEST_CASE("gradients are added up until they are reset, and a stale backward pass is refused") {
  const Case c = kCases[0];
  TensorMap tensors;
  Transformer transformer = transformer_of(weights_of(c.config), c.config, at::kFloat, tensors);
  transformer.pass = std::make_shared<TrainedBlocks>(transformer.blocks, Precision::kFloat32);
  const at::Tensor tokens =
      random_tensor({c.images, c.tokens, c.config.dim}, 5).to(at::kFloat).requires_grad_(true);
  transformer.forward(tokens).square().sum().backward();
  const at::Tensor once = tensors.at("blocks.1.attn.qkv.weight").grad().clone();
  transformer.forward(tokens).square().sum().backward();
  CHECK(relative_error(tensors.at("blocks.1.attn.qkv.weight").grad(), 2 * once.to(at::kDouble)) < 1e-6);
  const at::Tensor stale = transformer.forward(tokens).sum();
  transformer.forward(tokens);
  CHECK_THROWS_AS(stale.backward(), c10::Error);
  // New weights are seen.
  const at::Tensor before = transformer.forward(tokens).detach();
  {
    const c10::NoGradGuard no_grad;
    tensors.at("blocks.0.mlp.fc2.weight").mul_(2);
  }
  CHECK(largest_difference(transformer.forward(tokens).detach(), before) > 0.01);
}

TEST_CASE("a run passes the blocks as LibTorch does: the same steps but for rounding") {
  const Pictures pictures(6, 40, 48, 3);
  std::vector<double> losses[2], norms[2];
  for (const bool own : {false, true}) {
    PretrainOptions options;
    options.model = small_mae_config();
    options.training.batch_size = 6;
    options.training.micro_batch_size = 3;
    options.training.steps = 12;
    options.training.warmup_steps = 4;
    options.training.mask_ratio = 0.6;
    options.training.own_blocks = own;
    const auto trainer = create_pretrainer(options);
    for (int i = 0; i < 12; ++i) {
      const StepResult result = trainer->train_step(pictures.views(), {});
      losses[own].push_back(result.loss);
      norms[own].push_back(result.gradient_norm);
    }
  }
  for (size_t i = 0; i < losses[0].size(); ++i) {
    CHECK(losses[1][i] == doctest::Approx(losses[0][i]).epsilon(1e-5));
    CHECK(norms[1][i] == doctest::Approx(norms[0][i]).epsilon(1e-4));
  }
}

}  // namespace
}  // namespace ltrp::test
