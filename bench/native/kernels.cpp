// `kernels`: every case agrees with plain LibTorch first, then both are timed in turn.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <climits>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "kernel_cases.h"
#include "kernels/simd.h"
#include "session.h"
#include "timing.h"

namespace ltrp::bench {

namespace {

double disagreement(const KernelCase& kernel) {
  const std::vector<at::Tensor> ours = kernel.ours(), plain = kernel.plain();
  if (ours.size() != plain.size())
    throw Error(codes::kInternal, kernel.name + " returns another number of results.");
  double worst = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    if (ours[i].sizes() != plain[i].sizes())
      throw Error(codes::kInternal, kernel.name + " returns another shape.");
    const at::Tensor expected = plain[i].to(at::kDouble);
    const double scale = std::max(expected.abs().max().item<double>(), 1e-300);
    worst = std::max(worst, (ours[i].to(at::kDouble) - expected).abs().max().item<double>() / scale);
  }
  return worst;
}

Json measure(const KernelCase& kernel, double seconds) {
  const double error = disagreement(kernel);
  if (!(error <= kernel.tolerance)) {
    throw Error(codes::kInternal, kernel.name + " differs from plain LibTorch by " + Json(error).dump() +
                                      " of the largest value.");
  }
  std::vector<double> ours, plain;
  const Clock::time_point begin = Clock::now();
  while (ours.size() < 5 || seconds_since(begin) < seconds) {
    ours.push_back(seconds_of(kernel.ours));
    plain.push_back(seconds_of(kernel.plain));
  }
  return {{"name", kernel.name},
          {"precision", kernel.precision},
          {"shape", kernel.shape},
          {"oursMs", median(ours) * 1e3},
          {"plainMs", median(plain) * 1e3},
          {"oursBytes", kernel.ours_bytes},
          {"plainBytes", kernel.plain_bytes},
          {"flops", kernel.flops},
          {"runs", ours.size()},
          {"disagreement", error}};
}

// glibc gives large results back to the system, and fresh pages would cost more than the kernels do.
void keep_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
#endif
}

// The vector kernels' instruction set for the lifetime of the object.
class ChosenLevel {
 public:
  explicit ChosenLevel(const std::string& name) : before_(simd_level()) {
    for (const SimdLevel level : available_simd_levels()) {
      if (simd_level_name(level) != name) continue;
      set_simd_level(level);
      return;
    }
    throw Error(codes::kUnsupported, "This CPU has no kernels of level '" + name + "'.");
  }
  ~ChosenLevel() { set_simd_level(before_); }
  ChosenLevel(const ChosenLevel&) = delete;
  ChosenLevel& operator=(const ChosenLevel&) = delete;

 private:
  SimdLevel before_;
};

}  // namespace

Json kernels(Session&, const Json& request) {
  const at::NoGradGuard no_grad;
  const double seconds = number(request, "seconds", 2.0, 0.01, 600.0);
  const ChosenLevel level(request.value("simd", std::string(simd_level_name(simd_level()))));
  keep_memory();
  Json all = Json::array();
  const std::vector<KernelCaseMaker> cases = kernel_cases();
  for (const KernelCaseMaker& make : cases) {
    all.push_back(measure(make(), seconds / static_cast<double>(cases.size())));
  }
  return {{"kernels", std::move(all)}, {"simd", simd_level_name(simd_level())}};
}

}  // namespace ltrp::bench
