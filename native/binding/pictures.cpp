#include "binding/pictures.h"

#include <map>
#include <string>
#include <utility>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/results.h"
#include "core/training/score_store.h"

namespace ltrp::binding {
namespace {

// The scored crop of a picture. `scores` keeps the copy that it points into.
ScoredCrop scored_crop(const Options& given, std::vector<at::Tensor>& scores) {
  ScoredCrop crop;
  crop.box = {given.integer("top"), given.integer("left"), given.integer("height"), given.integer("width")};
  crop.flip = given.boolean("flip");
  const Napi::Value values = given.get("scores");
  const int64_t count = length_of(values);
  scores.push_back(float_tensor(values, given.path("scores"), {count}));
  crop.scores = {scores.back().const_data_ptr<float>(), static_cast<size_t>(count)};
  return crop;
}

}  // namespace

PictureBatch pictures_argument(const Napi::Value& value) {
  if (!value.IsArray()) invalid("pictures must be an array; got " + describe_value(value) + ".");
  const auto list = value.As<Napi::Array>();
  PictureBatch batch;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Options picture(list.Get(i), "pictures[" + std::to_string(i) + "]");
    const int64_t height = picture.integer("height"), width = picture.integer("width");
    for (const auto& [key, side] : {std::pair{"height", height}, std::pair{"width", width}}) {
      check_in(closed(1, 1 << 30), picture.path(key), static_cast<double>(side));
    }
    const int64_t bytes = height * width * 3;
    batch.pixels.push_back(byte_tensor(picture.get("pixels"), picture.path("pixels"), bytes));
    batch.pictures.push_back({batch.pixels.back().const_data_ptr<uint8_t>(), height, width});
    if (picture.has("label")) {
      batch.pictures.back().label = picture.integer("label");
      check_in(at_least(0), picture.path("label"), static_cast<double>(batch.pictures.back().label));
    }
    if (picture.has("labels")) {
      const at::Tensor ids = class_ids(picture, "labels");
      const auto* first = ids.const_data_ptr<int64_t>();
      batch.pictures.back().labels.emplace(first, first + ids.numel());
    }
    if (picture.has("scored")) {
      const Options scored(picture.get("scored"), picture.path("scored"));
      batch.pictures.back().scored = scored_crop(scored, batch.scores);
    }
  }
  return batch;
}

Napi::Value read_score_shard(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    return [path = string_argument(info[1], "path")](const RunContext& context) -> MakeResult {
      std::map<std::string, std::string> metadata;
      const StoredScores maps = ltrp::read_score_shard(path, metadata, context);
      const at::Tensor scores = for_javascript(maps.scores), crops = for_javascript(maps.crops),
                       sizes = for_javascript(maps.sizes);
      return [=](Napi::Env env, Napi::Object) -> Napi::Value {
        Napi::Object object = Napi::Object::New(env);
        Napi::Object about = Napi::Object::New(env);
        for (const auto& [name, text] : metadata) about.Set(name, text);
        object.Set("metadata", about);
        object.Set("scores", typed_array(env, scores));
        object.Set("crops", typed_array(env, crops));
        object.Set("sizes", typed_array(env, sizes));
        return object;
      };
    };
  });
}

}  // namespace ltrp::binding
