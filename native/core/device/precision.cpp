#include "core/device/precision.h"

#include "kernels/linear.h"

namespace ltrp {

Precision effective_precision(Precision wanted, c10::Device device) {
  while (!has_fast_products(wanted, device.type()) && wanted != traits_of(wanted).next)
    wanted = traits_of(wanted).next;
  return wanted;
}

}  // namespace ltrp
