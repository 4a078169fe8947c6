// The benchmark's native helper: one JSON request a line in, one JSON reply a line out (bench/PROTOCOL.md).
#include <c10/util/Exception.h>

#include <iostream>
#include <new>
#include <string>

#include "core/error.h"
#include "session.h"

namespace {

using ltrp::Error;
using ltrp::bench::Json;

Json failure(const char* code, const std::string& message) {
  return {{"ok", false}, {"code", code}, {"message", message}};
}

// LibTorch's messages go on with lists of backends.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

Json answer(ltrp::bench::Session& session, const Json& request) {
  try {
    if (!request.is_object() || !request.value("op", Json()).is_string()) {
      throw Error(ltrp::codes::kInvalidArgument,
                  "A request is an object with the name of an operation in `op`.");
    }
    const std::string name = request["op"];
    const ltrp::bench::Operation operation = ltrp::bench::find_operation(name);
    if (operation == nullptr) {
      throw Error(ltrp::codes::kInvalidArgument, "There is no operation '" + name + "'.");
    }
    Json reply = operation(session, request);
    reply["ok"] = true;
    return reply;
  } catch (const Error& error) {
    return failure(error.code(), error.what());
  } catch (const Json::exception& error) {
    return failure(ltrp::codes::kInvalidArgument, error.what());
  } catch (const c10::Error& error) {
    return failure(ltrp::codes::kInternal, first_line(error.what_without_backtrace()));
  } catch (const std::bad_alloc&) {
    return failure(ltrp::codes::kOutOfMemory, "Out of memory.");
  } catch (const std::exception& error) {
    return failure(ltrp::codes::kInternal, error.what());
  }
}

}  // namespace

int main() {
  ltrp::bench::Session session;
  for (std::string line; std::getline(std::cin, line);) {
    if (line.empty()) continue;
    const Json request = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    Json reply = answer(session, request);
    if (request.is_object() && request.contains("id")) reply["id"] = request["id"];
    std::cout << reply.dump() << std::endl;
  }
}
