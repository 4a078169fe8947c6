#include "core/ranks/watch.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace ltrp {
namespace {

using Json = nlohmann::json;
using namespace std::chrono_literals;

// Of `timeout`: how long a rank may say nothing, and how long the store may.
constexpr double kSilence = 0.5, kStoreSilence = 0.7;
// Once a collective has failed somebody is gone: a few beats are enough to see who.
constexpr double kBeatsAfterFailure = 4;

std::string first_line(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "unknown host";
}

std::string network_place() {
  char space[128] = {};
  const ssize_t length = readlink("/proc/self/ns/net", space, sizeof space - 1);
  return first_line("/proc/sys/kernel/random/boot_id") +
         (length > 0 ? std::string(space, static_cast<size_t>(length)) : host_name());
}

std::string to_text(const Beat& beat) {
  return Json{{"count", beat.count}, {"step", beat.step},   {"pid", beat.pid},        {"left", beat.left},
              {"host", beat.host},   {"place", beat.place}, {"address", beat.address}}
      .dump();
}

Beat beat_of(const std::vector<uint8_t>& text) {
  const Json json = Json::parse(text.begin(), text.end());
  return {json.at("count"), json.at("step"),  json.at("pid"),    json.at("left"),
          json.at("host"),  json.at("place"), json.at("address")};
}

std::string seconds_text(double seconds) { return std::to_string(std::lround(seconds)) + " s"; }

void say(const std::string& message) {
  const std::string line = message + "\n";
  // Not the C library's: another thread may hold its lock.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

// As torchrun reads it. By rename: half a file would be worse than none.
void write_error_file(const std::string& path, const std::string& message) {
  if (path.empty()) return;
  const Json content{
      {"message",
       {{"message", message},
        {"extraInfo", {{"py_callstack", ""}, {"timestamp", std::to_string(std::time(nullptr))}}}}}};
  const std::string partial = path + "." + std::to_string(getpid()) + ".tmp";
  {
    std::ofstream file(partial);
    file << content.dump();
    if (!file.flush()) return;
  }
  std::rename(partial.c_str(), path.c_str());
}

Watch::Watch(const RanksOptions& options, Store store, const std::string& start, const std::string& address)
    : options_(options), store_(std::move(store)), start_(start), others_(static_cast<size_t>(options.size)) {
  own_.pid = getpid();
  own_.host = host_name();
  own_.place = network_place();
  own_.address = address;
  // Of hundreds of ranks each reads what all others say: more seldom, so that the store bears it.
  interval_ = std::clamp(options.timeout / 40, 0.1, 1.0) *
              std::max<double>(1, static_cast<double>(options.size) / 64);
  interval_ = std::min(interval_, options.timeout / 10);
  beating_ = std::thread([this] { beat(); });
  watching_ = std::thread([this] { watch_store(); });
}

Watch::~Watch() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  beating_.join();
  watching_.join();
}

std::vector<Beat> Watch::everyone(Clock::time_point deadline, const RunContext& context) {
  std::unique_lock lock(mutex_);
  const auto all_known = [&] {
    return std::all_of(others_.begin(), others_.end(), [](const Other& other) { return other.known; });
  };
  while (!all_known()) {
    context.check();
    if (Clock::now() >= deadline) {
      std::string missing;
      for (size_t rank = 0; rank < others_.size(); ++rank) {
        if (!others_[rank].known) missing += (missing.empty() ? "" : ", ") + std::to_string(rank);
      }
      gave_up_ = "of " + std::to_string(options_.size) + " ranks these did not come within " +
                 seconds_text(options_.join_timeout) + ": rank " + missing;
      lock.unlock();
      for (;;) std::this_thread::sleep_for(1h);
    }
    changed_.wait_until(lock, std::chrono::system_clock::now() + 100ms);
  }
  std::vector<Beat> beats;
  for (const Other& other : others_) beats.push_back(other.beat);
  return beats;
}

void Watch::lost(const std::string& what) {
  {
    const std::lock_guard lock(mutex_);
    if (failed_.empty()) failed_ = what.substr(0, what.find('\n'));
  }
  for (;;) std::this_thread::sleep_for(1h);
}

void Watch::leave() {
  std::unique_lock lock(mutex_);
  leaving_ = true;
  changed_.notify_all();
  const auto until =
      std::chrono::system_clock::now() + std::chrono::duration_cast<std::chrono::system_clock::duration>(
                                             std::chrono::duration<double>(options_.timeout / 2));
  changed_.wait_until(lock, until, [&] { return stopped_; });
}

void Watch::end(const std::string& message, int exit_code) {
  {
    const std::lock_guard lock(mutex_);
    own_reason_ = message;
    exit_code_ = exit_code;
  }
  changed_.notify_all();
  // The thread that beats tells the others and ends the process, unless the store does not let it.
  std::this_thread::sleep_for(5s);
  finish(message, exit_code, true);
}

void Watch::beat() {
#if defined(__linux__)
  pthread_setname_np(pthread_self(), "ltrp-beat");
#endif
  auto before = Clock::now();
  try {
    for (;;) {
      std::string reason;
      bool leaving = false;
      {
        const std::lock_guard lock(mutex_);
        if (stopped_) return;
        reason = own_reason_;
        leaving = leaving_;
      }
      if (!reason.empty()) {
        end_by(*store_, end_key(start_),
               "rank " + std::to_string(options_.rank) + " (" + own_.host + ", pid " +
                   std::to_string(own_.pid) + ") has failed: " + reason);
        finish(reason, exit_code_, true);
      }
      write_beat(leaving);
      for (const std::string& key : {end_key(start_), std::string(kEndKey)}) {
        if (!store_->check({key})) continue;
        const std::vector<uint8_t> text = store_->get(key);
        finish({text.begin(), text.end()}, 1, false);
      }
      const auto now = Clock::now();
      // A process that was stopped itself must not blame the others for the time.
      read_beats(std::min(std::chrono::duration<double>(now - before).count(), 3 * interval_));
      before = now;
      judge();
      ++turns_;
      std::unique_lock lock(mutex_);
      changed_.notify_all();
      if (leaving) {
        const bool all_left = std::all_of(others_.begin(), others_.end(), [&](const Other& other) {
          return other.beat.left || &other == &others_[static_cast<size_t>(options_.rank)];
        });
        // Who hosts the store stays until the others need it no more.
        if (!options_.hosts_store || all_left) {
          stopped_ = true;
          changed_.notify_all();
          return;
        }
      }
      changed_.wait_until(
          lock, std::chrono::system_clock::now() + std::chrono::milliseconds(std::lround(1000 * interval_)),
          [&] { return stopped_ || !own_reason_.empty() || leaving_ != leaving; });
    }
  } catch (const std::exception& error) {
    {
      const std::lock_guard lock(mutex_);
      if (leaving_) {
        stopped_ = true;
        changed_.notify_all();
        return;
      }
    }
    finish(options_.store_owner + " is gone, and with it the store of the ranks at " + options_.host + ":" +
               std::to_string(options_.port),
           1, false);
  }
}

void Watch::write_beat(bool left) {
  own_.step = step_.load();
  own_.left = left;
  ++own_.count;
  const std::string text = to_text(own_);
  store_->set(beat_key(start_, static_cast<size_t>(options_.rank)),
              std::vector<uint8_t>(text.begin(), text.end()));
}

void Watch::read_beats(double elapsed) {
  std::vector<size_t> ranks;
  std::vector<std::string> keys;
  for (size_t rank = 0; rank < others_.size(); ++rank) {
    // Reading what is not there yet would wait for it.
    if (!others_[rank].known && !store_->check({beat_key(start_, rank)})) continue;
    ranks.push_back(rank);
    keys.push_back(beat_key(start_, rank));
  }
  const auto texts = store_->multiGet(keys);
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < ranks.size(); ++i) {
    Other& other = others_[ranks[i]];
    Beat beat = beat_of(texts[i]);
    const bool moved = !other.known || beat.count != other.beat.count;
    other.silent = moved ? 0 : other.silent + elapsed;
    other.known = true;
    other.beat = std::move(beat);
  }
  if (!failed_.empty()) failed_for_ += elapsed;
}

