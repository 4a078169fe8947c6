#include "core/checkpoint/pickle_objects.h"

#include <algorithm>
#include <optional>

#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

struct TorchType {
  const char* storage;  // class of its typed storage
  const char* dtype;
  at::ScalarType type;
};
constexpr TorchType kTorchTypes[] = {
    {"torch.DoubleStorage", "torch.float64", at::kDouble},
    {"torch.FloatStorage", "torch.float32", at::kFloat},
    {"torch.HalfStorage", "torch.float16", at::kHalf},
    {"torch.BFloat16Storage", "torch.bfloat16", at::kBFloat16},
    {"torch.LongStorage", "torch.int64", at::kLong},
    {"torch.IntStorage", "torch.int32", at::kInt},
    {"torch.ShortStorage", "torch.int16", at::kShort},
    {"torch.CharStorage", "torch.int8", at::kChar},
    {"torch.ByteStorage", "torch.uint8", at::kByte},
    {"torch.BoolStorage", "torch.bool", at::kBool},
    {"torch.storage.UntypedStorage", "torch.uint8", at::kByte},
    {"torch.UntypedStorage", "torch.uint8", at::kByte},
};

// Far more than any tensor of a model needs.
constexpr size_t kMaxRank = 16;
constexpr size_t kMaxKeyBytes = 256;

[[noreturn]] void refuse(const std::string& source, const std::string& what) {
  throw Error(codes::kCheckpointFormat,
              quote_name(source) + " holds a pickle that cannot be read: " + what + ".");
}

std::optional<std::vector<int64_t>> integers(PickleRef value) {
  const auto* tuple = value->as<PickleTuple>();
  if (!tuple || tuple->items.size() > kMaxRank) return std::nullopt;
  std::vector<int64_t> numbers;
  for (const PickleRef item : tuple->items) {
    const auto* number = item->as<int64_t>();
    if (!number) return std::nullopt;
    numbers.push_back(*number);
  }
  return numbers;
}

// _rebuild_tensor(storage, offset, size, stride); _rebuild_tensor_v2 adds requires_grad, hooks and metadata,
// which do not matter here; _rebuild_tensor_v3 also names the dtype of an untyped storage.
PickleValue build_tensor(const std::string& name, const std::vector<PickleRef>& arguments,
                         const std::string& source) {
  constexpr size_t kDtypeArgument = 6;
  const bool names_dtype = name == "torch._utils._rebuild_tensor_v3";
  if (arguments.size() < (names_dtype ? kDtypeArgument + 1 : 4))
    refuse(source, "a tensor lacks its storage, size or stride");
  if (arguments[0]->as<PickleOpaque>()) return {PickleOpaque{name}};  // of a type we do not know: inert
  PickleTensor tensor;
  tensor.storage = arguments[0]->as<PickleStorage>();
  const auto* offset = arguments[1]->as<int64_t>();
  auto sizes = integers(arguments[2]);
  auto strides = integers(arguments[3]);
  if (!tensor.storage || !offset || !sizes || !strides) {
    refuse(source, "a tensor is built from something other than a storage, an offset, sizes and strides");
  }
  tensor.offset = *offset;
  tensor.sizes = std::move(*sizes);
  tensor.strides = std::move(*strides);
  tensor.type = tensor.storage->type;
  if (names_dtype) {
    const auto* dtype = arguments[kDtypeArgument]->as<PickleGlobal>();
    const auto* known =
        std::find_if(std::begin(kTorchTypes), std::end(kTorchTypes),
                     [&](const TorchType& type) { return dtype && dtype->name == type.dtype; });
    if (known == std::end(kTorchTypes)) return {PickleOpaque{name}};  // a type we do not know: inert
    tensor.type = known->type;
  }
  return {std::move(tensor)};
}

}  // namespace

PickleValue build_object(const std::string& name, const std::vector<PickleRef>& arguments,
                         const std::string& source) {
  if (name == "collections.OrderedDict" && arguments.empty()) return {PickleDict{}};
  if (name == "collections.defaultdict" && arguments.size() <= 1) return {PickleDict{}};
  if (name == "torch._utils._rebuild_tensor" || name == "torch._utils._rebuild_tensor_v2" ||
      name == "torch._utils._rebuild_tensor_v3") {
    return build_tensor(name, arguments, source);
  }
  if (name == "torch._utils._rebuild_parameter" || name == "torch._utils._rebuild_parameter_with_state") {
    if (arguments.empty() || !arguments[0]->as<PickleTensor>())
      refuse(source, "a parameter is built from something other than a tensor");
    return *arguments[0];
  }
  if (name == "torch._tensor._rebuild_from_type_v2" && arguments.size() >= 3) {
    // A tensor with attributes: (how to rebuild it, its type, arguments, attributes).
    const auto* function = arguments[0]->as<PickleGlobal>();
    const auto* inner = arguments[2]->as<PickleTuple>();
    if (function && inner && function->name != name)
      return build_object(function->name, inner->items, source);
  }
  return {PickleOpaque{name}};
}

PickleValue build_storage(const PickleValue& persistent_id, const std::string& source) {
  const auto* parts = persistent_id.as<PickleTuple>();
  if (!parts || parts->items.size() != 5) refuse(source, "a persistent id is not that of a storage");
  const auto* tag = parts->items[0]->as<std::string>();
  const auto* type = parts->items[1]->as<PickleGlobal>();
  const auto* key = parts->items[2]->as<std::string>();
  const auto* elements = parts->items[4]->as<int64_t>();
  if (!tag || *tag != "storage" || !type || !key || !elements || *elements < 0 ||
      key->size() > kMaxKeyBytes) {
    refuse(source, "a persistent id is not that of a storage");
  }
  const auto* known = std::find_if(std::begin(kTorchTypes), std::end(kTorchTypes),
                                   [&](const TorchType& torch) { return type->name == torch.storage; });
  if (known == std::end(kTorchTypes)) return {PickleOpaque{type->name}};  // complex, quantised: inert
  return {PickleStorage{known->type, *key, *elements}};
}

}  // namespace ltrp
