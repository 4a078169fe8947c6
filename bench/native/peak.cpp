// `peak`: what LibTorch's matrix products reach on this machine at this moment; `bandwidth`: what its memory
// does.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <array>
#include <cstring>
#include <vector>

#include "library_linear.h"
#include "session.h"
#include "timing.h"

namespace ltrp::bench {

namespace {

using Shape = std::array<int64_t, 3>;  // rows, inputs, outputs

// Two squarish products in which the library is at its best, then the linear maps of the published decoder on
// the rows of 20 variants: qkv, proj, fc1, fc2.
constexpr std::array<Shape, 6> kShapes{{{2048, 2048, 2048},
                                        {4096, 1024, 1024},
                                        {3920, 512, 1536},
                                        {3920, 512, 512},
                                        {3920, 512, 2048},
                                        {3920, 2048, 512}}};

std::vector<Shape> shapes_of(const Json& request) {
  const auto asked = request.find("shapes");
  if (asked == request.end()) return {kShapes.begin(), kShapes.end()};
  std::vector<Shape> shapes = asked->get<std::vector<Shape>>();
  for (const Shape& shape : shapes) {
    for (const int64_t size : shape) {
      if (size < 1 || size > 65536)
        throw Error(codes::kInvalidArgument, "'shapes' are [M, K, N], each from 1 to 65536.");
    }
  }
  return shapes;
}

// Error(kInternal) where our own product is wrong. Another library's is no peak then: without VNNI oneDNN's
// int8 sums saturate.
bool agrees(const LibraryLinear& linear) {
  const at::Tensor rows = linear.product().slice(0, 0, linear.expected.size(0)).to(at::kDouble);
  const double error = ((rows - linear.expected).abs().max() / linear.expected.abs().max()).item<double>();
  if (error <= linear.tolerance) return true;
  if (linear.library != kOurs) return false;
  throw Error(codes::kInternal,
              "Our matrix product is wrong by " + std::to_string(error) + " of its largest value.");
}

}  // namespace

Json peak(Session&, const Json& request) {
  const at::NoGradGuard no_grad;
  const std::string precision = request.at("precision");
  const std::vector<Shape> shapes = shapes_of(request);
  const double seconds = number(request, "seconds", 1.0, 0.01, 600.0);
  Json all = Json::array();
  Json best;
  for (const Shape& shape : shapes) {
    const auto [rows, inputs, outputs] = shape;
    const std::vector<LibraryLinear> linears = library_linears(precision, rows, inputs, outputs);
    for (const LibraryLinear& linear : linears) {
      if (!agrees(linear)) continue;
      const double budget = seconds / static_cast<double>(shapes.size() * linears.size());
      const double taken = best_seconds(linear.product, budget);
      const double flops = 2.0 * static_cast<double>(rows * inputs) * static_cast<double>(outputs);
      Json entry{
          {"how", linear.library}, {"shape", {rows, outputs, inputs}}, {"gflops", flops / taken / 1e9}};
      if (best.is_null() || entry["gflops"] > best["gflops"]) best = entry;
      all.push_back(std::move(entry));
    }
  }
  if (best.is_null()) {
    throw Error(codes::kUnsupported, "This LibTorch has no " + precision + " matrix product for this CPU.");
  }
  best["all"] = std::move(all);
  best["threads"] = at::get_num_threads();
  return best;
}

Json bandwidth(Session&, const Json& request) {
  const double seconds = number(request, "seconds", 1.0, 0.01, 600.0);
  // Well beyond any last-level cache that two cores share.
  constexpr int64_t kBytes = int64_t{256} << 20;
  std::vector<char> from(kBytes, 1), to(kBytes, 2);
  const auto copy = [&](int threads) {
    const int64_t piece = (kBytes + threads - 1) / threads;
    at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * piece, last = std::min(kBytes, end * piece);
      std::memcpy(to.data() + first, from.data() + first, static_cast<size_t>(last - first));
    });
  };
  const auto rate = [&](int threads) {
    return 2.0 * kBytes / best_seconds([&] { copy(threads); }, seconds / 2) / 1e9;
  };
  const double one = rate(1), all = rate(at::get_num_threads());
  return {{"gbPerSecond", all},
          {"gbPerSecondOneThread", one},
          {"threads", at::get_num_threads()},
          {"how", "memcpy of 256 MiB"}};
}

}  // namespace ltrp::bench
