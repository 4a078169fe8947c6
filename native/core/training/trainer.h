// Training of all models. The caller brings decoded pictures; crops, masks, forward, backward and the
// optimizer are here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/ranks/ranks.h"
#include "core/run_context.h"
#include "core/training/options.h"
#include "kernels/resample.h"

namespace ltrp {

namespace codes {
// Weights or optimizer state are not finite, or gradients stay so: the run cannot go on from here.
inline constexpr const char* kDiverged = "ERR_LTRP_DIVERGED";
}  // namespace codes

// A crop of a picture whose score map is known (score_store.h).
struct ScoredCrop {
  CropBox box;
  bool flip = false;
  std::span<const float> scores;  // [L]; owned by the caller for the duration of the call
};

// One decoded picture: RGB bytes, rows of width * 3; owned by the caller for the duration of the call.
struct Picture {
  const uint8_t* pixels = nullptr;
  int64_t height = 0;
  int64_t width = 0;
  // With it, that crop is taken where others are drawn or taken from the centre.
  std::optional<ScoredCrop> scored = {};
  int64_t label = -1;  // class of the picture, where it has one
  // Its categories, each once, where they are known; none of them is an answer, too.
  std::optional<std::vector<int64_t>> labels = {};
};

struct StepResult {
  int64_t step = 0;
  // False: loss or gradient were not finite. Weights and optimizer are as they were, the pictures are passed
  // over.
  bool applied = true;
  double loss = 0;
  double learning_rate = 0;
  double gradient_norm = 0;
  double augment_seconds = 0;
  double teacher_seconds = 0;
  double sum_seconds = 0;  // waiting for gradients of other ranks, beyond what the backward pass hid
  double total_seconds = 0;
};

// Of a batch, those pictures that a rank has.
struct BatchPart {
  int64_t first = 0;
  int64_t count = 0;
};

struct EvaluationResult {
  std::optional<double> reconstruction_error;  // mean squared error on masked patches, target space
  std::optional<double> loss;
  std::optional<double> kendall_tau;
  std::optional<double> ndcg;
  std::optional<double> accuracy;  // share of the pictures whose class has the largest logit
  // Of pictures with many labels: by category, NaN without a picture that has it, and the means of the others
  // over all categories, those that are not `unseen` and those that are.
  std::vector<double> average_precision;
  std::optional<double> mean_average_precision, seen_average_precision, unseen_average_precision;
};

class Trainer {
 public:
  virtual ~Trainer() = default;
  virtual int64_t step() const = 0;
  // From here on this process is one of several: it continues from rank 0's weights, optimizer and step. All
  // of them call train_step() and evaluate() alike, with their parts of the pictures.
  virtual void join(std::shared_ptr<Ranks> ranks) = 0;
  // Of each batch; without ranks all of it.
  virtual BatchPart part() const = 0;
  // One optimizer step on exactly batch_size pictures, or this rank's part of them; crops, flips and masks
  // come from (seed, step, slot), with RankerTargets::kMaps crops and flips from the pictures. A cancelled
  // step leaves weights and optimizer untouched.
  virtual StepResult train_step(std::span<const Picture> pictures, const RunContext& context) = 0;
  // Of several ranks: each brings other pictures, and all get the figures of all of them, in the order of the
  // ranks.
  virtual EvaluationResult evaluate(std::span<const Picture> pictures, const RunContext& context) = 0;
  // Everything needed to continue exactly, with a checksum. Atomic. Error(kDiverged) when a weight or a
  // moment is not finite: nothing is written.
  virtual void save(const std::string& path) const = 0;
  virtual void export_model(const std::string& path, StoredType type) const = 0;
  // Exactly one is set.
  virtual const FinetuneOptions* finetune_options() const { return nullptr; }
  virtual const PretrainOptions* pretrain_options() const { return nullptr; }
  virtual const RankerTrainingOptions* ranker_options() const { return nullptr; }
};

std::unique_ptr<Trainer> create_finetuner(const FinetuneOptions& options, const RunContext& context = {});
std::unique_ptr<Trainer> create_pretrainer(const PretrainOptions& options, const RunContext& context = {});
std::unique_ptr<Trainer> create_ranker_trainer(const RankerTrainingOptions& options,
                                               const RunContext& context = {});
// Reads a file written by Trainer::save. Error(kCheckpointFormat | kCheckpointContent);
// Error(kInvalidArgument) for changes (change_options) that cannot be, fewer steps than are done among them.
// Error(kCancelled), here and above, while files are read.
std::unique_ptr<Trainer> resume_trainer(const std::string& path, at::Device device = at::kCPU,
                                        const std::string& changes = "{}", const RunContext& context = {});

}  // namespace ltrp
