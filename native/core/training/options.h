// What defines a training run but the pictures.
#pragma once

#include <c10/core/Device.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/engine/score_options.h"
#include "core/model/classifier.h"
#include "core/model/mae.h"
#include "core/model/ranker.h"
#include "core/names.h"
#include "core/training/asymmetric_loss.h"
#include "core/training/losses.h"

namespace ltrp {

// bfloat16: of matrix products, where the device has such; weights, optimizer and scores stay float32.
enum class TrainingPrecision { kFloat32, kBFloat16 };
template <>
struct Names<TrainingPrecision> {
  static constexpr Named<TrainingPrecision> all[] = {{TrainingPrecision::kFloat32, "float32"},
                                                     {TrainingPrecision::kBFloat16, "bfloat16"}};
};

enum class RankerInput { kVisible, kFull };
template <>
struct Names<RankerInput> {
  static constexpr Named<RankerInput> all[] = {{RankerInput::kVisible, "visible"},
                                               {RankerInput::kFull, "full"}};
};

// kTeacher: patch projection, CLS token and blocks start as the first ones of the teacher's encoder, of the
// same width.
enum class RankerStart { kRandom, kTeacher };
template <>
struct Names<RankerStart> {
  static constexpr Named<RankerStart> all[] = {{RankerStart::kRandom, "random"},
                                               {RankerStart::kTeacher, "teacher"}};
};

// kTeacher: scores of random masks, computed as training goes. kMaps: stored score maps, which the pictures
// bring.
enum class RankerTargets { kTeacher, kMaps };
template <>
struct Names<RankerTargets> {
  static constexpr Named<RankerTargets> all[] = {{RankerTargets::kTeacher, "teacher"},
                                                 {RankerTargets::kMaps, "maps"}};
};

// What a picture is labelled with: its one class, or any number of categories.
enum class Labels { kOne, kMany };
template <>
struct Names<Labels> {
  static constexpr Named<Labels> all[] = {{Labels::kOne, "one"}, {Labels::kMany, "many"}};
};

// The learning rate after the warm-up. kCosine: half a cosine to 0 at the end of the run. kWsd (warm-up,
// stable, decay): the peak, and over the last `decay_steps` 1 - sqrt(share of them that is done) of it
// (Haegele et al. 2024, arXiv 2405.18392): until then the length of the run makes no difference.
enum class Schedule { kCosine, kWsd };
template <>
struct Names<Schedule> {
  static constexpr Named<Schedule> all[] = {{Schedule::kCosine, "cosine"}, {Schedule::kWsd, "wsd"}};
};

// Whether a resumed run may have another value from there on. kOptional: fixed, and may be left out;
// kMayOptional: may, and may be left out.
enum class Change { kFixed, kMay, kOptional, kMayOptional };

// Each struct lists its options once, in each(): name, place, whether it may change, and what it may be.
// Reading, writing (options_json.h) and checking (validate) go by that list.

// Units: images for sizes, optimizer steps for lengths.
struct TrainingOptions {
  int64_t batch_size = 64;
  int64_t micro_batch_size = 32;
  int64_t steps = 1000;
  int64_t warmup_steps = 100;
  Schedule schedule = Schedule::kCosine;
  int64_t decay_steps = 0;      // of kWsd; 0: the learning rate stays at its peak
  double learning_rate = 1e-3;  // peak, absolute; linear warm-up
  double weight_decay = 0.05;   // none on biases, norms, CLS and mask tokens
  double beta1 = 0.9;
  double beta2 = 0.95;
  std::optional<double> clip_gradient_norm;
  TrainingPrecision precision = TrainingPrecision::kFloat32;
  uint64_t seed = 0;
  std::array<double, 2> crop_scale{0.2, 1.0};  // least and most
  bool flip = true;
  double mask_ratio = 0.75;  // where patches are hidden
  double rand_augment = 0;   // magnitude, where pictures are classified; 0: none
  // Where weights, batches and the optimizer's state are. Not part of a run: a checkpoint goes on anywhere.
  c10::Device device = c10::kCPU;
  // Whether a CPU passes the blocks by kernels of its own (trained_blocks.h) or, for comparisons, by
  // LibTorch.
  bool own_blocks = true;

