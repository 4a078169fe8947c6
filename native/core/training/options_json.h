// Training options as JSON: what JavaScript gives and gets, and the header of a training checkpoint.
// FinetuneOptions, PretrainOptions and RankerTrainingOptions only; ScoreStoreOptions can be read.
#pragma once

#include <string>

#include "core/training/options.h"

namespace ltrp {

// All options, the model among them.
template <typename Options>
std::string to_json(const Options& options);

// Of a new run: all but the model, which `options` has already. Error(kInvalidArgument) naming the option
// that is missing or of another type.
template <typename Options>
void read_options(const std::string& json, Options& options);

// What a resumed run does in another way. Error(kInvalidArgument) naming the option, also one that must stay.
template <typename Options>
void change_options(const std::string& json, Options& options);

// The inverse of to_json(). Error(kCheckpointContent).
template <typename Options>
Options options_of_checkpoint(const std::string& json);

}  // namespace ltrp
