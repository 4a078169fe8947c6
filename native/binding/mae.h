// NativeMae of lib/native/binding.ts.
#pragma once

#include <memory>

#include "binding/model_handle.h"
#include "binding/node_api.h"
#include "core/engine/teacher.h"

namespace ltrp::binding {

class Mae : public Napi::ObjectWrap<Mae> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit Mae(const Napi::CallbackInfo& info);
  void Finalize(Napi::BasicEnv env) override { model_.release(env); }

  // loadMae(job, path, options)
  static Napi::Value load(const Napi::CallbackInfo& info);

 private:
  Napi::Value score_patches(const Napi::CallbackInfo& info);
  Napi::Value score_map(const Napi::CallbackInfo& info);
  Napi::Value reconstruct(const Napi::CallbackInfo& info);
  Napi::Value encode(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info) { model_.release(info.Env()); }

  ModelHandle<const Teacher> model_;
};

}  // namespace ltrp::binding
