// The geometry of a model, read off its tensors and completed by what is known beside them.
#pragma once

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/names.h"
#include "core/checkpoint/state_dict.h"

namespace ltrp {

// For checkpoints without our own header. Sizes that several tensors share are decided by the majority, so
// that one misshapen tensor is found and named later instead of bending the geometry. The result is
// validated. Error(kCheckpointContent), or Error(kInvalidArgument) for an override that does not fit.
MaeConfig infer_mae_config(const StoredCheckpoint& checkpoint, const ModelNames& names,
                           const CheckpointOverrides& overrides);
RankerConfig infer_ranker_config(const StoredCheckpoint& checkpoint, const ModelNames& names,
                                 const CheckpointOverrides& overrides);

}  // namespace ltrp
