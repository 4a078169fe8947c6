#include "core/checkpoint/pickle.h"

#include <bit>
#include <cstring>
#include <unordered_map>

#include "core/checkpoint/pickle_objects.h"
#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

constexpr size_t kMaxBytes = size_t{64} << 20;
constexpr size_t kMaxValues = 2'000'000;
constexpr size_t kMaxStack = 1'000'000;
constexpr size_t kMaxMemo = 1'000'000;
constexpr size_t kMaxGlobalName = 1024;
// Texts, names and the lists' own memory: a call on remembered values copies much for little.
constexpr size_t kMaxCopied = size_t{128} << 20;
constexpr size_t kOpcodesBetweenPolls = 4096;
constexpr int kMaxProtocol = 5;

// Opcodes by the names of Python's pickletools.
enum Opcode : uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersistentId = 'Q',
  kReduce = 'R',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kDict = 'd',
  kEmptyDict = '}',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kList = 'l',
  kEmptyList = ']',
  kObj = 'o',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kEmptyTuple = ')',
  kSetItems = 'u',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kProto = 0x80,
  kNewObj = 0x81,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes8 = 0x8e,
  kEmptySet = 0x8f,
  kAddItems = 0x90,
  kFrozenSet = 0x91,
  kNewObjEx = 0x92,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
  kByteArray8 = 0x96,
};

// What a value holds outside of itself.
size_t copied_bytes(const PickleValue& value) {
  struct Count {
    size_t operator()(const std::string& text) const { return text.size(); }
    size_t operator()(const PickleBytes& bytes) const { return bytes.data.size(); }
    size_t operator()(const PickleTuple& tuple) const { return tuple.items.size() * sizeof(PickleRef); }
    size_t operator()(const PickleList& list) const { return list.items.size() * sizeof(PickleRef); }
    size_t operator()(const PickleDict& dict) const { return 2 * dict.entries.size() * sizeof(PickleRef); }
    size_t operator()(const PickleGlobal& global) const { return global.name.size(); }
    size_t operator()(const PickleStorage& storage) const { return storage.key.size(); }
    size_t operator()(const PickleTensor& tensor) const {
      return (tensor.sizes.size() + tensor.strides.size()) * sizeof(int64_t);
    }
    size_t operator()(const PickleOpaque& opaque) const { return opaque.name.size(); }
    size_t operator()(PickleNone) const { return 0; }
    size_t operator()(bool) const { return 0; }
    size_t operator()(int64_t) const { return 0; }
    size_t operator()(double) const { return 0; }
  };
  return std::visit(Count{}, value.value);
}

class Interpreter {
 public:
  Interpreter(std::string_view bytes, const std::string& source, std::deque<PickleValue>& arena,
              const RunContext& context)
      : bytes_(bytes), source_(source), arena_(arena), context_(context) {}

  PickleRef run() {
    if (bytes_.size() > kMaxBytes) refuse("it is larger than 64 MiB");
    for (size_t i = 0;; ++i) {
      if (i % kOpcodesBetweenPolls == 0) context_.check();
      const uint8_t opcode = static_cast<uint8_t>(take(1)[0]);
      if (opcode == kStop) return pop();
      step(opcode);
      if (stack_.size() + marks_.size() > kMaxStack) refuse("its stack grows without limit");
    }
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(codes::kCheckpointFormat,
                quote_name(source_) + " holds a pickle that cannot be read: " + what + ".");
  }

