// The decoder's input on the device against the model's own, and against the rule written down.
#include <vector>

#include "core/engine/masking.h"
#include "core/model/mae.h"
#include "kernels/cuda/launchers.h"
#include "test/core_support.h"
#include "test/cuda/device_tensors.h"

namespace ltrp::test {
namespace {

// `count` ascending ids of [0, patches), for each of `images`.
at::Tensor some_visible(int64_t images, int64_t patches, int64_t count, uint64_t seed) {
  return visible_from_noise(uniform({images, patches}, seed), count);
}

at::Tensor ids_without(const at::Tensor& removed, int64_t count) {
  const at::Tensor slots = at::arange(count - 1, removed.options());
  return slots + slots.ge(removed.unsqueeze(1)).to(at::kLong);
}

// rows [n, T, C], ids [n, k] -> [n, k, C].
at::Tensor rows_at(const at::Tensor& rows, const at::Tensor& ids) {
  return rows.gather(1, ids.unsqueeze(2).expand({-1, -1, rows.size(2)}));
}

// Images, variants and which patch each lacks.
struct Scene {
  int64_t images, patches, visible_count, width;
  at::Tensor visible;         // [n, V]
  at::Tensor image, removed;  // [m] int64; removed: slots

  Scene(int64_t n, int64_t total, int64_t count, int64_t wide, int64_t variants, uint64_t seed)
      : images(n), patches(total), visible_count(count), width(wide) {
    visible = some_visible(n, total, count, seed);
    image = at::empty({variants}, at::kLong).random_(0, n, generator_for(seed, 1));
    removed = at::empty({variants}, at::kLong).random_(0, count, generator_for(seed, 2));
  }
  at::Tensor removed_tokens() const { return visible.index({image, removed}) + 1; }
  at::Tensor of_variants() const { return visible.index_select(0, image); }
};

const std::vector<Scene>& scenes() {
  static const std::vector<Scene> all{{1, 1, 1, 1, 1, 1},     {1, 2, 1, 3, 2, 2},    {2, 7, 3, 4, 5, 3},
                                      {3, 12, 12, 16, 4, 4},  {2, 70, 40, 20, 9, 5}, {1, 49, 4, 33, 4, 6},
                                      {1, 130, 49, 36, 2, 7}, {1, 5, 3, 1028, 2, 8}};
  return all;
}

// What MaskedAutoencoder::decoder_input does behind its projection.
at::Tensor unshuffled(const at::Tensor& embedded, const at::Tensor& visible, const at::Tensor& mask_token,
                      const at::Tensor& positions) {
  const int64_t width = embedded.size(2), patches = positions.size(0) - 1;
  const at::Tensor tokens =
      mask_token.to(embedded.scalar_type())
          .expand({embedded.size(0), patches, width})
          .scatter(1, visible.unsqueeze(-1).expand({-1, -1, width}), embedded.slice(1, 1));
  return at::cat({embedded.slice(1, 0, 1), tokens}, 1) + positions;
}

TEST_CASE("the anchor's input and its variants'") {
  uint64_t seed = 100;
  for (const Scene& scene : scenes()) {
    for (const int64_t offset : {0, 1}) {
      for (const bool without : {false, true}) {
        CAPTURE(scene.patches);
        CAPTURE(offset);
        CAPTURE(without);
        ++seed;
        const int64_t m = without ? scene.image.size(0) : scene.images, width = scene.width;
        const int64_t latents = scene.visible_count + (without ? 0 : 1);
        const at::Tensor embedded = normal({m, latents, width}, seed), mask_token = normal({width}, seed + 2),
                         positions = normal({scene.patches + 1, width}, seed + 3);
        const at::Tensor in_embedded = on_device(embedded, offset), in_mask = on_device(mask_token, offset),
                         in_positions = on_device(positions, offset), visible = on_device(scene.visible),
                         image = on_device(scene.image.to(at::kInt)),
                         removed = on_device(scene.removed.to(at::kInt));

        // In LibTorch's operators.
        at::Tensor want;
        if (without) {
          const at::Tensor remaining = ids_without(scene.removed, scene.visible_count);
          want =
              rows_at(unshuffled(embedded, scene.of_variants().gather(1, remaining), mask_token, positions),
                      ids_without(scene.removed_tokens(), scene.patches + 1));
        } else {
          want = unshuffled(embedded, scene.visible, mask_token, positions);
        }
        const at::Tensor out = room_on_device(want.sizes(), at::kFloat, offset);
        args::DecoderInput arguments;
        arguments.patches = scene.patches;
        arguments.visible_per_image = scene.visible_count;
        arguments.width = width;
        if (without) {
          arguments.image = image.const_data_ptr<int32_t>();
          arguments.removed = removed.const_data_ptr<int32_t>();
        }
        arguments.visible = visible.const_data_ptr<int64_t>();
        arguments.embedded = in_embedded.const_data_ptr<float>();
        arguments.mask_token = in_mask.const_data_ptr<float>();
        arguments.positions = in_positions.const_data_ptr<float>();
        arguments.out = out.mutable_data_ptr<float>();
        cuda::launch_decoder_input(arguments, m, nullptr);
        CHECK(same(on_host(out), want));
      }
    }
  }
}

TEST_CASE("the anchor's input is the model's") {
  const MaskedAutoencoder model = small_mae(at::kFloat);
  const at::Tensor images = random_tensor({2, 3, 24, 32}, 1, at::kFloat);
  const at::Tensor visible = some_visible(2, 12, 5, 2);
  const at::Tensor latents = model.encode(images, visible);
  const at::Tensor want = model.decoder_input(latents, visible, model.grid_of(images));
  const at::Tensor embedded = on_device(model.decoder_embed()(latents)),
                   mask_token = on_device(model.tensors().at("mask_token")),
                   positions = on_device(model.tensors().at("decoder_pos_embed")), ids = on_device(visible),
                   out = room_on_device(want.sizes());
  args::DecoderInput arguments;
  arguments.patches = 12;
  arguments.visible_per_image = 5;
  arguments.width = 16;
  arguments.visible = ids.const_data_ptr<int64_t>();
  arguments.embedded = embedded.const_data_ptr<float>();
  arguments.mask_token = mask_token.const_data_ptr<float>();
  arguments.positions = positions.const_data_ptr<float>();
  arguments.out = out.mutable_data_ptr<float>();
  check_every_order([&] {
    cuda::launch_decoder_input(arguments, 2, nullptr);
    CHECK(same(on_host(out), want));
    return std::vector<at::Tensor>{on_host(out).clone()};
  });
}

TEST_CASE("the difference that a variant starts with") {
  uint64_t seed = 900;
  for (const Scene& scene : scenes()) {
    for (const int64_t offset : {0, 1}) {
      for (const int kind : {0, 1, 2}) {
        // 0: nothing is removed. 1: its row is zero. 2: the mask token takes its place.
        CAPTURE(scene.patches);
        CAPTURE(offset);
        CAPTURE(kind);
        ++seed;
        const int64_t m = scene.image.size(0), width = scene.width, latents = scene.visible_count + 1;
        const at::Tensor difference = normal({m, latents, width}, seed),
                         embedded = normal({scene.images, latents, width}, seed + 1),
                         mask_token = normal({width}, seed + 3);
        const at::Tensor in_difference = on_device(difference, offset),
                         in_embedded = on_device(embedded, offset);
        const at::Tensor in_mask = on_device(mask_token, offset), visible = on_device(scene.visible),
                         image = on_device(scene.image.to(at::kInt)),
                         removed = on_device(scene.removed.to(at::kInt));

        at::Tensor want = at::zeros({m, scene.patches + 1, width});
        const at::Tensor tokens = at::constant_pad_nd(scene.of_variants() + 1, {1, 0}, 0);
        want.scatter_(1, tokens.unsqueeze(2).expand({-1, -1, width}), difference);
        if (kind > 0) {
          const at::Tensor anchor = embedded.index({scene.image, scene.removed + 1});
          want.index_put_({at::arange(m, at::kLong), scene.removed_tokens()},
                          kind == 1 ? at::zeros({m, width}) : mask_token - anchor);
        }

        const at::Tensor out = room_on_device(want.sizes(), at::kFloat, offset);
        args::StartingDifference arguments;
        arguments.patches = scene.patches;
        arguments.visible_per_image = scene.visible_count;
        arguments.width = width;
        arguments.image = image.const_data_ptr<int32_t>();
        if (kind > 0) arguments.removed = removed.const_data_ptr<int32_t>();
        arguments.visible = visible.const_data_ptr<int64_t>();
        arguments.difference = in_difference.const_data_ptr<float>();
        if (kind == 2) {
          arguments.mask_token = in_mask.const_data_ptr<float>();
          arguments.embedded = in_embedded.const_data_ptr<float>();
        }
        arguments.out = out.mutable_data_ptr<float>();
        cuda::launch_starting_difference(arguments, m, nullptr);
        CHECK(same(on_host(out), want));
      }
    }
  }
}

TEST_CASE("rows without one, of any number of bytes") {
  for (const auto& [tokens, bytes] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 4}, {2, 1}, {3, 7}, {5, 12}, {8, 16}, {20, 48}, {50, 2048}}) {
    for (const int64_t offset : {0, 1, 4}) {
      CAPTURE(tokens);
      CAPTURE(bytes);
      CAPTURE(offset);
      const at::Tensor rows = at::empty({3, tokens, bytes}, at::kByte).random_(0, 256, generator_for(1, 1));
      const at::Tensor image = at::tensor({2, 0, 0, 1}, at::kLong),
                       removed = at::empty({4}, at::kLong).random_(0, tokens, generator_for(2, 1));
      const at::Tensor want = rows_at(rows.index_select(0, image), ids_without(removed, tokens));
      const at::Tensor in = on_device(rows, offset), in_image = on_device(image.to(at::kInt)),
                       in_removed = on_device(removed.to(at::kInt)),
                       out = room_on_device(want.sizes(), at::kByte, offset);
      args::DeleteRow arguments;
      arguments.tokens = tokens;
      arguments.row_bytes = bytes;
      arguments.image = in_image.const_data_ptr<int32_t>();
      arguments.removed = in_removed.const_data_ptr<int32_t>();
      arguments.rows = static_cast<const char*>(in.const_data_ptr());
      arguments.out = static_cast<char*>(out.mutable_data_ptr());
      cuda::launch_delete_row(arguments, 4, nullptr);
      CHECK(same(on_host(out), want));
    }
  }
}

