// Memory of tensors, kept from one to the next. Else the C library gives large blocks back to the system,
// which clears every page anew when the next operator asks.
#pragma once

namespace ltrp::cpu {

// From now on LibTorch's tensors on the CPU take memory that earlier ones have left, up to 512 MiB of it. For
// the whole process; call it before other threads compute. AddressSanitizer's builds ignore it: kept memory
// would hide mistakes.
void keep_tensor_memory();

// Gives the system the memory that no tensor uses.
void release_tensor_memory();

}  // namespace ltrp::cpu
