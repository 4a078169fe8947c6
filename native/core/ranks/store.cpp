#include "core/ranks/store.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <vector>

namespace ltrp {
namespace {

using namespace std::chrono_literals;

class Socket {
 public:
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  ~Socket() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

struct Found {
  addrinfo* list = nullptr;
  ~Found() {
    if (list != nullptr) freeaddrinfo(list);
  }
};

std::string text_of(const sockaddr* address, socklen_t length) {
  char text[NI_MAXHOST];
  return getnameinfo(address, length, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0 ? text : "";
}

// The address that a connected socket has here.
std::string own_address(int socket) {
  sockaddr_storage own{};
  socklen_t length = sizeof own;
  auto* address = reinterpret_cast<sockaddr*>(&own);
  if (getsockname(socket, address, &length) != 0) return "";
  std::string text = text_of(address, length);
  return text.starts_with("::ffff:") ? text.substr(7) : text;
}

bool connects(int socket, const addrinfo& to) {
  fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
  if (connect(socket, to.ai_addr, to.ai_addrlen) == 0) return true;
  if (errno != EINPROGRESS) return false;
  pollfd waiting{socket, POLLOUT, 0};
  if (poll(&waiting, 1, 2000) <= 0) {
    errno = ETIMEDOUT;
    return false;
  }
  int problem = 0;
  socklen_t length = sizeof problem;
  getsockopt(socket, SOL_SOCKET, SO_ERROR, &problem, &length);
  errno = problem;
  return problem == 0;
}

struct Route {
  std::string to, from;  // addresses
};

// One try to reach the store; nothing, and why, where that fails.
std::optional<Route> reach(const std::string& host, int64_t port, std::string& problem) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  Found found;
  const int failure = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found.list);
  if (failure != 0) {
    problem = "the name has no address: " + std::string(gai_strerror(failure));
    return std::nullopt;
  }
  for (const addrinfo* each = found.list; each != nullptr; each = each->ai_next) {
    const Socket socket(::socket(each->ai_family, each->ai_socktype, each->ai_protocol));
    if (socket.get() >= 0 && connects(socket.get(), *each))
      return Route{text_of(each->ai_addr, each->ai_addrlen), own_address(socket.get())};
    problem = std::strerror(errno);
  }
  return std::nullopt;
}

c10d::TCPStoreOptions store_options(int64_t port, bool serves) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(port);
  options.isServer = serves;
  options.waitWorkers = false;
  options.timeout = 30s;
  // LibTorch's libuv would be bound to Node's.
  options.useLibUV = false;
  return options;
}

}  // namespace

Store host_store(const std::string& host, int64_t port) {
  try {
    return c10::make_intrusive<c10d::TCPStore>(host, store_options(port, true));
  } catch (const std::exception& error) {
    const std::string why = error.what();
    const bool taken = why.find("EADDRINUSE") != std::string::npos ||
                       why.find("address already in use") != std::string::npos;
    throw Error(codes::kRendezvous, "The store of the ranks cannot be hosted at port " +
                                        std::to_string(port) + " of this machine" +
                                        (taken ? ": another process has it. Choose another MASTER_PORT."
                                               : ": " + why.substr(0, why.find('\n'))));
  }
}

Store connect_store(const RanksOptions& options, Clock::time_point deadline, const RunContext& context,
                    std::string& address) {
  std::string problem;
  for (;;) {
    // Also a name may take its time to appear.
    if (const auto route = reach(options.host, options.port, problem)) {
      address = route->from;
      try {
        return c10::make_intrusive<c10d::TCPStore>(route->to, store_options(options.port, false));
      } catch (const std::exception& error) {
        problem = std::string(error.what()).substr(0, std::string(error.what()).find('\n'));
      }
    }
    if (Clock::now() >= deadline) break;
    for (int i = 0; i < 5; ++i) {
      context.check();
      std::this_thread::sleep_for(100ms);
    }
  }
  throw Error(codes::kRendezvous, "Rank " + std::to_string(options.rank) + " cannot reach the store at " +
                                      options.host + ":" + std::to_string(options.port) + ", which " +
                                      options.store_owner + " hosts (MASTER_ADDR, MASTER_PORT): " + problem +
                                      ".");
}

std::string address_towards(const std::string& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICHOST;
  Found found;
  // Nothing is sent; any port does.
  if (getaddrinfo(address.c_str(), "9", &hints, &found.list) != 0) return "";
  const Socket socket(::socket(found.list->ai_family, SOCK_DGRAM, 0));
  if (connect(socket.get(), found.list->ai_addr, found.list->ai_addrlen) != 0) return "";
  return own_address(socket.get());
}

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1" || address.empty();
}

std::string end_by(c10d::TCPStore& store, const std::string& key, const std::string& message) {
  const std::vector<uint8_t> text(message.begin(), message.end());
  const std::vector<uint8_t> there = store.compareSet(key, {}, text);
  return {there.begin(), there.end()};
}

std::string beat_key(const std::string& start, size_t rank) {
  return start + "/beat/" + std::to_string(rank);
}
std::string end_key(const std::string& start) { return start + "/end"; }

std::string new_start() {
  return "ltrp/" + std::to_string(std::chrono::system_clock::now().time_since_epoch().count()) + "." +
         std::to_string(getpid());
}

std::string living_start(c10d::TCPStore& store, const RanksOptions& options, Clock::time_point deadline,
                         const RunContext& context) {
  std::string seen, before;
  while (Clock::now() < deadline) {
    context.check();
    if (store.check({kStartKey})) {
      const std::vector<uint8_t> text = store.get(kStartKey);
      const std::string start(text.begin(), text.end());
      const std::string lead = beat_key(start, 0);
      if (!store.check({end_key(start)}) && store.check({lead})) {
        const std::vector<uint8_t> beat = store.get(lead);
        const std::string now(beat.begin(), beat.end());
        if (start == seen && now != before) return start;
        seen = start;
        before = now;
      }
    }
    std::this_thread::sleep_for(50ms);
  }
  throw Error(codes::kRendezvous, "Rank " + std::to_string(options.rank) + " has met nobody at the store " +
                                      options.host + ":" + std::to_string(options.port) +
                                      ": these did not come: rank 0.");
}

struct RankStore::Server {
  Store store;
};

RankStore::RankStore() : server_(std::make_unique<Server>(Server{host_store("127.0.0.1", 0)})) {}
RankStore::~RankStore() = default;
int64_t RankStore::port() const { return server_->store->getPort(); }
void RankStore::end(const std::string& message) { end_by(*server_->store, kEndKey, message); }

}  // namespace ltrp
