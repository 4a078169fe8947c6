// Published geometries by name.
#pragma once

#include <nlohmann/json.hpp>

#include "core/model/mae.h"
#include "core/model/ranker.h"

namespace ltrp::bench {

// {geometry: "vit_b" | "vit_l" | "vit_h14" | "tiny", height, width (pixels, optional)}.
// Error(kInvalidArgument) for another name.
MaeConfig mae_geometry(const nlohmann::json& description);

// {geometry: "vit_s" | "vit_ti" | "tiny", head: "cls" | "token" (default "cls", the paper's), height, width}.
RankerConfig ranker_geometry(const nlohmann::json& description);

}  // namespace ltrp::bench