  template <typename Self, typename Visit>
  static void each(Self& o, Visit&& visit) {
    visit("batchSize", o.batch_size, Change::kFixed, closed(1, 1 << 20));
    visit("microBatchSize", o.micro_batch_size, Change::kMay, closed(1, static_cast<double>(o.batch_size)));
    visit("steps", o.steps, Change::kMay, closed(1, 0x1p40));
    visit("warmupSteps", o.warmup_steps, Change::kMay, closed(0, static_cast<double>(o.steps)));
    visit("schedule", o.schedule, Change::kMayOptional);
    visit("decaySteps", o.decay_steps, Change::kMayOptional, closed(0, static_cast<double>(o.steps)));
    visit("learningRate", o.learning_rate, Change::kMay, Interval{0, 1e6, /*low_open=*/true});
    visit("weightDecay", o.weight_decay, Change::kMay, closed(0, 1e6));
    visit("beta1", o.beta1, Change::kMay, half_open(0, 1));
    visit("beta2", o.beta2, Change::kMay, half_open(0, 1));
    visit("clipGradientNorm", o.clip_gradient_norm, Change::kMay, above(0));
    visit("precision", o.precision, Change::kMay);
    visit("seed", o.seed, Change::kFixed, half_open(0, 0x1p53));
    visit("cropScale", o.crop_scale, Change::kFixed, Interval{0, 1, /*low_open=*/true});
    visit("flip", o.flip, Change::kFixed);
  }
};

struct PretrainOptions {
  TrainingOptions training;
  MaeConfig model;
  std::string init;  // checkpoint that the weights begin from; empty: drawn from the seed

  template <typename Self, typename Visit>
  static void each(Self& o, Visit&& visit) {
    TrainingOptions::each(o.training, visit);
    visit("maskRatio", o.training.mask_ratio, Change::kFixed, open(0, 1));
    visit("init", o.init, Change::kOptional);
  }
};

struct RankerTrainingOptions {
  TrainingOptions training;
  RankerConfig model;
  // Without a teacher all patches go in, and what is of its scores (mask_ratio and `scores`) is not read.
  RankerTargets targets = RankerTargets::kTeacher;
  std::string teacher;  // checkpoint path; empty for kMaps
  RankingLoss loss = RankingLoss::kListMle;
  std::optional<int64_t> loss_k;
  double smoothing = 0;  // of kMaps: sigma in patches of the ranks that are learned (engine/smoothing.h)
  LeaveOneOutOptions scores;
  RankerInput input = RankerInput::kVisible;
  RankerStart start = RankerStart::kRandom;
  std::string init;  // as in PretrainOptions: a ranker's

  template <typename Self, typename Visit>
  static void each(Self& o, Visit&& visit) {
    TrainingOptions::each(o.training, visit);
    visit("maskRatio", o.training.mask_ratio, Change::kFixed, open(0, 1));
    visit("targets", o.targets, Change::kOptional);
    visit("teacher", o.teacher, Change::kMay);  // where the same one lies now
    visit("loss", o.loss, Change::kFixed);
    visit("lossK", o.loss_k, Change::kFixed, at_least(1));
    visit("smoothing", o.smoothing, Change::kOptional, closed(0, 64));
    visit("drop", o.scores.drop, Change::kFixed);
    visit("metric", o.scores.metric, Change::kFixed);
    visit("input", o.input, Change::kFixed);
    visit("start", o.start, Change::kFixed);
    visit("memoryBudget", o.scores.memory_budget, Change::kMay, at_least(1));
    visit("init", o.init, Change::kOptional);
  }
};

// Of score maps that are stored (score_store.h): each(), but no run has them.
struct ScoreStoreOptions {
  int64_t crops = 1;  // of each picture
  std::array<double, 2> crop_scale{0.2, 1.0};
  bool flip = true;
  int64_t rounds = 4;
  double mask_ratio = 0.9;
  LeaveOneOutOptions scores;
  bool surprise = false;  // as in ScoreMapOptions
  uint64_t seed = 0;

