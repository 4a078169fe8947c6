#include <ATen/ATen.h>

#include "kernels/chains.h"
#include "kernels/cpu/simd_dispatch.h"

namespace ltrp {

at::Tensor chained_product(const at::Tensor& left, const at::Tensor& right) {
  if (!left.is_cpu() || left.scalar_type() != at::kFloat) return left.matmul(right);
  const at::Tensor a = left.contiguous(), b = right.contiguous();
  const at::Tensor y = at::empty({a.size(0), b.size(1)}, a.options());
  simd::ChainedProduct product;
  product.terms = a.size(1);
  product.columns = b.size(1);
  product.left = a.const_data_ptr<float>();
  product.right = b.const_data_ptr<float>();
  product.y = y.mutable_data_ptr<float>();
  simd::kernels().chained_product(product, 0, a.size(0));
  return y;
}

}  // namespace ltrp
