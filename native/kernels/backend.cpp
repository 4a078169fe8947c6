#include "kernels/backend.h"

#include <c10/util/Exception.h>

#include <array>
#include <atomic>

#include "kernels/cpu/backend.h"

namespace ltrp {

namespace {

using Slot = std::atomic<const Backend*>;

Slot& slot_of(c10::DeviceType device) {
  static std::array<Slot, c10::COMPILE_TIME_MAX_DEVICE_TYPES> slots = {};
  return slots.at(static_cast<size_t>(device));
}

}  // namespace

const Backend& backend_of(c10::DeviceType device) {
  const Backend* backend = slot_of(device);
  if (backend == nullptr && device == c10::DeviceType::CPU) return cpu_backend();
  TORCH_CHECK(backend != nullptr, "this build of ltrp has no kernels for devices of type ",
              c10::DeviceTypeName(device, true));
  return *backend;
}

const Backend* register_backend(c10::DeviceType device, const Backend* backend) {
  return slot_of(device).exchange(backend);
}

}  // namespace ltrp
