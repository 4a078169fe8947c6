#include "core/training/rand_augment.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

namespace ltrp {
namespace {

constexpr double kMostMagnitude = 10;

std::span<uint8_t> values_of(const BytePicture& picture) {
  return {picture.pixels, static_cast<size_t>(picture.height * picture.width * 3)};
}

uint8_t to_byte(double value) { return static_cast<uint8_t>(std::clamp(value, 0.0, 255.0)); }

using Table = std::array<uint8_t, 256>;

void look_up(const BytePicture& picture, const std::array<Table, 3>& tables) {
  size_t i = 0;
  for (uint8_t& value : values_of(picture)) value = tables[i++ % 3][value];
}

template <typename Function>
void map_values(const BytePicture& picture, Function function) {
  Table table;
  for (int i = 0; i < 256; ++i) table[static_cast<size_t>(i)] = to_byte(function(i));
  look_up(picture, {table, table, table});
}

std::array<std::array<int64_t, 256>, 3> histograms(const BytePicture& picture) {
  std::array<std::array<int64_t, 256>, 3> counts{};
  size_t i = 0;
  for (const uint8_t value : values_of(picture)) ++counts[i++ % 3][value];
  return counts;
}

Table identity() {
  Table table;
  for (int i = 0; i < 256; ++i) table[static_cast<size_t>(i)] = static_cast<uint8_t>(i);
  return table;
}

// Each colour from its darkest to its brightest value becomes 0 to 255.
void auto_contrast(const BytePicture& picture) {
  std::array<Table, 3> tables;
  const auto counts = histograms(picture);
  for (size_t colour = 0; colour < 3; ++colour) {
    const auto some = [](int64_t count) { return count > 0; };
    const auto& of = counts[colour];
    const auto low = std::find_if(of.begin(), of.end(), some) - of.begin();
    const auto high = 255 - (std::find_if(of.rbegin(), of.rend(), some) - of.rbegin());
    tables[colour] = identity();
    if (high <= low) continue;
    const double scale = 255.0 / static_cast<double>(high - low), offset = -static_cast<double>(low) * scale;
    for (int i = 0; i < 256; ++i)
      tables[colour][static_cast<size_t>(i)] = to_byte(std::trunc(i * scale + offset));
  }
  look_up(picture, tables);
}

// Each colour's values become equally frequent.
void equalize(const BytePicture& picture) {
  std::array<Table, 3> tables;
  const auto counts = histograms(picture);
  for (size_t colour = 0; colour < 3; ++colour) {
    tables[colour] = identity();
    int64_t total = 0, last = 0, different = 0;
    for (const int64_t count : counts[colour]) {
      if (count == 0) continue;
      total += count;
      last = count;
      ++different;
    }
    const int64_t step = (total - last) / 255;
    if (different <= 1 || step == 0) continue;
    int64_t sum = step / 2;
    for (size_t i = 0; i < 256; ++i) {
      tables[colour][i] = static_cast<uint8_t>(std::min<int64_t>(sum / step, 255));
      sum += counts[colour][i];
    }
  }
  look_up(picture, tables);
}

uint8_t luma(const uint8_t* pixel) {
  return static_cast<uint8_t>((pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16);
}

// factor * value + (1 - factor) * other.
uint8_t blended(uint8_t other, uint8_t value, double factor) {
  const auto f = static_cast<float>(factor);
  const float result =
      static_cast<float>(other) + f * static_cast<float>(static_cast<int>(value) - static_cast<int>(other));
  return to_byte(result);
}

void change_colour(const BytePicture& picture, double factor) {
  uint8_t* pixel = picture.pixels;
  for (int64_t i = 0; i < picture.height * picture.width; ++i, pixel += 3) {
    const uint8_t grey = luma(pixel);
    for (int k = 0; k < 3; ++k) pixel[k] = blended(grey, pixel[k], factor);
  }
}

void change_contrast(const BytePicture& picture, double factor) {
  const int64_t count = picture.height * picture.width;
  int64_t sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += luma(picture.pixels + 3 * i);
  const auto mean = static_cast<uint8_t>(static_cast<double>(sum) / static_cast<double>(count) + 0.5);
  map_values(picture, [&](int value) { return blended(mean, static_cast<uint8_t>(value), factor); });
}

void change_sharpness(const BytePicture& picture, double factor) {
  const std::vector<uint8_t> given(picture.pixels, picture.pixels + picture.height * picture.width * 3);
  const auto at = [&](int64_t y, int64_t x, int64_t k) {
    return given[static_cast<size_t>((y * picture.width + x) * 3 + k)];
  };
  // The border is as sharp as it was.
  for (int64_t y = 1; y + 1 < picture.height; ++y) {
    for (int64_t x = 1; x + 1 < picture.width; ++x) {
      for (int64_t k = 0; k < 3; ++k) {
        int sum = 4 * at(y, x, k);
        for (int64_t i = -1; i <= 1; ++i) {
          for (int64_t j = -1; j <= 1; ++j) sum += at(y + i, x + j, k);
        }
        const auto smooth = static_cast<uint8_t>(static_cast<float>(sum) / 13 + 0.5F);
        picture.pixels[(y * picture.width + x) * 3 + k] = blended(smooth, at(y, x, k), factor);
      }
    }
  }
}

// Output pixel (x, y) shows the input at (a x + b y + c, d x + e y + f), bilinear.
void transform(const BytePicture& picture, const std::array<double, 6>& m,
               const std::array<uint8_t, 3>& fill) {
  const int64_t height = picture.height, width = picture.width;
  const std::vector<uint8_t> given(picture.pixels, picture.pixels + height * width * 3);
  const auto at = [&](int64_t y, int64_t x, size_t k) {
    const int64_t row = std::clamp<int64_t>(y, 0, height - 1), column = std::clamp<int64_t>(x, 0, width - 1);
    return static_cast<double>(given[static_cast<size_t>((row * width + column) * 3) + k]);
  };
  uint8_t* out = picture.pixels;
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x, out += 3) {
      const double centre_x = static_cast<double>(x) + 0.5, centre_y = static_cast<double>(y) + 0.5;
      const double from_x = m[0] * centre_x + m[1] * centre_y + m[2];
      const double from_y = m[3] * centre_x + m[4] * centre_y + m[5];
      if (from_x < 0 || from_x >= static_cast<double>(width) || from_y < 0 ||
          from_y >= static_cast<double>(height)) {
        std::copy(fill.begin(), fill.end(), out);
        continue;
      }
      const double left = std::floor(from_x - 0.5), top = std::floor(from_y - 0.5);
      const double right_share = from_x - 0.5 - left, lower_share = from_y - 0.5 - top;
      const auto column = static_cast<int64_t>(left), row = static_cast<int64_t>(top);
      for (size_t k = 0; k < 3; ++k) {
        const auto across = [&](int64_t line) {
          const double a = at(line, column, k), b = at(line, column + 1, k);
          return a + (b - a) * right_share;
        };
        const double upper = across(row), lower = across(row + 1);
        out[k] = static_cast<uint8_t>(upper + (lower - upper) * lower_share);
      }
    }
  }
}

void rotate(const BytePicture& picture, double degrees, const std::array<uint8_t, 3>& fill) {
  if (degrees == 0) return;
  const double angle = -degrees * std::numbers::pi / 180, cosine = std::cos(angle), sine = std::sin(angle);
  const double x = static_cast<double>(picture.width) / 2, y = static_cast<double>(picture.height) / 2;
  transform(picture, {cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y},
            fill);
}

}  // namespace

