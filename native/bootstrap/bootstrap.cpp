// ltrp.node: opens the LibTorch that TypeScript has chosen before the core is loaded. Links no LibTorch
// itself.
//
// The core carries no RUNPATH, so the dynamic loader satisfies its NEEDED names (libc10.so, libtorch_cpu.so,
// libtorch.so) from libraries of the same SONAME that are already open: exactly the ones opened here.
//
// Plain Node-API, whose calls report failure by their status. In a worker that is being terminated any of
// them may fail; the C++ wrapper throws then, also where nobody can catch it, and takes the whole process
// along.
#include <dlfcn.h>
#include <node_api.h>

#include <cstdlib>
#include <exception>
#include <memory>
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

// A callback that returns null has thrown, or its environment is ending.
constexpr napi_value kNothing = nullptr;

napi_value refuse(napi_env env, const char* message) {
  napi_throw_error(env, "ERR_LTRP_INVALID_ARGUMENT", message);
  return kNothing;
}

napi_valuetype type_of(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  return type;
}

// The only argument of a call; null if there is none or more than one.
napi_value only_argument(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value arguments[2] = {};
  if (napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr) != napi_ok || count != 1)
    return nullptr;
  return arguments[0];
}

bool read_string(napi_env env, napi_value value, std::string* text) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return false;
  text->resize(length + 1);  // with the NUL that Node-API writes
  if (napi_get_value_string_utf8(env, value, text->data(), text->size(), &length) != napi_ok) return false;
  text->resize(length);
  return true;
}

// Runs `body` of a callback: no C++ exception may reach Node.
template <typename Body>
napi_value guarded(napi_env env, Body body) {
  try {
    return body();
  } catch (const std::exception& error) {
    napi_throw_error(env, "ERR_LTRP_INTERNAL", error.what());
    return kNothing;
  }
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
struct Preload {
  PassiveWaiting waiting;
  std::vector<std::string> paths;
  std::string failure;  // empty: all are open
  napi_deferred result = nullptr;
  napi_async_work work = nullptr;

  void open() {
    for (const std::string& path : paths) {
      if (dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) != nullptr) continue;
      const char* reason = dlerror();  // of this thread
      failure = "Cannot open " + path + ": " + (reason != nullptr ? reason : "unknown reason");
      return;
    }
  }

  void settle(napi_env env) const {
    if (failure.empty()) {
      napi_value undefined = nullptr;
      if (napi_get_undefined(env, &undefined) == napi_ok) napi_resolve_deferred(env, result, undefined);
      return;
    }
    napi_value code = nullptr, message = nullptr, error = nullptr;
    if (napi_create_string_utf8(env, "ERR_LTRP_LIBTORCH_LOAD", NAPI_AUTO_LENGTH, &code) == napi_ok &&
        napi_create_string_utf8(env, failure.c_str(), failure.size(), &message) == napi_ok &&
        napi_create_error(env, code, message, &error) == napi_ok) {
      napi_reject_deferred(env, result, error);
    }
  }
};

// preload(paths): a promise.
napi_value preload(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const napi_value list = only_argument(env, info);
    bool is_array = false;
    if (list == nullptr || napi_is_array(env, list, &is_array) != napi_ok || !is_array) {
      return refuse(env, "preload(paths) takes an array of absolute paths.");
    }
    auto task = std::make_unique<Preload>();
    uint32_t count = 0;
    if (napi_get_array_length(env, list, &count) != napi_ok) return kNothing;
    for (uint32_t i = 0; i < count; ++i) {
      napi_value item = nullptr;
      if (napi_get_element(env, list, i, &item) != napi_ok) return kNothing;
      std::string path;
      if (type_of(env, item) != napi_string || !read_string(env, item, &path) || path.rfind('/', 0) != 0) {
        return refuse(env, "preload(paths) takes absolute paths.");
      }
      task->paths.push_back(std::move(path));
    }
    napi_value name = nullptr, promise = nullptr;
    if (napi_create_string_utf8(env, "ltrp.preload", NAPI_AUTO_LENGTH, &name) != napi_ok ||
        napi_create_promise(env, &task->result, &promise) != napi_ok ||
        napi_create_async_work(
            env, nullptr, name, [](napi_env, void* data) { static_cast<Preload*>(data)->open(); },
            [](napi_env env, napi_status, void* data) {
              const std::unique_ptr<Preload> done(static_cast<Preload*>(data));
              done->settle(env);
              napi_delete_async_work(env, done->work);
            },
            task.get(), &task->work) != napi_ok) {
      return kNothing;
    }
    if (napi_queue_async_work(env, task->work) != napi_ok) {
      napi_delete_async_work(env, task->work);
      return kNothing;
    }
    task.release();  // the work's second callback owns it
    return promise;
  });
}

void collect(std::string_view path, std::string_view prefix, std::vector<std::string>* found) {
  std::string_view name = path.substr(path.rfind('/') + 1);
  if (!path.empty() && name.substr(0, prefix.size()) == prefix) found->emplace_back(path);
}

std::vector<std::string> mapped_files(const std::string& prefix) {
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
  return found;
}

// mapped(prefix): what is really in the process, asked of the dynamic loader itself.
napi_value mapped(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    const napi_value argument = only_argument(env, info);
    std::string prefix;
    if (argument == nullptr || type_of(env, argument) != napi_string ||
        !read_string(env, argument, &prefix)) {
      return refuse(env, "mapped(prefix) takes a string.");
    }
    napi_value list = nullptr;
    if (napi_create_array(env, &list) != napi_ok) return kNothing;
    uint32_t count = 0;
    for (const std::string& path : mapped_files(prefix)) {
      napi_value text = nullptr;
      if (napi_create_string_utf8(env, path.c_str(), path.size(), &text) != napi_ok ||
          napi_set_element(env, list, count++, text) != napi_ok) {
        return kNothing;
      }
    }
    return list;
  });
}

void define(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value function = nullptr;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function) == napi_ok) {
    napi_set_named_property(env, exports, name, function);
  }
}

}  // namespace

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  define(env, exports, "preload", preload);
  define(env, exports, "mapped", mapped);
  return exports;
}
