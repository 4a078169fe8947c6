// Entry point of libltrp_core-<minor>-<variant>.so: the CoreBinding of lib/native/binding.ts. Called once per
// environment.
#include <memory>

#include "binding/arguments.h"
#include "binding/convert.h"
#include "binding/environment.h"
#include "binding/failure.h"
#include "binding/images.h"
#include "binding/info.h"
#include "binding/mae.h"
#include "binding/node_api.h"
#include "binding/ranker.h"
#include "binding/ranking.h"
#include "binding/trainer.h"
#include "binding/weights.h"

namespace ltrp::binding {
namespace {

void set_threads(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    const double threads = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : 0;
    if (!(threads >= 1 && threads <= 1024) || threads != static_cast<int>(threads)) {
      refuse("threads must be an integer from 1 to 1024, but " + describe_value(info[0]) + " came.");
    }
    Environment::of(info.Env()).compute.set_threads(static_cast<int>(threads));
  });
}

void shutdown(const Napi::CallbackInfo& info) { Environment::of(info.Env()).compute.shutdown(); }

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  auto environment = std::make_unique<Environment>(env);
  Napi::Function job = Job::define(env);
  environment->job_class = Napi::Persistent(job);
  environment->mae_class = Napi::Persistent(Mae::define(env));
  environment->ranker_class = Napi::Persistent(Ranker::define(env));
  environment->trainer_class = Napi::Persistent(TrainerObject::define(env));
  env.SetInstanceData(environment.release());

  exports.Set("Job", job);
  exports.Set("info", Napi::Function::New<info>(env, "info"));
  exports.Set("setThreads", Napi::Function::New<set_threads>(env, "setThreads"));
  exports.Set("shutdown", Napi::Function::New<shutdown>(env, "shutdown"));
  exports.Set("normalizeImages", Napi::Function::New<normalize_images>(env, "normalizeImages"));
  exports.Set("loadMae", Napi::Function::New<Mae::load>(env, "loadMae"));
  exports.Set("loadRanker", Napi::Function::New<Ranker::load>(env, "loadRanker"));
  exports.Set("selectPatches", Napi::Function::New<select_patches>(env, "selectPatches"));
  exports.Set("rankingLoss", Napi::Function::New<ranking_loss>(env, "rankingLoss"));
  exports.Set("rankAgreement", Napi::Function::New<rank_agreement>(env, "rankAgreement"));
  exports.Set("convertCheckpoint", Napi::Function::New<convert_checkpoint>(env, "convertCheckpoint"));
  exports.Set("readWeights", Napi::Function::New<read_weights>(env, "readWeights"));
  exports.Set("createTrainer", Napi::Function::New<TrainerObject::create>(env, "createTrainer"));
  exports.Set("resumeTrainer", Napi::Function::New<TrainerObject::resume>(env, "resumeTrainer"));
  return exports;
}

}  // namespace
}  // namespace ltrp::binding

static Napi::Object initialize_addon(Napi::Env env, Napi::Object exports) {
  return ltrp::binding::initialize(env, exports);
}

NODE_API_MODULE(ltrp_core, initialize_addon)
