// LibTorch's process groups, one file each: their headers need names of libraries that nothing else may see.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <string>

namespace c10d {
class Backend;
class Store;
}  // namespace c10d

namespace ltrp {

// Of tensors on the CPU, through the interface that has `address`.
c10::intrusive_ptr<c10d::Backend> gloo_group(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                             const std::string& address, std::chrono::milliseconds timeout);
// Of tensors on GPUs. Error(kUnsupported) where LibTorch or this build has none.
c10::intrusive_ptr<c10d::Backend> nccl_group(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                             std::chrono::milliseconds timeout);

}  // namespace ltrp
