// The geometry of a model, read off its tensors and completed by what is known beside them.
#pragma once

#include "core/checkpoint/any_config.h"
#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/names.h"
#include "core/checkpoint/state_dict.h"

namespace ltrp {

// For checkpoints without our own header. Sizes that several tensors share are decided by the majority, so
// that one misshapen tensor is found and named later instead of bending the geometry. What had to be assumed
// is added to the checkpoint's notes. The result is validated. Error(kCheckpointContent), Error(kUnsupported)
// for settings that no model here has, or Error(kInvalidArgument) for an override that does not fit.
void infer_config(StoredCheckpoint& checkpoint, const Naming& naming, const CheckpointOverrides& overrides,
                  AnyConfig& config);

}  // namespace ltrp