  // --- bytes ---
  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - position_) refuse("it is truncated");
    const std::string_view taken = bytes_.substr(position_, count);
    position_ += count;
    return taken;
  }
  template <typename T>
  T little_endian() {
    static_assert(std::endian::native == std::endian::little);
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string_view line() {
    const size_t end = bytes_.find('\n', position_);
    if (end == std::string_view::npos) refuse("it is truncated");
    const std::string_view text = take(end - position_);
    take(1);
    return text;
  }
  double big_endian_double() {
    uint64_t bits = 0;
    for (const char byte : take(8)) bits = bits << 8 | static_cast<uint8_t>(byte);
    return std::bit_cast<double>(bits);
  }

  // --- stack ---
  PickleValue* make(PickleValue value) {
    if (arena_.size() >= kMaxValues) refuse("it has more than " + std::to_string(kMaxValues) + " values");
    spend(copied_bytes(value));
    arena_.push_back(std::move(value));
    return &arena_.back();
  }
  void spend(size_t bytes) {
    copied_ += bytes;
    if (copied_ > kMaxCopied) refuse("its texts and lists grow without limit");
  }
  template <typename T>
  void push(T value) {
    stack_.push_back(make(PickleValue{std::move(value)}));
  }
  // Nothing below the newest mark may be taken.
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  PickleValue* pop() {
    PickleValue* value = top();
    stack_.pop_back();
    return value;
  }
  PickleValue* top() {
    if (stack_.size() <= floor()) refuse("it takes more from its stack than is there");
    return stack_.back();
  }
  std::vector<PickleRef> pop_to_mark() {
    if (marks_.empty()) refuse("it lacks a mark");
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<PickleRef> items(first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return items;
  }
  std::vector<PickleRef> pop_count(size_t count) {
    if (stack_.size() < floor() + count) refuse("it takes more from its stack than is there");
    const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<PickleRef> items(first, stack_.end());
    stack_.erase(first, stack_.end());
    return items;
  }

  // --- memo ---
  void put(uint64_t index) {
    memo_[index] = top();
    if (memo_.size() > kMaxMemo) refuse("its memo grows without limit");
  }
  void get(uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) refuse("it refers to a value that it has not defined");
    stack_.push_back(found->second);
  }

  // --- containers; objects that only look like one (a subclass of list or dict) are opaque and swallow their
  // items ---
  void append(const std::vector<PickleRef>& items) {
    PickleValue* target = top();
    spend(items.size() * sizeof(PickleRef));
    if (auto* list = std::get_if<PickleList>(&target->value)) {
      list->items.insert(list->items.end(), items.begin(), items.end());
    } else if (!target->as<PickleOpaque>()) {
      refuse("it appends to " + target->description());
    }
  }
  void set_items(const std::vector<PickleRef>& items) {
    PickleValue* target = top();
    if (items.size() % 2 != 0) refuse("a key of a dictionary lacks its value");
    spend(items.size() * sizeof(PickleRef));
    if (auto* dict = std::get_if<PickleDict>(&target->value)) {
      for (size_t i = 0; i < items.size(); i += 2) dict->entries.emplace_back(items[i], items[i + 1]);
    } else if (!target->as<PickleOpaque>()) {
      refuse("it sets items of " + target->description());
    }
  }
  void push_dict(const std::vector<PickleRef>& items) {
    push(PickleDict{});
    set_items(items);
  }

  // --- objects ---
  void push_global(std::string_view module, std::string_view attribute) {
    if (module.size() + attribute.size() > kMaxGlobalName) refuse("it names a global of endless length");
    push(PickleGlobal{std::string(module) + "." + std::string(attribute)});
  }
  void call(PickleRef callee, PickleRef arguments) {
    const auto* tuple = arguments->as<PickleTuple>();
    if (!tuple) refuse("it calls something with " + arguments->description() + " for its arguments");
    if (const auto* global = callee->as<PickleGlobal>()) {
      stack_.push_back(make(build_object(global->name, tuple->items, source_)));
    } else {
      push(PickleOpaque{callee->description()});
    }
  }
  void build() {
    const PickleRef state = pop();
    // Attributes of tensors, storages and OrderedDicts (state dicts carry _metadata) change nothing that is
    // read here.
    if (auto* opaque = std::get_if<PickleOpaque>(&top()->value)) opaque->state = state;
  }

  void push_long(std::string_view digits) {  // little-endian two's complement
    if (digits.size() > sizeof(int64_t)) {
      push(PickleOpaque{"int beyond 64 bits"});
      return;
    }
    uint64_t bits = !digits.empty() && (digits.back() & 0x80) != 0 ? ~uint64_t{0} : 0;
    for (size_t i = digits.size(); i-- > 0;) bits = bits << 8 | static_cast<uint8_t>(digits[i]);
    push(static_cast<int64_t>(bits));
  }
  uint64_t take_signed_length() {
    const int32_t length = little_endian<int32_t>();
    if (length < 0) refuse("it has a negative length");
    return static_cast<uint64_t>(length);
  }

  void step(uint8_t opcode);

  std::string_view bytes_;
  const std::string& source_;
  std::deque<PickleValue>& arena_;
  const RunContext& context_;
  size_t position_ = 0, copied_ = 0;
  std::vector<PickleValue*> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint64_t, PickleValue*> memo_;
};

