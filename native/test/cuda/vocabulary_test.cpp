// What the compilers cannot refuse in a .cu file: shared memory that the emulation would not see.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <string>

namespace ltrp::test {
namespace {

// Whether the line declares shared memory other than as Shared<T, N>.
bool unseen_shared(const std::string& line) {
  static const std::regex comment("//.*"), any("__shared__"), seen(R"(__shared__\s+Shared<)");
  const std::string code = std::regex_replace(line, comment, "");
  return std::regex_search(code, any) && !std::regex_search(code, seen);
}

TEST_CASE("kernels declare shared memory so that the emulation sees it") {
  CHECK(unseen_shared("  __shared__ float partial[32];"));
  CHECK(unseen_shared("extern __shared__ char bytes[];"));
  CHECK(!unseen_shared("  __shared__ Shared<float, 32> partial;  // not __shared__ float"));
  for (const auto& entry : std::filesystem::directory_iterator(LTRP_SOURCE_DIR "/native/kernels/cuda")) {
    const std::string name = entry.path().filename().string();
    if (name == "device.h") continue;  // the one that defines Shared and DynamicShared
    CAPTURE(name);
    std::ifstream file(entry.path());
    int number = 0;
    for (std::string line; std::getline(file, line);) {
      ++number;
      CAPTURE(number);
      CHECK(!unseen_shared(line));
    }
  }
}

}  // namespace
}  // namespace ltrp::test
