// Products in tiles (kernels/cpu/simd/tiles.h) on a model of the tiles.
#pragma once

#include "kernels/cpu/simd/panels.h"

namespace ltrp::simd::wide {

void model_product(const MatrixProduct& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
                   int64_t panel_end);

// What a processor would have refused since the last call of this, and whether the tiles were given back.
int faults_of_model();
bool model_is_released();

}  // namespace ltrp::simd::wide
