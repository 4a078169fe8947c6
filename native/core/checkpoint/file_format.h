// What a file is, by its first bytes and never by its name.
#pragma once

#include <string>

#include "core/checkpoint/file_io.h"

namespace ltrp {

enum class FileFormat { kSafetensors, kZip };

// Safetensors and zip archives (what torch.save writes) can be read on. Anything else is
// Error(kCheckpointFormat) that says what was found and what helps: older formats of PyTorch, other
// frameworks' files, pointers of Git LFS, web pages, compressed, empty and cut files.
FileFormat checkpoint_format(const InputFile& file);

}  // namespace ltrp
