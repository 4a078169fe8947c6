// `hello`: number of threads, versions, instruction sets.
#include <ATen/Config.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/cpu/Utils.h>
#include <torch/version.h>

#include <algorithm>

#include "machine.h"
#include "session.h"

namespace ltrp::bench {

std::vector<std::string> features() {
  const auto capabilities = at::cpu::get_cpu_capabilities();
  std::vector<std::string> found;
  for (const char* name : {"avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16",
                           "amx_int8", "neon", "bf16", "i8mm", "sve", "sve2"}) {
    const auto capability = capabilities.find(name);
    if (capability != capabilities.end() && capability->second.isBool() && capability->second.toBool()) {
      found.emplace_back(name);
    }
  }
  return found;
}

bool has_feature(const std::string& name) {
  const std::vector<std::string> all = features();
  return std::find(all.begin(), all.end(), name) != all.end();
}

Json hello(Session&, const Json& request) {
  at::set_num_threads(static_cast<int>(integer(request, "threads", at::get_num_threads(), 1, 1024)));
  return {
      {"name", "libtorch"},
      {"versions",
       {{"libtorch", TORCH_VERSION}, {"mkl", at::get_mkl_version()}, {"onednn", at::get_mkldnn_version()}}},
      {"features", features()},
      {"cpuCapability", at::get_cpu_capability()},
      {"threads", at::get_num_threads()}};
}

}  // namespace ltrp::bench
