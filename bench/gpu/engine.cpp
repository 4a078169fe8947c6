// The engine on the GPU: filled in when it computes there.
#include "sections.h"

namespace ltrp::bench::gpu {

Json measure_engine(const Settings&) { return "not yet run: the engine does not compute on a GPU"; }

}  // namespace ltrp::bench::gpu
