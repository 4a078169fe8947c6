// Entry point of libltrp_core-<minor>-<variant>.so: the CoreBinding of lib/native/binding.ts. Called once per
// environment.
#include <memory>

#include "binding/arguments.h"
#include "binding/environment.h"
#include "binding/failure.h"
#include "binding/images.h"
#include "binding/info.h"
#include "binding/keep_list.h"
#include "binding/kinds.h"
#include "binding/multi_label.h"
#include "binding/node_api.h"
#include "binding/pictures.h"
#include "binding/ranking.h"
#include "binding/ranks.h"
#include "binding/selectors.h"
#include "binding/trainer.h"
#include "kernels/cpu/tensor_memory.h"

namespace ltrp::binding {
namespace {

void set_threads(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    const double threads = info[0].IsNumber() ? info[0].As<Napi::Number>().DoubleValue() : 0;
    if (!(threads >= 1 && threads <= 1024) || threads != static_cast<int>(threads)) {
      invalid("threads must be an integer in [1, 1024]; got " + describe_value(info[0]) + ".");
    }
    Environment::of(info.Env()).compute.set_threads(static_cast<int>(threads));
  });
}

void shutdown(const Napi::CallbackInfo& info) { Environment::of(info.Env()).compute.shutdown(); }

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  // Before anything of the core has computed: other environments may do so by now, but find it done.
  static const bool keeps_memory = (cpu::keep_tensor_memory(), true);
  static_cast<void>(keeps_memory);
  auto environment = std::make_unique<Environment>(env);
  Napi::Function job = Job::define(env);
  environment->job_class = Napi::Persistent(job);
  for (const AnyKind* kind : kinds())
    environment->model_classes[kind->word()] = Napi::Persistent(kind->define(env));
  environment->trainer_class = Napi::Persistent(TrainerObject::define(env));
  env.SetInstanceData(environment.release());

  exports.Set("Job", job);
  exports.Set("info", Napi::Function::New<info>(env, "info"));
  exports.Set("setThreads", Napi::Function::New<set_threads>(env, "setThreads"));
  exports.Set("shutdown", Napi::Function::New<shutdown>(env, "shutdown"));
  exports.Set("normalizeImages", Napi::Function::New<normalize_images>(env, "normalizeImages"));
  exports.Set("loadModel", Napi::Function::New<load_model>(env, "loadModel"));
  exports.Set("selectPatches", Napi::Function::New<select_patches>(env, "selectPatches"));
  exports.Set("keepFor", Napi::Function::New<keep_for>(env, "keepFor"));
  exports.Set("denseRegions", Napi::Function::New<dense_regions>(env, "denseRegions"));
  exports.Set("scoreBySelector", Napi::Function::New<score_by_selector>(env, "scoreBySelector"));
  exports.Set("rankingLoss", Napi::Function::New<ranking_loss>(env, "rankingLoss"));
  exports.Set("rankAgreement", Napi::Function::New<rank_agreement>(env, "rankAgreement"));
  exports.Set("asymmetricLoss", Napi::Function::New<asymmetric_loss>(env, "asymmetricLoss"));
  exports.Set("averagePrecision", Napi::Function::New<average_precision>(env, "averagePrecision"));
  exports.Set("averagePrecisionOfDraws",
              Napi::Function::New<average_precision_of_draws>(env, "averagePrecisionOfDraws"));
  exports.Set("convertCheckpoint", Napi::Function::New<convert_checkpoint>(env, "convertCheckpoint"));
  exports.Set("readWeights", Napi::Function::New<read_weights>(env, "readWeights"));
  exports.Set("readScoreShard", Napi::Function::New<read_score_shard>(env, "readScoreShard"));
  exports.Set("createTrainer", Napi::Function::New<TrainerObject::create>(env, "createTrainer"));
  exports.Set("resumeTrainer", Napi::Function::New<TrainerObject::resume>(env, "resumeTrainer"));
  exports.Set("joinRanks", Napi::Function::New<join_ranks>(env, "joinRanks"));
  exports.Set("exchangeRanks", Napi::Function::New<exchange_ranks>(env, "exchangeRanks"));
  exports.Set("leaveRanks", Napi::Function::New<leave_ranks>(env, "leaveRanks"));
  exports.Set("endRanks", Napi::Function::New<end_ranks>(env, "endRanks"));
  exports.Set("hostRanks", Napi::Function::New<host_ranks>(env, "hostRanks"));
  exports.Set("endHostedRanks", Napi::Function::New<end_hosted_ranks>(env, "endHostedRanks"));
  return exports;
}

}  // namespace
}  // namespace ltrp::binding

static Napi::Object initialize_addon(Napi::Env env, Napi::Object exports) {
  return ltrp::binding::initialize(env, exports);
}

NODE_API_MODULE(ltrp_core, initialize_addon)
