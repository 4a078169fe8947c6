// Training options in the header of a training checkpoint.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "core/training/trainer.h"

namespace ltrp {

nlohmann::json to_json(const PretrainOptions& options);
nlohmann::json to_json(const RankerTrainingOptions& options);
// Error(kCheckpointContent) naming a missing or mistyped field.
PretrainOptions pretrain_options_from_json(const nlohmann::json& json);
RankerTrainingOptions ranker_options_from_json(const nlohmann::json& json);

}  // namespace ltrp
