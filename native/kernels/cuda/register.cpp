// Loading this core is enough: its devices have kernels from then on.
#include "kernels/cuda/backend.h"

namespace ltrp {
namespace {

[[maybe_unused]] const Backend* const before = register_backend(c10::DeviceType::CUDA, &cuda_backend());

}  // namespace
}  // namespace ltrp