void Interpreter::step(uint8_t opcode) {
  switch (opcode) {
    case kProto:
      if (const int protocol = static_cast<uint8_t>(take(1)[0]); protocol > kMaxProtocol) {
        refuse("its protocol " + std::to_string(protocol) + " is newer than " + std::to_string(kMaxProtocol));
      }
      return;
    case kFrame:
      take(8);
      return;

    case kNone:
      return push(PickleNone{});
    case kNewTrue:
      return push(true);
    case kNewFalse:
      return push(false);
    case kBinInt:
      return push(int64_t{little_endian<int32_t>()});
    case kBinInt1:
      return push(int64_t{little_endian<uint8_t>()});
    case kBinInt2:
      return push(int64_t{little_endian<uint16_t>()});
    case kLong1:
      return push_long(take(little_endian<uint8_t>()));
    case kLong4:
      return push_long(take(take_signed_length()));
    case kBinFloat:
      return push(big_endian_double());

    case kBinUnicode:
      return push(std::string(take(little_endian<uint32_t>())));
    case kShortBinUnicode:
      return push(std::string(take(little_endian<uint8_t>())));
    case kBinUnicode8:
      return push(std::string(take(little_endian<uint64_t>())));
    case kBinString:
      return push(std::string(take(take_signed_length())));
    case kShortBinString:
      return push(std::string(take(little_endian<uint8_t>())));
    case kBinBytes:
      return push(PickleBytes{std::string(take(little_endian<uint32_t>()))});
    case kShortBinBytes:
      return push(PickleBytes{std::string(take(little_endian<uint8_t>()))});
    case kBinBytes8:
    case kByteArray8:
      return push(PickleBytes{std::string(take(little_endian<uint64_t>()))});

    case kMark:
      marks_.push_back(stack_.size());
      return;
    case kPop:
      if (stack_.size() == floor() && !marks_.empty()) {
        marks_.pop_back();
      } else {
        pop();
      }
      return;
    case kPopMark:
      pop_to_mark();
      return;
    case kDup:
      stack_.push_back(top());
      return;
    case kBinPut:
      return put(little_endian<uint8_t>());
    case kLongBinPut:
      return put(little_endian<uint32_t>());
    case kMemoize:
      return put(memo_.size());
    case kBinGet:
      return get(little_endian<uint8_t>());
    case kLongBinGet:
      return get(little_endian<uint32_t>());

    case kEmptyTuple:
      return push(PickleTuple{});
    case kTuple:
      return push(PickleTuple{pop_to_mark()});
    case kTuple1:
      return push(PickleTuple{pop_count(1)});
    case kTuple2:
      return push(PickleTuple{pop_count(2)});
    case kTuple3:
      return push(PickleTuple{pop_count(3)});
    case kEmptyList:
      return push(PickleList{});
    case kList:
      return push(PickleList{pop_to_mark()});
    case kAppend:
      return append(pop_count(1));
    case kAppends:
      return append(pop_to_mark());
    case kEmptyDict:
      return push(PickleDict{});
    case kDict:
      return push_dict(pop_to_mark());
    case kSetItem:
      return set_items(pop_count(2));
    case kSetItems:
      return set_items(pop_to_mark());
    case kEmptySet:
      return push(PickleOpaque{"builtins.set"});
    case kAddItems:
      return append(pop_to_mark());
    case kFrozenSet:
      pop_to_mark();
      return push(PickleOpaque{"builtins.frozenset"});

    case kGlobal: {
      const std::string_view module = line();
      return push_global(module, line());
    }
    case kStackGlobal: {
      const auto names = pop_count(2);
      const auto* module = names[0]->as<std::string>();
      const auto* attribute = names[1]->as<std::string>();
      if (!module || !attribute) refuse("it names a global by something that is not text");
      return push_global(*module, *attribute);
    }
    case kReduce:
    case kNewObj: {
      const auto parts = pop_count(2);
      return call(parts[0], parts[1]);
    }
    case kNewObjEx: {
      const auto parts = pop_count(3);
      return push(PickleOpaque{parts[0]->description()});
    }
    case kObj: {
      const auto parts = pop_to_mark();
      if (parts.empty()) refuse("it makes an object of no class");
      return push(PickleOpaque{parts[0]->description()});
    }
    case kBuild:
      return build();
    case kBinPersistentId: {
      const PickleRef id = pop();
      stack_.push_back(make(build_storage(*id, source_)));
      return;
    }
    default:
      refuse("it uses opcode " + std::to_string(opcode) + ", which checkpoints do not need");
  }
}

}  // namespace

Pickle::Pickle(std::string_view bytes, const std::string& source, const RunContext& context) {
  root_ = Interpreter(bytes, source, arena_, context).run();
}

PickleRef find_key(const PickleDict& dict, std::string_view key) {
  for (auto entry = dict.entries.rbegin(); entry != dict.entries.rend(); ++entry) {
    const auto* text = entry->first->as<std::string>();
    if (text && *text == key) return entry->second;
  }
  return nullptr;
}

std::string PickleValue::description() const {
  struct Describe {
    std::string operator()(PickleNone) const { return "None"; }
    std::string operator()(bool) const { return "a bool"; }
    std::string operator()(int64_t) const { return "an int"; }
    std::string operator()(double) const { return "a float"; }
    std::string operator()(const std::string&) const { return "a text"; }
    std::string operator()(const PickleBytes&) const { return "bytes"; }
    std::string operator()(const PickleTuple&) const { return "a tuple"; }
    std::string operator()(const PickleList&) const { return "a list"; }
    std::string operator()(const PickleDict&) const { return "a dict"; }
    std::string operator()(const PickleGlobal& global) const { return global.name.substr(0, 160); }
    std::string operator()(const PickleStorage&) const { return "a storage"; }
    std::string operator()(const PickleTensor&) const { return "a tensor"; }
    std::string operator()(const PickleOpaque& opaque) const {
      return "an object of " + opaque.name.substr(0, 160);
    }
  };
  return std::visit(Describe{}, value);
}

}  // namespace ltrp
