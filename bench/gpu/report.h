// The report for people.
#pragma once

#include <string>

#include "sections.h"

namespace ltrp::bench::gpu {

std::string to_markdown(const Json& report);

}  // namespace ltrp::bench::gpu
