// NativeTrainer of lib/native/binding.ts.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "binding/model_handle.h"
#include "binding/node_api.h"
#include "core/training/trainer.h"

namespace ltrp::binding {

// The core's trainer belongs to the compute thread; the JavaScript thread may read `step` meanwhile.
struct TrainingRun {
  std::unique_ptr<Trainer> trainer;
  // Of its own, so that it can be read after dispose() too.
  std::shared_ptr<std::atomic<int64_t>> step = std::make_shared<std::atomic<int64_t>>(0);
};

class TrainerObject : public Napi::ObjectWrap<TrainerObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit TrainerObject(const Napi::CallbackInfo& info);
  void Finalize(Napi::BasicEnv env) override { run_.release(env); }

  // createTrainer(job, { kind, options, model, device }), resumeTrainer(job, path, { device, changes })
  static Napi::Value create(const Napi::CallbackInfo& info);
  static Napi::Value resume(const Napi::CallbackInfo& info);

 private:
  Napi::Value train_step(const Napi::CallbackInfo& info);
  Napi::Value evaluate(const Napi::CallbackInfo& info);
  Napi::Value save(const Napi::CallbackInfo& info);
  Napi::Value export_model(const Napi::CallbackInfo& info);
  Napi::Value step(const Napi::CallbackInfo& info);
  void dispose(const Napi::CallbackInfo& info) { run_.release(info.Env()); }

  ModelHandle<TrainingRun> run_;
  std::shared_ptr<std::atomic<int64_t>> step_;
};

}  // namespace ltrp::binding
