#include "report.h"

#include <algorithm>
#include <cstdio>
#include <map>

namespace ltrp::bench::gpu {
namespace {

std::string number(double value, const char* format = "%.3g") {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

std::string shape_text(const Json& shape) {
  std::string text;
  for (const Json& size : shape) text += (text.empty() ? "" : " x ") + std::to_string(size.get<int64_t>());
  return text;
}

std::string engine_table(const Json& teacher) {
  std::string text =
      "\n### " + teacher["teacher"].get<std::string>() + ", " +
      std::to_string(teacher["patches"].get<int64_t>()) + " patches, " +
      std::to_string(teacher["visible"].get<int64_t>()) + " visible\n" +
      "| contender | precision | images/s | against the loop in float32 | error against float64 | "
      "Kendall tau |\n| --- | --- | --: | --: | --: | --: |\n";
  const double loop = teacher["contenders"][0].value("imagesPerSecond", 0.0);
  for (const Json& item : teacher["contenders"]) {
    text +=
        "| " + item["contender"].get<std::string>() + " | " + item["precision"].get<std::string>() + " | ";
    if (item.contains("failed")) {
      text += "failed: " + item["failed"].get<std::string>() + " | | | |\n";
      continue;
    }
    const double speed = item.value("imagesPerSecond", 0.0);
    text += number(speed) + " | " + (loop > 0 ? number(speed / loop) + "x" : "-") + " | " +
            (item.contains("error") ? number(item["error"].get<double>(), "%.1e") : "-") + " | " +
            (item.contains("kendallTau") ? number(item["kendallTau"].get<double>(), "%.3f") : "-") + " |\n";
  }
  return text;
}

}  // namespace

std::string to_markdown(const Json& report) {
  const Json& machine = report["machine"];
  std::string text = "# " + machine["gpu"].get<std::string>() + "\n\n";
  text += "Written by `bench/gpu.sh`. Compute capability " + machine["computeCapability"].get<std::string>() +
          ", " + number(static_cast<double>(machine["memoryBytes"].get<int64_t>()) / (1 << 30), "%.1f") +
          " GiB, LibTorch " + machine["libtorch"].get<std::string>() + ".\n";
  if (report.contains("tests")) {
    text += "\n## Tests\n| what | outcome |\n| --- | --- |\n";
    for (const auto& [name, outcome] : report["tests"].items())
      text += "| " + name + " | " + outcome.get<std::string>() + " |\n";
  }
  text += "\n## Copying\nDevice to device: " + number(report["copy"]["gbps"].get<double>(), "%.0f") +
          " GB/s read and written.\n";
  text +=
      "\n## LibTorch's products\n| precision | M x K x N | ms | TFLOP/s | of the best |\n| --- | --- | --: | "
      "--: | --: |\n";
  std::map<std::string, double> best;
  for (const Json& item : report["products"]) {
    double& most = best[item["precision"].get<std::string>()];
    most = std::max(most, item.value("tflops", 0.0));
  }
  for (const Json& item : report["products"]) {
    const std::string precision = item["precision"].get<std::string>();
    text += "| " + precision + " | " + shape_text(item["shape"]) + " | ";
    if (item.contains("unavailable")) {
      text += "- | - | " + item["unavailable"].get<std::string>() + " |\n";
      continue;
    }
    const double tflops = item["tflops"].get<double>();
    text += number(item["ms"].get<double>()) + " | " + number(tflops) + " | " +
            number(100 * tflops / best[precision], "%.0f") + "% |\n";
  }
  text +=
      "\n## Our kernels\nBytes and FLOPs are the least that the formula takes; the share is that of the "
      "copying above.\n\n";
  text +=
      "| kernel | output | size | ms | GB/s | of copying | TFLOP/s |\n| --- | --- | --- | --: | --: | --: | "
      "--: |\n";
  for (const Json& item : report["kernels"]) {
    text += "| " + item["name"].get<std::string>() + " | " + item["precision"].get<std::string>() + " | " +
            shape_text(item["shape"]) + " | ";
    if (item.contains("failed")) {
      text += "failed: " + item["failed"].get<std::string>() + " | | | |\n";
      continue;
    }
    text += number(item["ms"].get<double>()) + " | " + number(item["gbps"].get<double>(), "%.0f") + " | " +
            number(100 * item["copyShare"].get<double>(), "%.0f") + "% | " +
            number(item["tflops"].get<double>()) + " |\n";
  }
  text += "\n## Engine\n";
  const Json& engine = report["engine"];
  for (const Json& teacher : engine) text += engine_table(teacher);
  return text;
}

}  // namespace ltrp::bench::gpu
