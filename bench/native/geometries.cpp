#include "geometries.h"

#include <map>
#include <string>

#include "core/error.h"

namespace ltrp::bench {

namespace {

struct Geometry {
  int64_t image, patch;  // pixels
  TransformerConfig encoder;
};

template <typename Config>
void set_size(Config& config, const nlohmann::json& description, const Geometry& geometry) {
  config.patch_size = geometry.patch;
  config.image_height = description.value("height", geometry.image);
  config.image_width = description.value("width", geometry.image);
}

const Geometry& find(const std::map<std::string, Geometry>& known, const nlohmann::json& description) {
  const std::string name = description.at("geometry");
  const auto found = known.find(name);
  if (found != known.end()) return found->second;
  std::string names;
  for (const auto& entry : known) names += (names.empty() ? "" : ", ") + entry.first;
  throw Error(codes::kInvalidArgument, "There is no geometry '" + name + "'; known: " + names + ".");
}

}  // namespace

MaeConfig mae_geometry(const nlohmann::json& description) {
  static const std::map<std::string, Geometry> known{{"vit_b", {224, 16, {768, 12, 12, 3072}}},
                                                     {"vit_l", {224, 16, {1024, 24, 16, 4096}}},
                                                     {"vit_h14", {224, 14, {1280, 32, 16, 5120}}},
                                                     {"tiny", {32, 8, {48, 2, 3, 192}}}};
  const Geometry& geometry = find(known, description);
  MaeConfig config;
  set_size(config, description, geometry);
  config.encoder = geometry.encoder;
  config.decoder =
      geometry.image == 32 ? TransformerConfig{32, 2, 4, 128} : TransformerConfig{512, 8, 16, 2048};
  validate(config);
  return config;
}

RankerConfig ranker_geometry(const nlohmann::json& description) {
  static const std::map<std::string, Geometry> known{{"vit_s", {224, 16, {384, 12, 6, 1536}}},
                                                     {"vit_ti", {224, 16, {192, 12, 3, 768}}},
                                                     {"tiny", {32, 8, {48, 2, 3, 192}}}};
  const Geometry& geometry = find(known, description);
  RankerConfig config;
  set_size(config, description, geometry);
  config.encoder = geometry.encoder;
  const std::string head = description.value("head", "cls");
  if (head != "cls" && head != "token") {
    throw Error(codes::kInvalidArgument, "'head' must be cls or token, not '" + head + "'.");
  }
  config.head = head == "cls" ? RankerHead::kCls : RankerHead::kToken;
  validate(config);
  return config;
}

}  // namespace ltrp::bench
