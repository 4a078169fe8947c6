// One level's kernels, collected.
#include "kernels/cpu/simd/attention.h"
#include "kernels/cpu/simd/chains.h"
#include "kernels/cpu/simd/product.h"
#include "kernels/cpu/simd/rows.h"
#include "kernels/cpu/simd/similarity.h"
#include "kernels/cpu/simd/table.h"
#include "kernels/cpu/simd/training.h"

#define LTRP_TEXT_OF(name) #name
#define LTRP_TEXT(name) LTRP_TEXT_OF(name)

namespace ltrp::simd::LTRP_SIMD_LEVEL {

static const TrainingKernels training = {
    .panel_outputs = kTrainingPanel,
    .product = panel_product,
    .pack = pack_panels,
    .round_panels = round_panels,
    .round_rows = round_rows_of,
    .round_columns = round_columns,
    .layer_norm_forward = layer_norm_forward,
    .layer_norm_backward = layer_norm_backward,
    .layer_norm_panels = layer_norm_panels,
    .gelu_forward = gelu_forward,
    .gelu_backward = gelu_backward,
    .add_column_sums = add_column_sums,
    .head_workspace = head_workspace,
    .head_forward = head_forward,
    .head_backward = head_backward,
};

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
                           similarity_workspace,
                           similarity,
                           kPanelOutputs,
                           product,
                           chained_product,
                           &training};

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
