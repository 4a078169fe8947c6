#include "core/ranks/ranks.h"

#include <ATen/ATen.h>

#include <condition_variable>
#include <mutex>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <unordered_map>

#include "core/check.h"
#include "core/ranks/groups.h"
#include "core/ranks/watch.h"

namespace ltrp {

namespace {

using namespace std::chrono_literals;

// That a rank is gone is seen by its heartbeats; this is for one that beats and does not come.
constexpr auto kCollectiveTimeout = 30min;

// This rank's address for the others. A loopback one is of use on this machine alone.
std::string usable_address(const std::vector<Beat>& beats, size_t rank) {
  const std::string& own = beats[rank].address;
  bool one_place = true;
  for (const Beat& beat : beats) one_place = one_place && beat.place == beats[rank].place;
  if (one_place || !is_loopback(own)) return own;
  // MASTER_ADDR is a name of this machine that stands for its loopback here: the way to another rank it is.
  for (const Beat& beat : beats) {
    if (is_loopback(beat.address)) continue;
    const std::string address = address_towards(beat.address);
    if (!is_loopback(address)) return address;
  }
  throw Error(codes::kRendezvous,
              "The ranks are on several machines, and MASTER_ADDR leads rank " + std::to_string(rank) +
                  " to the loopback address " + own +
                  ", where no other machine can reach it. Set MASTER_ADDR to an address of the network.");
}

}  // namespace

struct Ranks::Groups {
  Store server;  // where this process hosts the store
  c10::intrusive_ptr<c10d::Backend> gloo, nccl;

  c10d::Backend& of(const at::Tensor& tensor) const { return tensor.is_cuda() ? *nccl : *gloo; }
};

std::shared_ptr<Ranks> Ranks::join(const RanksOptions& options, const RunContext& context) {
  try {
    check_in(closed(2, 1 << 20), "size", static_cast<double>(options.size));
    check_in(half_open(0, static_cast<double>(options.size)), "rank", static_cast<double>(options.rank));
    check_in(closed(1, 65535), "port", static_cast<double>(options.port));
    check_in(closed(1, 86400), "timeout", options.timeout);
    const auto deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                             std::chrono::duration<double>(options.join_timeout));
    auto groups = std::make_unique<Groups>();
    if (options.hosts_store) groups->server = host_store(options.host, options.port);
    std::string address;
    Store store = connect_store(options, deadline, context, address);
    Store of_groups = connect_store(options, deadline, context, address);
    of_groups->setTimeout(kCollectiveTimeout);
    const bool leads = options.rank == 0;
    const std::string start = leads ? new_start() : living_start(*of_groups, options, deadline, context);
    auto watch = std::make_shared<Watch>(options, std::move(store), start, address);
    if (leads) of_groups->set(kStartKey, std::vector<uint8_t>(start.begin(), start.end()));
    const std::vector<Beat> beats = watch->everyone(deadline, context);
    const int rank = static_cast<int>(options.rank), size = static_cast<int>(options.size);
    const auto prefixed = [&](const char* name) {
      return c10::make_intrusive<c10d::PrefixStore>(start + "/" + name, of_groups);
    };
    const std::string own = usable_address(beats, static_cast<size_t>(rank));
    try {
      groups->gloo = gloo_group(prefixed("gloo"), rank, size, own, kCollectiveTimeout);
      if (!options.device.is_cpu())
        groups->nccl = nccl_group(prefixed("nccl"), rank, size, kCollectiveTimeout);
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      watch->lost(error.what());
    }
    return std::shared_ptr<Ranks>(new Ranks(options, std::move(watch), std::move(groups)));
  } catch (const Error& error) {
    if (std::string(error.code()) == codes::kRendezvous) write_error_file(options.error_file, error.what());
    throw;
  }
}

Ranks::Ranks(const RanksOptions& options, std::shared_ptr<Watch> watch, std::unique_ptr<Groups> groups)
    : options_(options), watch_(std::move(watch)), groups_(std::move(groups)) {}

Ranks::~Ranks() = default;

namespace {

// Until `work` is done; for ever where it failed.
void await(const c10::intrusive_ptr<c10d::Work>& work, Watch& watch) {
  try {
    work->wait();
  } catch (const std::exception& error) {
    watch.lost(error.what());
  }
}

}  // namespace

std::function<void()> Ranks::start_sum(const at::Tensor& tensor) {
  std::vector<at::Tensor> tensors{tensor};
  try {
    return [work = groups_->of(tensor).allreduce(tensors), this] { await(work, *watch_); };
  } catch (const std::exception& error) {
    watch_->lost(error.what());
  }
}

void Ranks::sum(const at::Tensor& tensor) { start_sum(tensor)(); }

void Ranks::broadcast(const at::Tensor& tensor) {
  std::vector<at::Tensor> tensors{tensor};
  try {
    await(groups_->gloo->broadcast(tensors), *watch_);
  } catch (const std::exception& error) {
    watch_->lost(error.what());
  }
}

std::vector<at::Tensor> Ranks::gather(const at::Tensor& rows) {
  const int64_t own = rows.size(0);
  at::Tensor counts = at::zeros({size()}, at::kLong);
  counts[rank()] = own;
  sum(counts);
  const int64_t most = counts.max().item<int64_t>();
  std::vector<int64_t> shape = rows.sizes().vec();
  shape[0] = most;
  at::Tensor filled = at::zeros(shape, rows.options());
  filled.narrow(0, 0, own).copy_(rows);
  std::vector<std::vector<at::Tensor>> gathered(1);
  for (int64_t i = 0; i < size(); ++i) gathered[0].push_back(at::empty(shape, rows.options()));
  if (most > 0) {
    std::vector<at::Tensor> inputs{filled};
    try {
      await(groups_->gloo->allgather(gathered, inputs), *watch_);
    } catch (const std::exception& error) {
      watch_->lost(error.what());
    }
  }
  std::vector<at::Tensor> result;
  for (int64_t i = 0; i < size(); ++i)
    result.push_back(gathered[0][static_cast<size_t>(i)].narrow(0, 0, counts[i].item<int64_t>()));
  return result;
}

std::vector<std::string> Ranks::exchange(const std::string& text) {
  at::Tensor bytes = at::empty({static_cast<int64_t>(text.size())}, at::kByte);
  std::copy(text.begin(), text.end(), bytes.mutable_data_ptr<uint8_t>());
  std::vector<std::string> result;
  for (const at::Tensor& each : gather(bytes)) {
    const auto* first = each.const_data_ptr<uint8_t>();
    result.emplace_back(first, first + each.numel());
  }
  return result;
}

void Ranks::at_step(int64_t step) { watch_->at_step(step); }
void Ranks::leave() { watch_->leave(); }
void Ranks::end(const std::string& message, int exit_code) { watch_->end(message, exit_code); }

}  // namespace ltrp
