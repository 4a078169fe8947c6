#include "core/weights/tensors.h"

namespace ltrp {

void TensorVisitor::transformer(const std::string& prefix, TransformerConfig& c) {
  for (int64_t i = 0; i < c.depth; ++i) {
    const std::string block = prefix + std::to_string(i) + ".";
    layer(block + "norm1", {&c.dim});
    layer(block + "norm2", {&c.dim});
    layer(block + "attn.qkv", {{&c.dim, 3}, &c.dim});
    layer(block + "attn.proj", {&c.dim, &c.dim});
    layer(block + "mlp.fc1", {&c.mlp_dim, &c.dim});
    layer(block + "mlp.fc2", {&c.dim, &c.mlp_dim});
  }
}

}  // namespace ltrp
