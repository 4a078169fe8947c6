// The stream that a kernel is queued on. The type is CUDA's cudaStream_t, named here without CUDA's headers,
// so that host code can pass streams along without them. nullptr is the default stream.
#pragma once

struct CUstream_st;

namespace ltrp::cuda {

using Stream = CUstream_st*;

}  // namespace ltrp::cuda
