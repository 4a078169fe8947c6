// The rows that `tolerance` keeps, against the rule written down in float64.
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/launchers.h"
#include "test/cuda/device_tensors.h"

namespace ltrp::test {
namespace {

struct Kept {
  std::vector<int32_t> ids;
  std::vector<int32_t> packed_row;
};

struct Options {
  double tolerance = 0;
  int64_t together = 1;
  at::Tensor unread;  // [variants] int32; undefined: none
};

// As the engine does it on the CPU.
Kept expected(const at::Tensor& given, const Options& options) {
  const at::Tensor squares = given.clone();
  const auto slots = static_cast<size_t>(squares.size(1)), together = static_cast<size_t>(options.together);
  Kept kept;
  kept.packed_row.assign(static_cast<size_t>(squares.numel()), -1);
  float* value = squares.mutable_data_ptr<float>();
  for (int64_t variant = 0; variant < squares.size(0); ++variant, value += slots) {
    if (options.unread.defined()) value[options.unread[variant].item<int32_t>()] = 0;
    const double sum = std::accumulate(value, value + slots, 0.0);
    std::vector<std::pair<float, int32_t>> ascending(slots);
    for (size_t i = 0; i < slots; ++i) ascending[i] = {value[i], static_cast<int32_t>(i)};
    size_t first = 0;
    if (std::isfinite(sum)) {
      std::sort(ascending.begin(), ascending.end());
      double allowed = options.tolerance * sum;
      while (first + 1 < slots && ascending[first].first <= allowed) allowed -= ascending[first++].first;
      const size_t more = (together - (slots - first) % together) % together;
      first -= std::min(first, more);
    }
    std::vector<int32_t> rows;
    for (size_t i = first; i < slots; ++i) rows.push_back(ascending[i].second);
    std::sort(rows.begin(), rows.end());
    for (const int32_t slot : rows) {
      const auto id = static_cast<int32_t>(variant * squares.size(1)) + slot;
      kept.packed_row[static_cast<size_t>(id)] = static_cast<int32_t>(kept.ids.size());
      kept.ids.push_back(id);
    }
  }
  return kept;
}

std::vector<int32_t> numbers(const at::Tensor& x) {
  const at::Tensor host = on_host(x).contiguous();
  return {host.const_data_ptr<int32_t>(), host.const_data_ptr<int32_t>() + host.numel()};
}

Kept kept_by_kernel(const at::Tensor& squares, const Options& options) {
  const int64_t variants = squares.size(0), slots = squares.size(1);
  const at::Tensor input = on_device(squares), threshold = room_on_device({variants}, at::kLong),
                   count = room_on_device({variants}, at::kInt),
                   ids = room_on_device({variants * slots}, at::kInt),
                   packed_row = room_on_device({variants * slots}, at::kInt),
                   total = room_on_device({1}, at::kInt);
  args::LargeRows arguments;
  arguments.slots = slots;
  arguments.tolerance = options.tolerance;
  arguments.together = options.together;
  const at::Tensor unread = options.unread.defined() ? on_device(options.unread) : options.unread;
  if (unread.defined()) arguments.unread = unread.const_data_ptr<int32_t>();
  arguments.squares = input.const_data_ptr<float>();
  arguments.threshold = reinterpret_cast<uint64_t*>(threshold.mutable_data_ptr<int64_t>());
  arguments.count = count.mutable_data_ptr<int32_t>();
  arguments.ids = ids.mutable_data_ptr<int32_t>();
  arguments.packed_row = packed_row.mutable_data_ptr<int32_t>();
  arguments.total = total.mutable_data_ptr<int32_t>();
  cuda::launch_large_rows(arguments, variants, nullptr);
  const int64_t kept = on_host(total).item<int32_t>();
  REQUIRE(kept >= variants);
  REQUIRE(kept <= variants * slots);
  CHECK(on_host(count).sum().item<int64_t>() == kept);
  // Nothing is written behind the last id.
  CHECK((on_host(ids).slice(0, kept) == 0x7ffffff7).all().item<bool>());
  return {numbers(ids.slice(0, 0, kept)), numbers(packed_row)};
}

void check(const at::Tensor& squares, const Options& options) {
  CAPTURE(squares.size(1));
  CAPTURE(options.tolerance);
  CAPTURE(options.together);
  const Kept want = expected(squares, options), got = kept_by_kernel(squares, options);
  CHECK(got.ids == want.ids);
  CHECK(got.packed_row == want.packed_row);
}

void check(const at::Tensor& squares, double tolerance) { check(squares, Options{tolerance, 1, {}}); }

TEST_CASE("rows that tolerance keeps: any number of slots, any spread") {
  for (const int64_t slots : {1, 2, 3, 31, 32, 33, 63, 64, 65, 147, 197, 256, 257, 1000, 4096}) {
    const int64_t variants = slots > 300 ? 2 : 5;
    // Squares of normal values, and spread over thirty orders of magnitude.
    const at::Tensor even = normal({variants, slots}, 1).square();
    const at::Tensor spread = (normal({variants, slots}, 2) * 12).exp();
    for (const double tolerance : {0.0, 1e-6, 1e-3, 0.3, 0.999}) {
      check(even, tolerance);
      check(spread, tolerance);
    }
  }
}

TEST_CASE("rows that tolerance keeps: ties, zeros, the largest alone") {
  // Small integers: sums are exact, and so are ties at the boundary.
  const at::Tensor few = at::empty({40, 67}, at::kFloat).random_(0, 3, generator_for(3, 1));
  for (const double tolerance : {0.0, 0.125, 0.25, 0.5, 1.0}) check(few, tolerance);
  check(at::ones({3, 64}), 0.25);
  check(at::ones({3, 64}), 1);
  check(at::zeros({3, 50}), 0);
  check(at::zeros({2, 1}), 1);
  check(at::ones({4, 33}), 1e9);
}

TEST_CASE("rows that tolerance keeps: tiny, large and not finite") {
  const at::Tensor base = normal({3, 50}, 4).square();
  check(base * 1e-38, 1e-2);
  check(base * 1e-44, 1e-2);
  check(base * 1e37, 1e-2);
  at::Tensor broken = base.clone();
  broken[0][7] = std::numeric_limits<float>::quiet_NaN();
  broken[2][49] = std::numeric_limits<float>::infinity();
  check(broken, 0.5);
  CHECK(kept_by_kernel(broken, {0.5, 1, {}}).ids.size() > 100);
  check(base, -1);
  check(base, std::numeric_limits<double>::quiet_NaN());
}

TEST_CASE("rows are kept in groups, and a row that nobody reads counts as zero") {
  for (const int64_t slots : {1, 5, 50, 197}) {
    const at::Tensor squares = normal({6, slots}, 6).square();
    const at::Tensor unread = at::randint(0, slots, {6}, generator_for(7, 1), at::kInt);
    squares[0][unread[0].item<int64_t>()] = std::numeric_limits<float>::quiet_NaN();
    for (const int64_t together :
         {int64_t{1}, int64_t{2}, std::max<int64_t>(1, slots / 12), slots, slots + 3}) {
      for (const double tolerance : {0.0, 1e-3, 0.3, 1.0}) {
        check(squares, Options{tolerance, together, unread});
        check(squares, Options{tolerance, together, {}});
      }
    }
  }
}

TEST_CASE("ids of many variants come in order") { check(normal({300, 9}, 5).square(), 0.1); }

TEST_CASE("ids do not depend on the order of threads") {
  const at::Tensor squares = (normal({5, 197}, 8) * 6).exp();
  check_every_order([&] {
    const Kept got = kept_by_kernel(squares, {1e-3, 16, {}});
    return std::vector<at::Tensor>{at::tensor(got.ids), at::tensor(got.packed_row)};
  });
}

TEST_CASE("the operator keeps the same rows below, at and beyond what the kernel can sort") {
  for (const int64_t slots : {197, 4096, 4097, 5000, 16385}) {
    const int64_t variants = slots > 300 ? 2 : 5;
    const at::Tensor squares = (normal({variants, slots}, 9) * 6).exp();
    const at::Tensor unread = at::randint(0, slots, {variants}, generator_for(10, 1), at::kInt);
    for (const double tolerance : {0.0, 1e-3, 0.3}) {
      for (const bool some_unread : {false, true}) {
        CAPTURE(slots);
        CAPTURE(tolerance);
        const Options options{tolerance, rows_together(slots), some_unread ? unread : at::Tensor()};
        const at::Tensor got = cuda_backend().large_rows(
            on_device(squares), some_unread ? on_device(unread) : at::Tensor(), tolerance);
        CHECK(numbers(got) == expected(squares, options).ids);
      }
    }
  }
}

TEST_CASE("sets that cannot be served are refused") {
  args::LargeRows arguments;
  CHECK_THROWS_AS(cuda::launch_large_rows(arguments, 1, nullptr), std::invalid_argument);
  arguments.slots = args::kMostSorted + 1;
  CHECK_THROWS_AS(cuda::launch_large_rows(arguments, 1, nullptr), std::invalid_argument);
  arguments.slots = 4000;
  arguments.together = 0;
  CHECK_THROWS_AS(cuda::launch_large_rows(arguments, 1, nullptr), std::invalid_argument);
  arguments.together = 1;
  CHECK_THROWS_AS(cuda::launch_large_rows(arguments, 1000000, nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace ltrp::test
