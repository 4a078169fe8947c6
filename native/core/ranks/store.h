// Clients of a c10d store.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <string>

#include "core/ranks/ranks.h"

namespace c10d {
class TCPStore;
}

namespace ltrp {

using Store = c10::intrusive_ptr<c10d::TCPStore>;
using Clock = std::chrono::steady_clock;

// One at a port of this machine; 0: a free one. Error(kRendezvous).
Store host_store(const std::string& host, int64_t port);

// A client of its own connection. What blocks in one of them holds up no other. Error(kRendezvous) when there
// is no answer until `deadline`; stops with `context`. `address` receives this machine's address on the way
// there.
Store connect_store(const RanksOptions& options, Clock::time_point deadline, const RunContext& context,
                    std::string& address);

// This machine's address on the way to another one; empty where there is none.
std::string address_towards(const std::string& address);
bool is_loopback(const std::string& address);

// Where the process that started the ranks says why they end. The first text that is written there stays.
inline constexpr const char* kEndKey = "ltrp/end";
// Where rank 0 writes new_start().
inline constexpr const char* kStartKey = "ltrp/start";
// Writes `message` at a key unless there is one, and returns the one that is there.
std::string end_by(c10d::TCPStore& store, const std::string& key, const std::string& message);

// The name of this start of the ranks, new from rank 0, under which all they write lies: after a restart
// torchrun's store still holds the words of those before. Others wait for one whose rank 0 lives.
std::string new_start();
std::string living_start(c10d::TCPStore& store, const RanksOptions& options, Clock::time_point deadline,
                         const RunContext& context);
std::string beat_key(const std::string& start, size_t rank);
std::string end_key(const std::string& start);

}  // namespace ltrp
