// Several processes that train one model: LibTorch's c10d, started by whoever sets ranks and the address of a
// store (docs/many-machines.md). A rank that dies, is stopped or cannot be reached ends all others (watch.h).
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/names.h"
#include "core/run_context.h"

namespace ltrp {

namespace codes {
// The ranks did not come together: a store that cannot be reached, a rank that did not come.
inline constexpr const char* kRendezvous = "ERR_LTRP_RENDEZVOUS";
// One of them is gone. Only printed: the process ends with it.
inline constexpr const char* kRankLost = "ERR_LTRP_RANK_LOST";
}  // namespace codes

// What gradients are while they are added up over the ranks.
enum class Reduction { kFloat32, kBFloat16 };
template <>
struct Names<Reduction> {
  static constexpr Named<Reduction> all[] = {{Reduction::kFloat32, "float32"},
                                             {Reduction::kBFloat16, "bfloat16"}};
};

struct RanksOptions {
  int64_t rank = 0;
  int64_t size = 1;
  std::string host;  // of the store
  int64_t port = 0;
  bool hosts_store = false;
  std::string store_owner;   // who hosts it, in words
  double timeout = 60;       // seconds within which all have ended when one is gone
  double join_timeout = 45;  // seconds for all to come
  std::string error_file;    // where the reason of an end is written, as torchrun reads it; empty: nowhere
  Reduction reduction = Reduction::kFloat32;
  int64_t bucket_bytes = 4 << 20;  // gradients that are sent together
  c10::Device device = c10::kCPU;
};

class Watch;

class Ranks {
 public:
  // When all have come. Error(kRendezvous); Error(kInvalidArgument).
  static std::shared_ptr<Ranks> join(const RanksOptions& options, const RunContext& context);
  // Only after leave(), or never: it waits for whatever is under way.
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int64_t rank() const { return options_.rank; }
  int64_t size() const { return options_.size; }
  const RanksOptions& options() const { return options_; }

  // All ranks call these in the same order. None returns when a rank is gone: the process ends.

  // Begins to add `tensor` up over all ranks, in place, on the device of the options. Its memory must stay
  // alone until the function that this returns has returned.
  std::function<void()> start_sum(const at::Tensor& tensor);
  // The same to its end, of a tensor on the CPU.
  void sum(const at::Tensor& tensor);
  // All get rank 0's values. On the CPU.
  void broadcast(const at::Tensor& tensor);
  // What each of them has, in the order of the ranks: tensors of one type on the CPU that differ in the first
  // dimension at most.
  std::vector<at::Tensor> gather(const at::Tensor& rows);
  std::vector<std::string> exchange(const std::string& text);

  // For the others to know where this one is.
  void at_step(int64_t step);
  // Says good-bye; the one that hosts the store waits for all others to do so, for some seconds.
  void leave();
  // Ends this process, and with it all others, for a reason of its own.
  [[noreturn]] void end(const std::string& message, int exit_code);

 private:
  struct Groups;
  Ranks(const RanksOptions& options, std::shared_ptr<Watch> watch, std::unique_ptr<Groups> groups);

  RanksOptions options_;
  std::shared_ptr<Watch> watch_;
  std::unique_ptr<Groups> groups_;
};

// The store of ranks that are started on this machine, hosted by the process that starts them.
class RankStore {
 public:
  // At a free port.
  RankStore();
  ~RankStore();
  int64_t port() const;
  // Tells all ranks why they have to end; the first reason counts.
  void end(const std::string& message);

 private:
  struct Server;
  std::unique_ptr<Server> server_;
};

}  // namespace ltrp
