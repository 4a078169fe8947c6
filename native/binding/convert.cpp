#include "binding/convert.h"

#include <utility>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/model_config.h"
#include "core/checkpoint/checkpoint.h"

namespace ltrp::binding {
namespace {

template <typename Checkpoint>
MakeResult summary(Checkpoint checkpoint) {
  return [naming = checkpoint.naming, tensors = checkpoint.tensors.size(), config = checkpoint.config](
             Napi::Env env, Napi::Object) -> Napi::Value {
    Napi::Object object = Napi::Object::New(env);
    object.Set("naming", naming);
    object.Set("tensors", static_cast<double>(tensors));
    object.Set("config", to_javascript(env, config));
    return object;
  };
}

}  // namespace

Napi::Value convert_checkpoint(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    std::string input = string_argument(info[1], "input");
    std::string output = string_argument(info[2], "output");
    const Options options(info[3], "options");
    const bool mae = options.one_of<bool>("kind", {{"mae", true}, {"ranker", false}});
    const StoredType type = stored_type(options);
    return
        [=, input = std::move(input), output = std::move(output)](const RunContext& context) -> MakeResult {
          if (mae) {
            // An encoder alone is worth converting too; it is refused where a teacher is needed.
            MaeCheckpoint checkpoint = load_mae_checkpoint(input, /*require_decoder=*/false);
            context.check();
            save_mae_checkpoint(output, checkpoint.config, checkpoint.tensors, type);
            return summary(std::move(checkpoint));
          }
          RankerCheckpoint checkpoint = load_ranker_checkpoint(input);
          context.check();
          save_ranker_checkpoint(output, checkpoint.config, checkpoint.tensors, type);
          return summary(std::move(checkpoint));
        };
  });
}

}  // namespace ltrp::binding
