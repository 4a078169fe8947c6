#include "core/training/layer_decay.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numbers>
#include <string_view>

#include "core/error.h"

namespace ltrp {
namespace {

// -1: no rule knows it.
int64_t layer_of(const std::string& name, int64_t depth) {
  const auto begins = [&](const char* text) { return name.starts_with(text); };
  if (name == "cls_token" || name == "pos_embed" || begins("patch_embed.")) return 0;
  if (begins("norm.") || begins("fc_norm.") || begins("head.")) return depth + 1;
  constexpr std::string_view kBlocks = "blocks.";
  if (!begins(kBlocks.data())) return -1;
  int64_t block = -1;
  const char* end = name.data() + name.size();
  const auto [dot, problem] = std::from_chars(name.data() + kBlocks.size(), end, block);
  const bool known = problem == std::errc() && dot != end && *dot == '.' && block >= 0 && block < depth;
  return known ? block + 1 : -1;
}

}  // namespace

TensorRule layer_decay_rule(const std::string& name, const at::Tensor& tensor, int64_t depth, double decay) {
  const int64_t layer = layer_of(name, depth);
  if (layer < 0) {
    throw Error(codes::kInternal, "The parameter '" + name + "' belongs to no layer of a model with " +
                                      std::to_string(depth) + " blocks, so its learning rate is unknown.");
  }
  // ML-Decoder's queries are fixed.
  if (name == "head.decoder.query_embed.weight") return {.trained = false};
  const bool decayed = tensor.dim() > 1 && name != "cls_token" && name != "pos_embed";
  return {true, decayed, std::pow(decay, static_cast<double>(depth + 1 - layer))};
}

double decayed_learning_rate(const TrainingOptions& options, double least, int64_t done) {
  const double peak = options.learning_rate;
  const auto at = static_cast<double>(done), warmup = static_cast<double>(options.warmup_steps);
  if (at < warmup) return peak * at / warmup;
  if (options.schedule == Schedule::kWsd) {
    return least + (peak - least) * (1 - std::sqrt(part_of_decay(options, done)));
  }
  const double length = static_cast<double>(options.steps) - warmup;
  const double share = length > 0 ? std::min(1.0, (at - warmup) / length) : 1;
  return least + (peak - least) * 0.5 * (1 + std::cos(std::numbers::pi * share));
}

double drop_path_rate(double rate, int64_t block, int64_t depth) {
  return depth > 1 ? rate * static_cast<double>(block) / static_cast<double>(depth - 1) : 0;
}

}  // namespace ltrp
