// The few Python calls a checkpoint's pickle may ask for, rebuilt as data.
#pragma once

#include <string>
#include <vector>

#include "core/checkpoint/pickle.h"

namespace ltrp {

// What calling `name` with `arguments` stands for: an OrderedDict, a tensor view, a parameter; anything else
// is a PickleOpaque and is not looked into. Error(kCheckpointFormat) when the arguments of a known call are
// malformed.
PickleValue build_object(const std::string& name, const std::vector<PickleRef>& arguments,
                         const std::string& source);

// ('storage', torch.FloatStorage, key, location, elements), the only persistent id that PyTorch writes.
PickleValue build_storage(const PickleValue& persistent_id, const std::string& source);

}  // namespace ltrp
