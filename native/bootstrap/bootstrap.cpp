// ltrp.node: opens the LibTorch that TypeScript has chosen before the core is loaded. Links no LibTorch
// itself.
//
// The core carries no RUNPATH, so the dynamic loader satisfies its NEEDED names (libc10.so, libtorch_cpu.so,
// libtorch.so) from libraries of the same SONAME that are already open: exactly the ones opened here.
#include <dlfcn.h>
#include <napi.h>

#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <link.h>
#elif defined(__APPLE__)
#include <mach-o/dyld.h>
#endif

namespace {

// An Error with a code, in the form that lib/errors.ts expects.
Napi::Error coded_error(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

// While it exists, an OpenMP runtime that is opened learns to let waiting threads sleep. By default they
// spin, and as soon as the processor has anything else to do (decoding, the JavaScript thread, another
// process) the spinning holds up the very thread that is waited for: a call of 60 ms took seconds. What the
// user has set wins. The runtime reads the variable once, when it is opened, so it is taken away again: only
// child processes that are started meanwhile inherit it. Made and destroyed on the JavaScript thread, where
// Node itself changes the environment; of several at a time (workers) the last one takes it away.
class PassiveWaiting {
 public:
  PassiveWaiting() {
    const std::lock_guard lock(mutex());
    if (holders() == 0 && (std::getenv(kPolicy) != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr)) {
      return;
    }
    if (holders() == 0 && setenv(kPolicy, "passive", 0) != 0) return;
    ++holders();
    holds_ = true;
  }
  ~PassiveWaiting() {
    if (!holds_) return;
    const std::lock_guard lock(mutex());
    if (--holders() == 0) unsetenv(kPolicy);
  }
  PassiveWaiting(const PassiveWaiting&) = delete;
  PassiveWaiting& operator=(const PassiveWaiting&) = delete;

 private:
  static constexpr const char* kPolicy = "OMP_WAIT_POLICY";
  static std::mutex& mutex() {
    static std::mutex instance;
    return instance;
  }
  static int& holders() {
    static int count = 0;
    return count;
  }
  bool holds_ = false;
};

// Opens libraries on a thread of libuv's pool: LibTorch takes a tenth of a second from memory and seconds
// from a disk, most of it registering its operators, and JavaScript goes on meanwhile. RTLD_NOW so that an
// incomplete LibTorch fails here, with the loader's text, and not in the middle of a computation; RTLD_LOCAL
// so that its symbols do not reach other addons; RTLD_NODELETE because it does not survive dlclose.
class Preload : public Napi::AsyncWorker {
 public:
  Preload(Napi::Env env, std::vector<std::string> paths)
      : AsyncWorker(env, "ltrp.preload"), result_(env), paths_(std::move(paths)) {}

  Napi::Promise promise() const { return result_.Promise(); }

 protected:
  void Execute() override {
    for (const std::string& path : paths_) {
      if (dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) == nullptr) {
        const char* reason = dlerror();  // of this thread
        SetError("Cannot open " + path + ": " + (reason != nullptr ? reason : "unknown reason"));
        return;
      }
    }
  }
  // A worker that is being terminated takes no results; nobody is left to be told.
  void OnOK() override try { result_.Resolve(Env().Undefined()); } catch (const Napi::Error&) {
  }
  void OnError(const Napi::Error& error) override try {
    result_.Reject(coded_error(Env(), "ERR_LTRP_LIBTORCH_LOAD", error.Message()).Value());
  } catch (const Napi::Error&) {
  }

 private:
  PassiveWaiting waiting_;
  Napi::Promise::Deferred result_;
  std::vector<std::string> paths_;
};

// preload(paths): a promise.
Napi::Value preload(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() != 1 || !info[0].IsArray()) {
    throw coded_error(env, "ERR_LTRP_INVALID_ARGUMENT", "preload(paths) takes an array of absolute paths.");
  }
  Napi::Array list = info[0].As<Napi::Array>();
  std::vector<std::string> paths;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    Napi::Value item = list[i];
    if (!item.IsString() || item.As<Napi::String>().Utf8Value().rfind('/', 0) != 0) {
      throw coded_error(env, "ERR_LTRP_INVALID_ARGUMENT", "preload(paths) takes absolute paths.");
    }
    paths.push_back(item.As<Napi::String>().Utf8Value());
  }
  auto* worker = new Preload(env, std::move(paths));  // deletes itself when it is done
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

void collect(std::string_view path, std::string_view prefix, std::vector<std::string>* found) {
  std::string_view name = path.substr(path.rfind('/') + 1);
  if (!path.empty() && name.substr(0, prefix.size()) == prefix) found->emplace_back(path);
}

// mapped(prefix): what is really in the process, asked of the dynamic loader itself.
Napi::Value mapped(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  if (info.Length() != 1 || !info[0].IsString()) {
    throw coded_error(env, "ERR_LTRP_INVALID_ARGUMENT", "mapped(prefix) takes a string.");
  }
  const std::string prefix = info[0].As<Napi::String>().Utf8Value();
  std::vector<std::string> found;
#if defined(__linux__)
  struct Query {
    std::string_view prefix;
    std::vector<std::string>* found;
  } query{prefix, &found};
  dl_iterate_phdr(
      [](dl_phdr_info* object, size_t, void* data) {
        auto* query = static_cast<Query*>(data);
        collect(object->dlpi_name != nullptr ? object->dlpi_name : "", query->prefix, query->found);
        return 0;
      },
      &query);
#elif defined(__APPLE__)
  for (uint32_t i = 0; i < _dyld_image_count(); ++i) {
    const char* name = _dyld_get_image_name(i);
    collect(name != nullptr ? name : "", prefix, &found);
  }
#endif
  Napi::Array result = Napi::Array::New(env, found.size());
  for (size_t i = 0; i < found.size(); ++i)
    result[static_cast<uint32_t>(i)] = Napi::String::New(env, found[i]);
  return result;
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("preload", Napi::Function::New<preload>(env, "preload"));
  exports.Set("mapped", Napi::Function::New<mapped>(env, "mapped"));
  return exports;
}

}  // namespace

NODE_API_MODULE(ltrp, initialize)