double change_argument(PictureChange change, double magnitude, bool negative) {
  const double share = magnitude / kMostMagnitude, sign = negative ? -1 : 1;
  switch (change) {
    case PictureChange::kAutoContrast:
    case PictureChange::kEqualize:
    case PictureChange::kInvert:
      return 0;
    case PictureChange::kRotate:
      return sign * share * 30;
    case PictureChange::kPosterize:
      return 4 - std::trunc(share * 4);
    case PictureChange::kSolarize:
      return 256 - std::trunc(share * 256);
    case PictureChange::kSolarizeAdd:
      return std::trunc(share * 110);
    case PictureChange::kColour:
    case PictureChange::kContrast:
    case PictureChange::kBrightness:
    case PictureChange::kSharpness:
      return std::max(0.1, 1 + sign * share * 0.9);
    case PictureChange::kShearX:
    case PictureChange::kShearY:
      return sign * share * 0.3;
    case PictureChange::kTranslateX:
    case PictureChange::kTranslateY:
      return sign * share * 0.45;
  }
  return 0;
}

void apply_change(PictureChange change, double argument, const BytePicture& picture,
                  const std::array<uint8_t, 3>& fill) {
  switch (change) {
    case PictureChange::kAutoContrast:
      return auto_contrast(picture);
    case PictureChange::kEqualize:
      return equalize(picture);
    case PictureChange::kInvert:
      return map_values(picture, [](int value) { return 255 - value; });
    case PictureChange::kRotate:
      return rotate(picture, argument, fill);
    case PictureChange::kPosterize: {
      const int mask = ~((1 << (8 - static_cast<int>(argument))) - 1);
      return map_values(picture, [&](int value) { return value & mask; });
    }
    case PictureChange::kSolarize:
      return map_values(picture, [&](int value) { return value < argument ? value : 255 - value; });
    case PictureChange::kSolarizeAdd:
      return map_values(picture, [&](int value) { return value < 128 ? value + argument : value; });
    case PictureChange::kColour:
      return change_colour(picture, argument);
    case PictureChange::kContrast:
      return change_contrast(picture, argument);
    case PictureChange::kBrightness:
      return map_values(picture,
                        [&](int value) { return blended(0, static_cast<uint8_t>(value), argument); });
    case PictureChange::kSharpness:
      return change_sharpness(picture, argument);
    case PictureChange::kShearX:
      return transform(picture, {1, argument, 0, 0, 1, 0}, fill);
    case PictureChange::kShearY:
      return transform(picture, {1, 0, 0, argument, 1, 0}, fill);
    case PictureChange::kTranslateX:
      return transform(picture, {1, 0, argument * static_cast<double>(picture.width), 0, 1, 0}, fill);
    case PictureChange::kTranslateY:
      return transform(picture, {1, 0, 0, 0, 1, argument * static_cast<double>(picture.height)}, fill);
  }
}

void rand_augment(double magnitude, const BytePicture& picture, const std::array<uint8_t, 3>& fill,
                  at::Generator generator) {
  constexpr int kChanges = 2;
  constexpr auto& kAll = Names<PictureChange>::all;
  // All at once, so that what is not applied does not shift what comes after.
  const at::Tensor uniform = at::empty({kChanges, 3}, at::kDouble).uniform_(0, 1, generator);
  const at::Tensor normal = at::empty({kChanges}, at::kDouble).normal_(magnitude, 0.5, generator);
  for (int i = 0; i < kChanges; ++i) {
    const double* u = uniform.const_data_ptr<double>() + 3 * i;
    if (u[0] >= 0.5) continue;
    const size_t which = std::min(std::size(kAll) - 1, static_cast<size_t>(u[1] * std::size(kAll)));
    const double drawn = std::clamp(normal.const_data_ptr<double>()[i], 0.0, kMostMagnitude);
    const PictureChange change = kAll[which].value;
    double argument = change_argument(change, drawn, u[2] < 0.5);
    if (change == PictureChange::kPosterize) argument = std::max(argument, 1.0);
    apply_change(change, argument, picture, fill);
  }
}

}  // namespace ltrp
