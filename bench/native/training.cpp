// `training`: a model that is trained from random weights on random pictures; `steps`: some steps of it.
#include <ATen/ATen.h>

#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "core/training/trainer.h"
#include "session.h"

namespace ltrp::bench {

namespace {

TransformerConfig transformer(const Json& config) {
  return {config.at("dim"), config.at("depth"), config.at("heads"), config.at("mlpDim")};
}

}  // namespace

Json training(Session& session, const Json& request) {
  TrainingOptions options;
  options.batch_size = integer(request, "batch", 64, 1, 1 << 20);
  options.micro_batch_size = integer(request, "microBatch", 32, 1, options.batch_size);
  options.steps = 1 << 20;
  options.own_blocks = request.at("ownBlocks").get<bool>();
  const std::string precision = request.at("precision");
  if (precision == "bfloat16") options.precision = TrainingPrecision::kBFloat16;
  session.trainer.reset();
  if (request.contains("teacher")) {
    RankerTrainingOptions ranker;
    ranker.training = options;
    ranker.model.encoder = transformer(request.at("encoder"));
    ranker.teacher = request.at("teacher").get<std::string>();
    ranker.input = RankerInput::kFull;
    session.trainer = create_ranker_trainer(ranker);
  } else {
    PretrainOptions pretrain;
    pretrain.training = options;
    pretrain.model.encoder = transformer(request.at("encoder"));
    pretrain.model.decoder = transformer(request.at("decoder"));
    session.trainer = create_pretrainer(pretrain);
  }
  session.pictures.clear();
  for (int64_t i = 0; i < options.batch_size; ++i) {
    session.pictures.push_back(
        at::empty({224, 224, 3}, at::kByte).random_(0, 256, generator_for(1, static_cast<uint64_t>(i))));
  }
  return Json::object();
}

// Milliseconds of each step, without augmentation, and of the teacher in it.
Json steps(Session& session, const Json& request) {
  if (!session.trainer) throw Error(codes::kInvalidArgument, "Nothing is trained; send `training` first.");
  std::vector<Picture> pictures;
  for (const at::Tensor& picture : session.pictures) {
    pictures.push_back({picture.const_data_ptr<uint8_t>(), picture.size(0), picture.size(1)});
  }
  std::vector<double> milliseconds, teacher, losses;
  for (int64_t i = integer(request, "steps", 1, 1, 1 << 20); i > 0; --i) {
    const StepResult result = session.trainer->train_step(pictures, {});
    milliseconds.push_back(1e3 * (result.total_seconds - result.augment_seconds));
    teacher.push_back(1e3 * result.teacher_seconds);
    losses.push_back(result.loss);
  }
  return {{"ms", milliseconds}, {"teacherMs", teacher}, {"losses", losses}};
}

}  // namespace ltrp::bench