TEST_CASE("masked tokens, before and after a row is gone") {
  for (const Scene& scene : scenes()) {
    const at::Tensor masked = masked_from_visible(scene.visible, scene.patches) + 1;  // [n, L - V]
    const at::Tensor visible = on_device(scene.visible), image = on_device(scene.image.to(at::kInt)),
                     removed = on_device(scene.removed_tokens().to(at::kInt));
    const at::Tensor anchors = room_on_device(masked.sizes(), at::kInt);
    args::MaskedTokens arguments;
    arguments.patches = scene.patches;
    arguments.visible_per_image = scene.visible_count;
    arguments.visible = visible.const_data_ptr<int64_t>();
    arguments.out = anchors.mutable_data_ptr<int32_t>();
    cuda::launch_masked_tokens(arguments, scene.images, nullptr);
    CHECK(same(on_host(anchors).to(at::kLong), masked));

    at::Tensor want = masked.index_select(0, scene.image);
    want = want - want.gt(scene.removed_tokens().unsqueeze(1)).to(at::kLong);
    const at::Tensor out = room_on_device(want.sizes(), at::kInt);
    arguments.image = image.const_data_ptr<int32_t>();
    arguments.removed = removed.const_data_ptr<int32_t>();
    arguments.out = out.mutable_data_ptr<int32_t>();
    cuda::launch_masked_tokens(arguments, scene.image.size(0), nullptr);
    CHECK(same(on_host(out).to(at::kLong), want));
  }
}

TEST_CASE("variants that contradict themselves are refused") {
  args::DecoderInput input;
  CHECK_THROWS_AS(cuda::launch_decoder_input(input, 1, nullptr), std::invalid_argument);
  input.patches = 3;
  input.visible_per_image = 4;
  input.width = 8;
  CHECK_THROWS_AS(cuda::launch_decoder_input(input, 1, nullptr), std::invalid_argument);
  args::StartingDifference difference;
  difference.patches = 3;
  difference.visible_per_image = 2;
  difference.width = 8;
  const float mask_token = 0;
  difference.mask_token = &mask_token;
  CHECK_THROWS_AS(cuda::launch_starting_difference(difference, 1, nullptr), std::invalid_argument);
  CHECK_THROWS_AS(cuda::launch_delete_row(args::DeleteRow(), 1, nullptr), std::invalid_argument);
  CHECK_THROWS_AS(cuda::launch_masked_tokens(args::MaskedTokens(), 1, nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace ltrp::test
