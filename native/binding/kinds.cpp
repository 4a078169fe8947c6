#include "binding/kinds.h"

#include <algorithm>

#include "binding/arguments.h"

namespace ltrp::binding {
namespace {

// Filled while the library is loaded, in no order that counts.
std::vector<const AnyKind*>& added() {
  static std::vector<const AnyKind*> all;
  return all;
}

}  // namespace

AnyKind::AnyKind() { added().push_back(this); }

std::vector<const AnyKind*> kinds() {
  std::vector<const AnyKind*> all = added();
  std::sort(all.begin(), all.end(), [](const AnyKind* a, const AnyKind* b) { return a->word() < b->word(); });
  return all;
}

const AnyKind& kind_argument(const Napi::Value& value, const std::string& name) {
  const std::string given = value.IsString() ? value.As<Napi::String>().Utf8Value() : std::string();
  std::string words;
  for (const AnyKind* kind : kinds()) {
    if (kind->word() == given) return *kind;
    words += (words.empty() ? "'" : ", '") + kind->word() + "'";
  }
  invalid(name + " must be one of " + words + "; got " + describe_value(value) + ".");
}

SelectorModel selector_model(const Napi::Value& value) {
  if (value.IsUndefined()) return {};
  const Environment& environment = Environment::of(value.Env());
  for (const AnyKind* kind : kinds()) {
    const bool is = value.IsObject() &&
                    value.As<Napi::Object>().InstanceOf(environment.model_classes.at(kind->word()).Value());
    if (is) return kind->opened(value.As<Napi::Object>());
  }
  invalid("model must be a loaded model; got " + describe_value(value) + ".");
}

Napi::Object summary(Napi::Env env, const std::string& naming, const std::vector<std::string>& notes,
                     Napi::Object config) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("naming", naming);
  object.Set("config", config);
  object.Set("notes", to_javascript(env, notes));
  return object;
}

Napi::Object tensors_object(Napi::Env env, const TensorMap& tensors) {
  Napi::Object object = Napi::Object::New(env);
  for (const auto& [name, tensor] : tensors) {
    Napi::HandleScope scope(env);
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("data", typed_array(env, tensor));
    entry.Set("shape", shape_array(env, tensor.sizes()));
    object.Set(name, entry);
  }
  return object;
}

Napi::Value load_model(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    const AnyKind& kind = kind_argument(info[1], "kind");
    const std::string path = string_argument(info[2], "path");
    const Options options(info[3]);
    const LoadSettings settings{load_device(options),
                                options.one_of<Precision>("precision", Precision::kFloat32),
                                checkpoint_overrides(options)};
    return [=, &kind](const RunContext& context) { return kind.load(path, settings, context); };
  });
}

Napi::Value read_weights(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    const std::string path = string_argument(info[1], "path");
    const Options options(info[2]);
    const AnyKind& kind = kind_argument(options.get("kind"), "kind");
    CheckpointOverrides overrides = checkpoint_overrides(options);
    overrides.incomplete = true;
    return [=, &kind](const RunContext& context) { return kind.read(path, overrides, context); };
  });
}

Napi::Value convert_checkpoint(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    const std::string input = string_argument(info[1], "input");
    const std::string output = string_argument(info[2], "output");
    const Options options(info[3]);
    const AnyKind& kind = kind_argument(options.get("kind"), "kind");
    const ConversionSettings settings{output, options.one_of<StoredType>("type"),
                                      options.boolean("overwrite") ? IfThere::kReplace : IfThere::kRefuse};
    CheckpointOverrides overrides = checkpoint_overrides(options);
    // An encoder alone is worth converting too; it is refused where all of a model is needed.
    overrides.incomplete = true;
    return
        [=, &kind](const RunContext& context) { return kind.convert(input, overrides, settings, context); };
  });
}

}  // namespace ltrp::binding
