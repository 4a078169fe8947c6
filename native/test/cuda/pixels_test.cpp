// Bytes to network input on the device, bit for bit as on the CPU; patches in every encoding.
#include "kernels/pixels.h"

#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cuda/launchers.h"
#include "test/cuda/device_tensors.h"

namespace ltrp::test {
namespace {

using args::Encoding;

const std::array<double, 3> kMean{0.485, 0.456, 0.406}, kStd{0.229, 0.224, 0.225};

at::Tensor random_bytes(at::IntArrayRef shape, uint64_t seed) {
  return at::empty(shape, at::kByte).random_(0, 256, generator_for(seed, 1));
}

template <typename Arguments>
void set_statistics(Arguments& arguments) {
  for (size_t c = 0; c < 3; ++c) {
    arguments.mean[c] = static_cast<float>(kMean[c]);
    arguments.std[c] = static_cast<float>(kStd[c]);
  }
}

TEST_CASE("normalised pixels have the CPU's bits, at every size and alignment") {
  for (const auto& [n, height, width] : std::vector<std::array<int64_t, 3>>{{1, 1, 1},
                                                                            {2, 1, 3},
                                                                            {1, 2, 2},
                                                                            {3, 5, 7},
                                                                            {2, 16, 16},
                                                                            {1, 61, 67},
                                                                            {2, 64, 66},
                                                                            {1, 224, 224}}) {
    const at::Tensor bytes = random_bytes({n, height, width, 3}, 1);
    const at::Tensor want = normalize_pixels(bytes, kMean, kStd);
    for (const int64_t offset : {0, 1, 4}) {
      CAPTURE(height);
      CAPTURE(offset);
      const at::Tensor in = on_device(bytes, offset), out = room_on_device(want.sizes(), at::kFloat, offset);
      args::NormalizePixels arguments;
      arguments.images = n;
      arguments.height = height;
      arguments.width = width;
      arguments.bytes = in.const_data_ptr<uint8_t>();
      set_statistics(arguments);
      arguments.out = out.mutable_data_ptr<float>();
      cuda::launch_normalize_pixels(arguments, nullptr);
      CHECK(same(on_host(out), want));
    }
  }
}

TEST_CASE("every byte of every channel, under odd statistics") {
  at::Tensor bytes = at::arange(256, at::kByte).view({1, 16, 16, 1}).expand({1, 16, 16, 3}).contiguous();
  for (const double scale : {1.0, 1e-3, 3.7, 1e5}) {
    const std::array<double, 3> mean{0.1 * scale, -0.37, 0.5}, std{0.3 * scale, 0.17 / scale, 1 / 3.0};
    const at::Tensor in = on_device(bytes), out = room_on_device({1, 3, 16, 16});
    args::NormalizePixels arguments;
    arguments.images = 1;
    arguments.height = arguments.width = 16;
    arguments.bytes = in.const_data_ptr<uint8_t>();
    for (size_t c = 0; c < 3; ++c) {
      arguments.mean[c] = static_cast<float>(mean[c]);
      arguments.std[c] = static_cast<float>(std[c]);
    }
    arguments.out = out.mutable_data_ptr<float>();
    cuda::launch_normalize_pixels(arguments, nullptr);
    CHECK(same(on_host(out), normalize_pixels(bytes, mean, std)));
  }
}

struct EncodingCase {
  Encoding encoding;
  at::ScalarType type;
  bool scaled;
};
const EncodingCase kEncodings[] = {{Encoding::kFloat32, at::kFloat, false},
                                   {Encoding::kBfloat16, at::kBFloat16, false},
                                   {Encoding::kFloat16, at::kHalf, true},
                                   {Encoding::kFloat8, at::kFloat8_e4m3fn, true},
                                   {Encoding::kInt8, at::kChar, true}};

// What a row may lose: half a step of its encoding.
at::Tensor half_step(const at::Tensor& exact, const at::Tensor& scale, Encoding encoding) {
  const at::Tensor magnitude = exact.abs();
  switch (encoding) {
    case Encoding::kFloat16:  // 11 bits, of x / scale in [-2, 2]
      return at::maximum(magnitude * std::ldexp(1.0, -11), scale * std::ldexp(1.0, -25));
    case Encoding::kFloat8:  // 4 bits, the smallest step 2^-9
      return at::maximum(magnitude / 16, scale * std::ldexp(1.0, -10)) * (1 + 1e-6);
    default:
      return (scale * 0.50005).expand_as(exact);
  }
}

// L patches in order or `ids` [n, per_image].
void check_patches(const at::Tensor& bytes, int64_t side, const at::Tensor& ids, const EncodingCase& encoding,
                   int64_t offset) {
  const at::Tensor pixels = normalize_pixels(bytes, kMean, kStd);
  at::Tensor want = patchify_channels_first(pixels, side);
  const int64_t width = want.size(2);
  if (ids.defined()) want = want.gather(1, ids.unsqueeze(2).expand({-1, -1, width}));
  const int64_t rows = want.size(0) * want.size(1);
  want = want.reshape({rows, width});

  const at::Tensor in = on_device(bytes, offset), chosen = ids.defined() ? on_device(ids) : ids,
                   scale = room_on_device({rows}),
                   room = room_on_device({rows * width},
                                         encoding.encoding == Encoding::kFloat8 ? at::kByte : encoding.type,
                                         offset);
  args::PixelPatches arguments;
  arguments.patch_size = side;
  arguments.height = pixels.size(2);
  arguments.width = pixels.size(3);
  arguments.per_image = rows / pixels.size(0);
  if (ids.defined()) arguments.ids = chosen.const_data_ptr<int64_t>();
  arguments.bytes = in.const_data_ptr<uint8_t>();
  set_statistics(arguments);
  arguments.out.encoding = encoding.encoding;
  arguments.out.values = room.mutable_data_ptr();
  arguments.out.scale = scale.mutable_data_ptr<float>();
  cuda::launch_pixel_patches(arguments, rows, nullptr);

  at::Tensor got = on_host(room);
  if (encoding.encoding == Encoding::kFloat8) got = got.view(at::kFloat8_e4m3fn);
  got = got.view({rows, width});
  if (!encoding.scaled) {
    CHECK(same(got, want.to(encoding.type)));
    return;
  }
  const at::Tensor exact = want.to(at::kDouble), most = exact.abs().amax(1),
                   of_rows = on_host(scale).to(at::kDouble);
  if (encoding.encoding == Encoding::kFloat16) {
    CHECK((of_rows == most.log2().floor().exp2()).all().item<bool>());
  } else {
    const double largest = encoding.encoding == Encoding::kFloat8 ? 448 : 127;
    CHECK(at::allclose(of_rows, most / largest, 1e-6, 0));
  }
  const at::Tensor error = (got.to(at::kDouble) * of_rows.unsqueeze(1) - exact).abs();
  const at::Tensor allowed = half_step(exact, of_rows.unsqueeze(1), encoding.encoding);
  CHECK((error <= allowed).all().item<bool>());
}

TEST_CASE("patches of bytes, in every encoding") {
  for (const auto& [n, rows, columns, side] : std::vector<std::array<int64_t, 4>>{{1, 1, 1, 1},
                                                                                  {2, 3, 2, 3},
                                                                                  {1, 2, 3, 4},
                                                                                  {2, 2, 1, 8},
                                                                                  {1, 1, 2, 14},
                                                                                  {2, 3, 2, 16},
                                                                                  {1, 1, 1, 20}}) {
    const at::Tensor bytes = random_bytes({n, rows * side, columns * side, 3}, 2);
    const at::Tensor ids = at::empty({n, 2}, at::kLong).random_(0, rows * columns, generator_for(4, 1));
    for (const EncodingCase& encoding : kEncodings) {
      for (const int64_t offset : {0, 1}) {
        CAPTURE(side);
        CAPTURE(static_cast<int>(encoding.encoding));
        CAPTURE(offset);
        check_patches(bytes, side, {}, encoding, offset);
        check_patches(bytes, side, ids, encoding, offset);
      }
    }
  }
}

TEST_CASE("patches as wide as the shared rows") {
  // 40 pixels: 4800 values, for which four warps share a patch.
  const at::Tensor bytes = random_bytes({1, 40, 80, 3}, 5);
  for (const EncodingCase& encoding : kEncodings) {
    check_patches(bytes, 40, {}, encoding, 0);
  }
}

TEST_CASE("more patches than one launch has blocks") {
  const at::Tensor bytes = random_bytes({3, 64, 64, 3}, 6);
  check_patches(bytes, 1, {}, kEncodings[0], 0);
}

TEST_CASE("patches do not depend on the order of threads") {
  const at::Tensor bytes = random_bytes({2, 32, 40, 3}, 7);
  for (const EncodingCase& encoding : kEncodings) {
    check_every_order([&] {
      // Each value is checked against what it must be, in every order.
      check_patches(bytes, 8, {}, encoding, 0);
      check_patches(bytes.slice(2, 0, 32).contiguous(), 32, {}, encoding, 0);
      return std::vector<at::Tensor>{};
    });
  }
}

TEST_CASE("images that are no whole patches are refused") {
  args::PixelPatches arguments;
  arguments.patch_size = 4;
  arguments.height = arguments.width = 8;
  arguments.per_image = 4;
  arguments.out.encoding = Encoding::kUint8;
  CHECK_THROWS(cuda::launch_pixel_patches(arguments, 1, nullptr));
  arguments.out.encoding = Encoding::kFloat32;
  arguments.width = 9;
  CHECK_THROWS_AS(cuda::launch_pixel_patches(arguments, 1, nullptr), std::invalid_argument);
  arguments.patch_size = 0;
  CHECK_THROWS_AS(cuda::launch_pixel_patches(arguments, 1, nullptr), std::invalid_argument);
  args::NormalizePixels empty;
  CHECK_THROWS_AS(cuda::launch_normalize_pixels(empty, nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace ltrp::test
