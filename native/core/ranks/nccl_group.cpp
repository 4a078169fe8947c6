// Compiled where the CUDA build finds nccl.h. Never run: no machine with two GPUs has been there.
#if defined(LTRP_NCCL)
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#else
#include <torch/csrc/distributed/c10d/Backend.hpp>
#endif

#include "core/error.h"
#include "core/ranks/groups.h"

namespace ltrp {

#if defined(LTRP_NCCL)
c10::intrusive_ptr<c10d::Backend> nccl_group(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                             std::chrono::milliseconds timeout) {
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = timeout;
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
}
#else
c10::intrusive_ptr<c10d::Backend> nccl_group(const c10::intrusive_ptr<c10d::Store>&, int, int,
                                             std::chrono::milliseconds) {
  throw Error(codes::kUnsupported,
              "This core was built without NCCL: several ranks train on CPUs (--device cpu).");
}
#endif

}  // namespace ltrp
