#define DOCTEST_CONFIG_IMPLEMENT
#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <iostream>
#include <string_view>

#include "kernels/simd.h"

// `--levels` prints those of the processor that may be used, weakest first, and runs nothing.
int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == "--levels") {
    for (const ltrp::SimdLevel level : ltrp::available_simd_levels()) {
      if (level <= ltrp::processor_simd_level()) std::cout << ltrp::simd_level_name(level) << '\n';
    }
    return 0;
  }
  // Every precision is tested on every processor: where there are no instructions for one, by emulation.
  ltrp::emulate_precisions(true);
  at::manual_seed(1);  // LibTorch's own generator begins elsewhere in every process
  return doctest::Context(argc, argv).run();
}