  template <typename Self, typename Visit>
  static void each(Self& o, Visit&& visit) {
    visit("crops", o.crops, Change::kFixed, closed(1, 1 << 20));
    visit("cropScale", o.crop_scale, Change::kFixed, Interval{0, 1, /*low_open=*/true});
    visit("flip", o.flip, Change::kFixed);
    visit("rounds", o.rounds, Change::kFixed, closed(1, 1'000'000));
    visit("maskRatio", o.mask_ratio, Change::kFixed, open(0, 1));
    visit("drop", o.scores.drop, Change::kFixed);
    visit("metric", o.scores.metric, Change::kFixed);
    visit("surprise", o.surprise, Change::kFixed);
    visit("seed", o.seed, Change::kFixed, half_open(0, 0x1p53));
  }
};

// Of a classifier (docs/method.md, 8). Patches are kept by a selector, which sees the augmented picture.
struct FinetuneOptions {
  TrainingOptions training;
  ClassifierConfig model;
  Labels labels = Labels::kOne;
  AsymmetricLossOptions asymmetric;  // of kMany
  // Of kMany: categories whose average precision is reported apart. Training does not read it.
  std::vector<int64_t> unseen;
  std::string init;                 // a masked autoencoder or a classifier; empty: drawn from the seed
  double min_learning_rate = 1e-6;  // where the half-cosine ends
  double layer_decay = 0.75;        // of the learning rate, a block
  double drop_path = 0.1;           // of the last block; rises from 0
  double label_smoothing = 0.1;
  double mixup = 0;                                  // of Beta(mixup, mixup); 0: none
  double cutmix = 0;                                 // the same; with both on, each step has one of them
  double erase = 0.25;                               // share of the pictures of which a box is erased
  double keep_ratio = 1;                             // of the patches; at evaluation too
  std::optional<std::array<double, 2>> keep_random;  // least and most, drawn for each step of training
  std::string selector = "random";
  std::string selector_model;  // checkpoint path; empty where the selector asks none

  template <typename Self, typename Visit>
  static void each(Self& o, Visit&& visit) {
    TrainingOptions::each(o.training, visit);
    visit("labels", o.labels, Change::kOptional);
    visit("gammaNegative", o.asymmetric.gamma_negative, Change::kOptional, at_least(0));
    visit("gammaPositive", o.asymmetric.gamma_positive, Change::kOptional, at_least(0));
    visit("margin", o.asymmetric.margin, Change::kOptional, half_open(0, 1));
    visit("unseen", o.unseen, Change::kOptional);
    visit("randAugment", o.training.rand_augment, Change::kFixed, closed(0, 10));
    visit("minLearningRate", o.min_learning_rate, Change::kMay, closed(0, 1e6));
    visit("layerDecay", o.layer_decay, Change::kFixed, Interval{0, 1, /*low_open=*/true});
    visit("dropPath", o.drop_path, Change::kFixed, half_open(0, 1));
    visit("labelSmoothing", o.label_smoothing, Change::kFixed, half_open(0, 1));
    visit("mixup", o.mixup, Change::kFixed, closed(0, 1e3));
    visit("cutmix", o.cutmix, Change::kFixed, closed(0, 1e3));
    visit("erase", o.erase, Change::kFixed, closed(0, 1));
    visit("keepRatio", o.keep_ratio, Change::kFixed, Interval{0, 1, /*low_open=*/true});
    visit("keepRandom", o.keep_random, Change::kFixed, Interval{0, 1, /*low_open=*/true});
    visit("selector", o.selector, Change::kFixed);
    visit("selectorModel", o.selector_model, Change::kOptional);
    visit("init", o.init, Change::kOptional);
  }
};

// Error(kInvalidArgument) naming the option that is out of range.
void validate(const FinetuneOptions& options);
void validate(const PretrainOptions& options);
void validate(const RankerTrainingOptions& options);
void validate(const ScoreStoreOptions& options);

}  // namespace ltrp
