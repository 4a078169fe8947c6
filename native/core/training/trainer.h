// Training of both models. The caller brings decoded pictures; crops, masks, forward, backward and the
// optimizer are here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/engine/leave_one_out.h"
#include "core/run_context.h"
#include "core/training/losses.h"

namespace ltrp {

enum class TrainingPrecision {
  kFloat32,
  kBFloat16
};  // bfloat16: autocast matmuls; weights, optimizer and scores stay float32

// Units: images for sizes, optimizer steps for lengths.
struct TrainingOptions {
  int64_t batch_size = 64;
  int64_t micro_batch_size = 32;
  int64_t steps = 1000;
  int64_t warmup_steps = 100;
  double learning_rate = 1e-3;  // peak, absolute; linear warm-up, half-cosine to 0
  double weight_decay = 0.05;   // none on biases, norms, CLS and mask tokens
  double beta1 = 0.9;
  double beta2 = 0.95;
  std::optional<double> clip_gradient_norm;
  TrainingPrecision precision = TrainingPrecision::kFloat32;
  uint64_t seed = 0;
  double crop_scale_min = 0.2;
  double crop_scale_max = 1.0;
  bool flip = true;
  double mask_ratio = 0.75;
  // Where weights, batches and the optimizer's state are. Not part of a run: a checkpoint goes on anywhere.
  at::Device device = at::kCPU;
};

struct PretrainOptions {
  TrainingOptions training;
  MaeConfig model;
};

enum class RankerInput { kVisible, kFull };
// kTeacher: patch projection, CLS token and blocks start as the first ones of the teacher's encoder, of the
// same width.
enum class RankerStart { kRandom, kTeacher };

struct RankerTrainingOptions {
  TrainingOptions training;
  RankerConfig model;
  std::string teacher;  // checkpoint path
  RankingLoss loss = RankingLoss::kListMle;
  std::optional<int64_t> loss_k;
  LeaveOneOutOptions scores;
  RankerInput input = RankerInput::kVisible;
  RankerStart start = RankerStart::kRandom;
};

// One decoded picture: RGB bytes, rows of width * 3; owned by the caller for the duration of the call.
struct Picture {
  const uint8_t* pixels = nullptr;
  int64_t height = 0;
  int64_t width = 0;
};

struct StepResult {
  int64_t step = 0;
  double loss = 0;
  double learning_rate = 0;
  double gradient_norm = 0;
  double augment_seconds = 0;
  double teacher_seconds = 0;
  double total_seconds = 0;
};

struct EvaluationResult {
  std::optional<double> reconstruction_error;  // mean squared error on masked patches, target space
  std::optional<double> loss;
  std::optional<double> kendall_tau;
  std::optional<double> ndcg;
};

class Trainer {
 public:
  virtual ~Trainer() = default;
  virtual int64_t step() const = 0;
  // One optimizer step on exactly batch_size pictures; crops, flips and masks come from (seed, step, slot). A
  // cancelled step leaves weights and optimizer untouched.
  virtual StepResult train_step(std::span<const Picture> pictures, const RunContext& context) = 0;
  virtual EvaluationResult evaluate(std::span<const Picture> pictures, const RunContext& context) = 0;
  // Everything needed to continue exactly. Atomic.
  virtual void save(const std::string& path) const = 0;
  virtual void export_model(const std::string& path, StoredType type) const = 0;
  // Exactly one is set.
  virtual const PretrainOptions* pretrain_options() const { return nullptr; }
  virtual const RankerTrainingOptions* ranker_options() const { return nullptr; }
};

std::unique_ptr<Trainer> create_pretrainer(const PretrainOptions& options);
std::unique_ptr<Trainer> create_ranker_trainer(const RankerTrainingOptions& options);
// Reads a file written by Trainer::save. Error(kCheckpointFormat | kCheckpointContent).
std::unique_ptr<Trainer> resume_trainer(const std::string& path, at::Device device = at::kCPU);

}  // namespace ltrp
