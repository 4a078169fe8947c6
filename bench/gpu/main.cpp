// ltrp_gpu_bench [--small] [--seconds S] [--render FILE] [--tests FILE] [--json FILE] [--markdown FILE]
//
// Times products, copying, kernels and the engine on this machine's first GPU. --small runs everything once
// at small sizes and writes nothing: for compute-sanitizer. --tests: lines "name: outcome" for the report.
// --render: nothing is measured, an earlier run's JSON is written anew.
#include <ATen/core/grad_mode.h>
#include <torch/headeronly/version.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/cuda/devices.h"
#include "report.h"
#include "sections.h"

namespace ltrp::bench::gpu {

Json describe_machine() {
  const cuda::DriverAnswer answer = cuda::ask_driver();
  if (answer.gpus.empty()) throw std::runtime_error("There is no GPU: " + answer.error_text);
  const cuda::Gpu& gpu = answer.gpus.front();
  return {{"gpu", gpu.model},
          {"computeCapability", std::to_string(gpu.major) + "." + std::to_string(gpu.minor)},
          {"memoryBytes", gpu.memory},
          {"driverCuda", answer.driver_version},
          {"compiledCuda", answer.runtime_version},
          {"libtorch", TORCH_VERSION},
          {"architectures", std::string(LTRP_CUDA_REAL)},
          {"ptx", std::string(LTRP_CUDA_PTX)}};
}

namespace {

Json read_tests(const std::string& file) {
  Json tests = Json::object();
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) tests[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return tests;
}

void write(const std::string& file, const std::string& text) {
  std::ofstream stream(file);
  stream << text;
  if (!stream.flush()) throw std::runtime_error(file + " cannot be written.");
}

int run(const std::vector<std::string>& arguments) {
  Settings settings;
  std::string json, markdown, tests, render;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& name = arguments[i];
    if (name == "--small") {
      settings.small = true;
      continue;
    }
    if (i + 1 == arguments.size()) throw std::runtime_error(name + " takes a value, or is unknown.");
    const std::string& value = arguments[++i];
    if (name == "--seconds") {
      settings.seconds = std::atof(value.c_str());
    } else if (name == "--json") {
      json = value;
    } else if (name == "--markdown") {
      markdown = value;
    } else if (name == "--render") {
      render = value;
    } else if (name == "--tests") {
      tests = value;
    } else {
      throw std::runtime_error("There is no option " + name + ".");
    }
  }
  Json report;
  if (render.empty()) {
    report["machine"] = describe_machine();
    report["copy"] = measure_copy(settings);
    report["products"] = measure_products(settings);
    report["kernels"] = measure_kernels(settings, report["copy"]["gbps"].get<double>());
    report["engine"] = measure_engine(settings);
  } else {
    std::ifstream stream(render);
    report = Json::parse(stream);
  }
  if (!tests.empty()) report["tests"] = read_tests(tests);
  bool failed = false;
  for (const Json& kernel : report["kernels"]) {
    if (!kernel.contains("failed")) continue;
    failed = true;
    std::cerr << kernel["name"].get<std::string>() << ": " << kernel["failed"].get<std::string>() << "\n";
  }
  if (!settings.small) {
    if (!json.empty()) write(json, report.dump(2) + "\n");
    if (!markdown.empty()) write(markdown, to_markdown(report));
    if (json.empty() && markdown.empty()) std::cout << to_markdown(report);
  }
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace ltrp::bench::gpu

int main(int count, char** values) {
  const at::NoGradGuard no_grad;
  try {
    return ltrp::bench::gpu::run({values + 1, values + count});
  } catch (const std::exception& error) {
    const std::string text = error.what();
    std::cerr << text.substr(0, text.find('\n')) << "\n";
    return 1;
  }
}
