// For tests of kernels that the emulation must refuse.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "test/emulation/machine.h"

namespace ltrp::test {

// The message of the emulation::Failure that `body` throws; empty without one.
inline std::string failure(const std::function<void()>& body) {
  try {
    body();
  } catch (const emulation::Failure& e) {
    return e.what();
  }
  return "";
}

// CHECKs that the message has every part.
inline void check_names(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    CAPTURE(message);
    CAPTURE(part);
    CHECK(message.find(part) != std::string::npos);
  }
}

}  // namespace ltrp::test
