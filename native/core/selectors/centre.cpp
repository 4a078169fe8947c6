#include "core/engine/prior.h"
#include "core/selectors/selectors.h"

namespace ltrp {

at::Tensor centre_scores(const SelectorInput& input) { return nearness_to_centre(input.grid); }

}  // namespace ltrp
