// Making trainers, afresh or from a training checkpoint.
#include <cmath>
#include <cstdlib>

#include "core/checkpoint/safetensors.h"
#include "core/error.h"
#include "core/training/checksum.h"
#include "core/training/finetuner.h"
#include "core/training/options_json.h"
#include "core/training/pretrainer.h"
#include "core/training/ranker_trainer.h"

namespace ltrp {

namespace {

// Sums of the same teacher that were added up in another order, as earlier versions did by the number of
// threads, differ in the last digits.
bool same_fingerprint(const std::string& own, const std::string& stored) {
  if (own.empty() || stored.empty()) return own == stored;
  const double first = std::strtod(own.c_str(), nullptr), second = std::strtod(stored.c_str(), nullptr);
  return std::abs(first - second) <= 1e-10 * std::abs(first);
}

}  // namespace

std::unique_ptr<Trainer> create_finetuner(const FinetuneOptions& options, const RunContext& context) {
  auto trainer = std::make_unique<Finetuner>(options, context);
  trainer->begin(context);
  return trainer;
}

std::unique_ptr<Trainer> create_pretrainer(const PretrainOptions& options, const RunContext& context) {
  auto trainer = std::make_unique<Pretrainer>(options);
  trainer->begin(context);
  return trainer;
}

std::unique_ptr<Trainer> create_ranker_trainer(const RankerTrainingOptions& options,
                                               const RunContext& context) {
  auto trainer = std::make_unique<RankerTrainer>(options, context);
  trainer->begin(context);
  return trainer;
}

std::unique_ptr<Trainer> resume_trainer(const std::string& path, at::Device device,
                                        const std::string& changes, const RunContext& context) {
  const SafetensorsFile file = read_safetensors(path, context);
  const auto field = [&](const char* name) {
    const auto found = file.metadata.find(name);
    if (found == file.metadata.end()) {
      throw Error(codes::kCheckpointContent,
                  "'" + path + "' has no '" + name + "' in its header; it is not a training checkpoint.");
    }
    return found->second;
  };
  if (field("format") != "ltrp-training-1") {
    throw Error(codes::kCheckpointContent, "'" + path +
                                               "' is not a training checkpoint of this version (format '" +
                                               field("format") + "', expected 'ltrp-training-1').");
  }
  // Checkpoints of earlier versions have none.
  if (file.metadata.contains(kChecksumKey) && field(kChecksumKey) != checksum(file.tensors, file.metadata)) {
    throw Error(codes::kCheckpointFormat,
                "'" + path + "' is damaged: its bytes are not the ones that its checksum was made of.");
  }
  const std::string kind = field("kind");
  int64_t step = 0;
  try {
    step = std::stoll(field("step"));
  } catch (const std::logic_error&) {
    throw Error(codes::kCheckpointContent, "'" + path + "' has no readable step in its header.");
  }
  const auto resumed = [&]<typename Run, typename Options>(const auto&... more) -> std::unique_ptr<Trainer> {
    auto stored = options_of_checkpoint<Options>(field("options"));
    stored.training.device = device;
    change_options(changes, stored);
    auto trainer = std::make_unique<Run>(stored, more...);
    trainer->restore(file.tensors, step);
    return trainer;
  };
  if (kind == "pretrain") return resumed.template operator()<Pretrainer, PretrainOptions>();
  if (kind == "finetune") return resumed.template operator()<Finetuner, FinetuneOptions>(context);
  if (kind == "ranker") {
    auto stored = options_of_checkpoint<RankerTrainingOptions>(field("options"));
    stored.training.device = device;
    change_options(changes, stored);
    auto trainer = std::make_unique<RankerTrainer>(stored, context);
    if (!same_fingerprint(trainer->teacher_fingerprint(), field("teacher_fingerprint"))) {
      throw Error(codes::kCheckpointContent,
                  "The teacher '" + trainer->ranker_options()->teacher +
                      "' is not the one this run began with; put it back to resume.");
    }
    trainer->restore(file.tensors, step);
    return trainer;
  }
  throw Error(codes::kCheckpointContent,
              "'" + path + "' holds a training run of unknown kind '" + kind + "'.");
}

}  // namespace ltrp
