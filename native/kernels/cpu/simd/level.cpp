// One level's kernels, collected.
#include "kernels/cpu/simd/attention.h"
#include "kernels/cpu/simd/product.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/cpu/simd/table.h"

#define LTRP_TEXT_OF(name) #name
#define LTRP_TEXT(name) LTRP_TEXT_OF(name)

namespace ltrp::simd::LTRP_SIMD_LEVEL {

extern const KernelTable table;
const KernelTable table = {LTRP_TEXT(LTRP_SIMD_LEVEL),
                           layer_norm_difference,
                           gelu_difference,
                           round_rows,
                           add_rows,
                           row_sums,
                           split_heads,
                           layer_norm,
                           add_layer_norm,
                           gelu_rows,
                           patch_rows,
                           attention_workspace,
                           attention,
                           removal_attention,
#if LTRP_SIMD_BYTES == 64
                           product};
#else
                           nullptr};
#endif

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
