// NativeRanker of lib/native/binding.ts.
#pragma once

#include <memory>

#include "binding/model_handle.h"
#include "binding/node_api.h"
#include "core/engine/frozen_ranker.h"

namespace ltrp::binding {

class Ranker : public Napi::ObjectWrap<Ranker> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit Ranker(const Napi::CallbackInfo& info);
  void Finalize(Napi::BasicEnv env) override { model_.release(env); }

  // loadRanker(job, path, options)
  static Napi::Value load(const Napi::CallbackInfo& info);

 private:
  Napi::Value rank(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info) { model_.release(info.Env()); }

  ModelHandle<const FrozenRanker> model_;
};

}  // namespace ltrp::binding
