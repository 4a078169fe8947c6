#include "binding/ranks.h"

#include <mutex>
#include <utility>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/model_config.h"
#include "core/check.h"

namespace ltrp::binding {
namespace {

// Of the process, not of an environment. Never destroyed: that would wait for the others while it ends.
struct State {
  std::mutex mutex;
  std::shared_ptr<Ranks> ranks;
  std::unique_ptr<RankStore> store;  // of ranks that this process has started
};

State& state() {
  static State& state = *new State();
  return state;
}

void set_ranks(std::shared_ptr<Ranks> ranks) {
  const std::lock_guard lock(state().mutex);
  state().ranks = std::move(ranks);
}

std::shared_ptr<Ranks> needed_ranks() {
  auto ranks = joined_ranks();
  if (!ranks) invalid("joinRanks must come first.");
  return ranks;
}

}  // namespace

std::shared_ptr<Ranks> joined_ranks() {
  const std::lock_guard lock(state().mutex);
  return state().ranks;
}

Napi::Value join_ranks(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    const Options given(info[1]);
    RanksOptions options;
    options.rank = given.integer("rank");
    options.size = given.integer("size");
    options.host = given.string("host");
    options.port = given.integer("port");
    options.hosts_store = given.boolean("hostsStore");
    options.store_owner = given.string("storeOwner");
    options.timeout = given.number("timeout");
    options.join_timeout = given.number("joinTimeout");
    options.error_file = given.string("errorFile", "");
    options.reduction = given.one_of<Reduction>("reduction");
    options.bucket_bytes = given.integer("bucketBytes");
    options.device = load_device(given);
    return [options](const RunContext& context) -> MakeResult {
      if (joined_ranks()) invalid("This process is a rank already.");
      set_ranks(Ranks::join(options, context));
      return [](Napi::Env env, Napi::Object) -> Napi::Value { return env.Undefined(); };
    };
  });
}

Napi::Value exchange_ranks(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    return
        [ranks = needed_ranks(), text = string_argument(info[1], "text")](const RunContext&) -> MakeResult {
          return [texts = ranks->exchange(text)](Napi::Env env, Napi::Object) -> Napi::Value {
            Napi::Array array = Napi::Array::New(env, texts.size());
            for (uint32_t i = 0; i < texts.size(); ++i) array[i] = Napi::String::New(env, texts[i]);
            return array;
          };
        };
  });
}

Napi::Value leave_ranks(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    return [ranks = needed_ranks()](const RunContext&) -> MakeResult {
      ranks->leave();
      set_ranks(nullptr);
      return [](Napi::Env env, Napi::Object) -> Napi::Value { return env.Undefined(); };
    };
  });
}

void end_ranks(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    const std::string message = string_argument(info[0], "message");
    needed_ranks()->end(message, info[1].ToNumber().Int32Value());
  });
}

Napi::Value host_ranks(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    state().store = std::make_unique<RankStore>();
    return Napi::Number::New(info.Env(), static_cast<double>(state().store->port()));
  });
}

void end_hosted_ranks(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    if (state().store) state().store->end(string_argument(info[0], "message"));
  });
}

}  // namespace ltrp::binding
