#include <doctest/doctest.h>

#include "core/engine/masking.h"
#include "core/error.h"
#include "kernels/pixels.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

TEST_CASE("the patch projection is the checkpoint's convolution") {
  const at::Tensor images = random_tensor({2, 3, 24, 32}, 1), weight = random_tensor({5, 3, 8, 8}, 2),
                   bias = random_tensor({5}, 3);
  const PatchEmbedding embedding{weight, bias, {}};
  const at::Tensor expected = at::conv2d(images, weight, bias, 8).flatten(2).transpose(1, 2);
  CHECK(largest_difference(embedding(patchify_channels_first(images, 8)), expected) < 1e-12);
}

TEST_CASE("patchify and unpatchify are inverse, and values are ordered (row, column, channel)") {
  const at::Tensor images = random_tensor({2, 3, 24, 32}, 1);
  const at::Tensor patches = patchify_channels_last(images, 8);
  CHECK(at::equal(unpatchify_channels_last(patches, 3, 4, 8), images));
  CHECK(patches[1][6][(2 * 8 + 5) * 3 + 1].item<double>() == images[1][1][8 + 2][2 * 8 + 5].item<double>());
}

TEST_CASE("bytes are normalised as (x / 255 - mean) / std") {
  const at::Tensor bytes = at::randint(0, 256, {2, 9, 5, 3}, at::kByte);
  const std::array<double, 3> mean{0.1, 0.5, 0.9}, std{0.2, 0.25, 0.3};
  const at::Tensor got = normalize_pixels(bytes, mean, std);
  const auto row = [](const std::array<double, 3>& x) {
    return at::tensor(at::ArrayRef<double>(x), at::kDouble);
  };
  const at::Tensor expected = ((bytes.to(at::kDouble) / 255 - row(mean)) / row(std)).permute({0, 3, 1, 2});
  CHECK(largest_difference(got.to(at::kDouble), expected) < 1e-6);
}

TEST_CASE("a hidden token changes nothing for the others") {
  const MaskedAutoencoder model = small_mae();
  const at::Tensor images = random_tensor({1, 3, 24, 32}, 1);
  const at::Tensor visible = at::tensor({1, 4, 6, 9}, at::kLong).view({1, 4});
  const at::Tensor latents = model.encode(images, visible, at::tensor({2}, at::kLong));
  const at::Tensor without = model.encode(images, at::tensor({1, 4, 9}, at::kLong).view({1, 3}));
  CHECK(largest_difference(latents.index_select(1, at::tensor({0, 1, 2, 4}, at::kLong)), without) < 1e-12);
}

TEST_CASE("predictions at chosen tokens are those of the whole decode") {
  const MaskedAutoencoder model = small_mae();
  const at::Tensor images = random_tensor({2, 3, 24, 32}, 1);
  const at::Tensor visible = visible_from_noise(masking_noise(2, 12, 3), 3);
  const at::Tensor tokens = model.decoder_input(model.encode(images, visible), visible, {3, 4});
  const at::Tensor ids = at::tensor({2, 7, 11, 1, 3, 12}, at::kLong).view({2, 3});
  CHECK(largest_difference(model.decode_at(tokens, ids), gather_tokens(model.decode(tokens), ids - 1)) <
        1e-12);
}

TEST_CASE("ranker: visible input and full input agree where everything is visible in turn") {
  const PatchRanker ranker = small_ranker(RankerHead::kToken);
  const at::Tensor images = random_tensor({2, 3, 24, 32}, 1);
  const at::Tensor all = at::arange(12, at::kLong).expand({2, 12}).contiguous();
  CHECK(largest_difference(ranker.forward(images), ranker.forward(images, all)) < 1e-12);
  const at::Tensor some = at::tensor({0, 5, 1, 11}, at::kLong).view({2, 2});
  const at::Tensor logits = ranker.forward(images, some);
  CHECK(logits.ne(0).sum().item<int64_t>() == 4);
  CHECK(ranker.forward(random_tensor({1, 3, 16, 48}, 2)).sizes() == at::IntArrayRef({1, 12}));
  CHECK_THROWS_AS(small_ranker(RankerHead::kCls).forward(random_tensor({1, 3, 16, 48}, 2)), Error);
  CHECK_THROWS_AS(ranker.forward(random_tensor({1, 3, 17, 48}, 2)), Error);
}

TEST_CASE("gradients of the autoencoder's loss agree with central differences in every kind of weight") {
  const MaskedAutoencoder model = small_mae();
  const at::Tensor images = random_tensor({2, 3, 24, 32}, 1);
  const at::Tensor visible = visible_from_noise(masking_noise(2, 12, 3), 4);
  const at::Tensor masked = masked_from_visible(visible, 12);
  for (const bool normalized : {false, true}) {
    const at::Tensor target = gather_tokens(target_patches(images, 8, normalized), masked);
    const auto loss = [&] {
      const at::Tensor tokens = model.decoder_input(model.encode(images, visible), visible, {3, 4});
      return (model.decode_at(tokens, masked + 1) - target).square().mean();
    };
    for (const char* name : {"cls_token", "mask_token", "patch_embed.proj.weight", "blocks.0.norm1.weight",
                             "blocks.1.attn.qkv.weight", "blocks.0.attn.proj.bias", "blocks.1.mlp.fc1.weight",
                             "norm.bias", "decoder_embed.weight", "decoder_blocks.2.attn.qkv.weight",
                             "decoder_blocks.0.mlp.fc2.weight", "decoder_norm.weight", "decoder_pred.bias"}) {
      const at::Tensor weight = model.tensors().at(name);
      CAPTURE(name);
      CHECK(worst_gradient_error(weight, loss, std::max<int64_t>(1, weight.numel() / 6)) < 1e-6);
    }
  }
}

TEST_CASE("gradients of the ranker agree with central differences") {
  for (const RankerHead head : {RankerHead::kCls, RankerHead::kToken}) {
    const PatchRanker ranker = small_ranker(head);
    const at::Tensor images = random_tensor({2, 3, 24, 32}, 1), direction = random_tensor({2, 12}, 5);
    const auto loss = [&] { return (ranker.forward(images) * direction).sum(); };
    for (const char* name :
         {"cls_token", "patch_embed.proj.bias", "blocks.1.attn.qkv.weight", "norm.weight", "head.weight"}) {
      const at::Tensor weight = ranker.tensors().at(name);
      CAPTURE(name);
      CHECK(worst_gradient_error(weight, loss, std::max<int64_t>(1, weight.numel() / 6)) < 1e-6);
    }
  }
}

}  // namespace
}  // namespace ltrp::test
