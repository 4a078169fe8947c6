// The kernels of one level for training; what they compute stands in kernels/training.h.
#pragma once

#include "kernels/training.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {

// Outputs in a panel: two vectors.
constexpr int64_t kTrainingPanel = LTRP_SIMD_BYTES / 2;

void panel_product(const PanelProduct& product);
void pack_panels(const Panels& panels);
void round_panels(const float* panels, int64_t inputs, int64_t outputs, uint16_t* rounded);
void round_rows_of(const float* x, int64_t rows, int64_t width, uint16_t* rounded);
void round_columns(const float* x, int64_t rows, int64_t width, uint16_t* rounded);
void layer_norm_forward(const LayerNormForward& args);
void layer_norm_backward(const LayerNormBackward& args);
void layer_norm_panels(const LayerNormPanels& args);
void gelu_forward(const float* u, float* y, int64_t count);
void gelu_backward(const GeluBackward& args);
void add_column_sums(const float* x, int64_t rows, int64_t width, float* sums);
int64_t head_workspace(int64_t keys, int64_t head_dim);
void head_forward(const HeadForward& args);
void head_backward(const HeadBackward& args);

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