std::string Watch::described(size_t rank) const {
  const Other& other = others_[rank];
  return "rank " + std::to_string(rank) + " (" + other.beat.host + ", pid " + std::to_string(other.beat.pid) +
         ") has not been heard from for " + seconds_text(other.silent) + "; its last word was of step " +
         std::to_string(other.beat.step);
}

void Watch::judge() {
  std::string reason;
  {
    const std::lock_guard lock(mutex_);
    reason = gave_up_;
    const double patience = failed_.empty() ? kSilence * options_.timeout
                                            : std::min(kSilence * options_.timeout,
                                                       std::max(2.0, kBeatsAfterFailure * interval_));
    for (size_t rank = 0; rank < others_.size(); ++rank) {
      const Other& other = others_[rank];
      if (!other.known || other.beat.left || other.silent < patience) continue;
      reason += (reason.empty() ? "" : "; ") + described(rank);
    }
    if (reason.empty() && failed_for_ > kSilence * options_.timeout) {
      reason = "a collective of the ranks failed: " + failed_ + "; steps of the ranks:";
      for (size_t rank = 0; rank < others_.size(); ++rank) {
        reason += " rank " + std::to_string(rank) + ": " + std::to_string(others_[rank].beat.step) +
                  (others_[rank].beat.left ? " (has left)" : "");
      }
    }
  }
  if (!reason.empty()) finish(end_by(*store_, end_key(start_), reason), 1, false);
}

// A store whose host is stopped or cut off does not answer, and who asks it waits.
void Watch::watch_store() {
  int64_t turns = -1;
  double silent = 0;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (changed_.wait_until(lock, std::chrono::system_clock::now() + 200ms, [&] { return stopped_; }))
        return;
    }
    const int64_t now = turns_.load();
    silent = now == turns ? silent + 0.2 : 0;
    turns = now;
    if (silent < kStoreSilence * options_.timeout) continue;
    finish(options_.store_owner + " has not answered for " + seconds_text(silent) +
               ": it hosts the store of the ranks at " + options_.host + ":" + std::to_string(options_.port) +
               " (or this machine's link to it is cut)",
           1, false);
  }
}

void Watch::finish(const std::string& message, int exit_code, bool own_reason) {
  // The first thread that comes here ends the process; others must not speak too.
  static std::atomic<bool> ending{false};
  if (ending.exchange(true)) {
    for (;;) std::this_thread::sleep_for(1h);
  }
  if (!own_reason)
    say("ltrp: rank " + std::to_string(options_.rank) + " ends, because " + message +
        ". --resume continues. [" + codes::kRankLost + "]");
  write_error_file(options_.error_file, message);
  // The others read why from the store that this process hosts.
  if (options_.hosts_store) std::this_thread::sleep_for(std::chrono::duration<double>(2 * interval_ + 1));
  _exit(exit_code);
}

}  // namespace ltrp
