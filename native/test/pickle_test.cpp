#include "core/checkpoint/pickle.h"

#include "checkpoint_support.h"
#include "core/checkpoint/pth.h"

using namespace ltrp;
using namespace ltrp::test;

namespace {

void check_pickle_refused(const std::string& bytes, const std::string& part) {
  check_refused(codes::kCheckpointFormat, part, [&] { Pickle(bytes, "x.pth"); });
}

// Loads a pickled tensor from an archive with one float storage 0, 1, 2, ... of 12 elements.
at::Tensor load_view(const ScratchFolder& folder, const PickledTensor& tensor,
                     const at::Tensor& storage = at::arange(12).to(at::kFloat)) {
  write_pth(folder / "x.pth", pickle_file(pickle_tensor(tensor)), {storage});
  PthFile file(folder / "x.pth");
  const auto* view = file.root()->as<PickleTensor>();
  REQUIRE(view != nullptr);
  int64_t count = 1;
  // What is refused is refused before anything is written: such sizes need no memory here.
  for (const int64_t size : view->sizes) count = size < 0 || size > 1000 ? 1 : count * size;
  at::Tensor values = at::empty({count}, at::kFloat);
  file.read(*view, "x", values.data_ptr<float>());
  return values.view(view->sizes);
}

}  // namespace

TEST_CASE("pickle: plain values of protocols 2 to 5") {
  const std::string body = "(" + pickle_int(-5) + "K\x07" + std::string("M\x01\x02", 3) + "J" +
                           little_endian(uint32_t(-2), 4) + "NG" + std::string("\x3f\xf8\0\0\0\0\0\0", 8) +
                           "\x88\x89" + pickle_text("a\xc3\xa4") + "\x8c\x02hi" + "C\x03" + "abc" + "]" +
                           ")" + "t";
  const Pickle pickle(pickle_file(body), "x");
  const auto* tuple = pickle.root()->as<PickleTuple>();
  REQUIRE(tuple != nullptr);
  REQUIRE(tuple->items.size() == 13);
  CHECK(*tuple->items[0]->as<int64_t>() == -5);
  CHECK(*tuple->items[1]->as<int64_t>() == 7);
  CHECK(*tuple->items[2]->as<int64_t>() == 0x201);
  CHECK(*tuple->items[3]->as<int64_t>() == -2);
  CHECK(tuple->items[4]->as<PickleNone>() != nullptr);
  CHECK(*tuple->items[5]->as<double>() == 1.5);
  CHECK(*tuple->items[6]->as<bool>());
  CHECK_FALSE(*tuple->items[7]->as<bool>());
  CHECK(*tuple->items[8]->as<std::string>() == "a\xc3\xa4");
  CHECK(*tuple->items[9]->as<std::string>() == "hi");
  CHECK(tuple->items[10]->as<PickleBytes>()->data == "abc");
  CHECK(tuple->items[11]->as<PickleList>()->items.empty());
  CHECK(tuple->items[12]->as<PickleTuple>()->items.empty());
}

TEST_CASE("pickle: protocol 4 with frames, memo and dictionaries") {
  // {'a': [1, 2], 'b': (the same list)}
  const std::string bytes = std::string("\x80\x04\x95\0\0\0\0\0\0\0\0", 11) + "}\x94(\x8c\x01" +
                            "a\x94]\x94(K\x01K\x02" + "e\x8c\x01" + "b" + "h\x02u.";
  const Pickle pickle(bytes, "x");
  const auto* dict = pickle.root()->as<PickleDict>();
  REQUIRE(dict != nullptr);
  const PickleRef a = find_key(*dict, "a");
  REQUIRE(a != nullptr);
  CHECK(a->as<PickleList>()->items.size() == 2);
  CHECK(find_key(*dict, "b") == a);
  CHECK(find_key(*dict, "c") == nullptr);
}

TEST_CASE("pickle: nothing is ever executed") {
  const ScratchFolder folder;
  const std::string proof = folder / "executed";
  const std::string command = pickle_text("touch " + proof);
  const std::vector<std::string> attacks = {
      pickle_system(proof),                                                        // REDUCE
      "cbuiltins\neval\n" + command + "\x85R",                                     // REDUCE
      pickle_text("os") + pickle_text("system") + "\x93" + command + "\x85R",      // STACK_GLOBAL
      "csubprocess\nPopen\n" + command + "\x85\x81",                               // NEWOBJ
      "csubprocess\nPopen\n" + command + "\x85}\x92",                              // NEWOBJ_EX
      "(csubprocess\nPopen\n" + command + "o",                                     // OBJ
      "cos\nsystem\n)R}(" + pickle_text("__setstate__") + "cos\nsystem\nu" + "b",  // BUILD
      pickle_system(proof) + command + "\x85R",                                    // calling the result
  };
  for (const std::string& attack : attacks) {
    const Pickle pickle(pickle_file(attack), "x");
    CHECK(pickle.root()->as<PickleOpaque>() != nullptr);
  }
  CHECK_FALSE(fs::exists(proof));
}

TEST_CASE("pickle: a Namespace keeps its attributes and stays inert") {
  const Pickle pickle(
      pickle_file("cargparse\nNamespace\n)\x81" + pickle_dict({{"mask_ratio", pickle_int(3)}}) + "b"), "x");
  const auto* object = pickle.root()->as<PickleOpaque>();
  REQUIRE(object != nullptr);
  CHECK(object->name == "argparse.Namespace");
  REQUIRE(object->state != nullptr);
  CHECK(*find_key(*object->state->as<PickleDict>(), "mask_ratio")->as<int64_t>() == 3);
}

TEST_CASE("pickle: a tensor of a type that we do not know stays inert") {
  const std::string storage = "(" + pickle_text("storage") + "ctorch\nComplexFloatStorage\n" +
                              pickle_text("0") + pickle_text("cpu") + pickle_int(4) + "tQ";
  const std::string arguments = "(" + storage + pickle_int(0) + pickle_int(2) + "\x85" + pickle_int(1) +
                                "\x85\x89" + "ccollections\nOrderedDict\n)R" + "t";
  const Pickle pickle(pickle_file("ctorch._utils\n_rebuild_tensor_v2\n" + arguments + "R"), "x");
  CHECK(pickle.root()->as<PickleOpaque>() != nullptr);
}

TEST_CASE("pickle: malformed bytes are refused") {
  check_pickle_refused("", "truncated");
  check_pickle_refused(pickle_file(""), "more from its stack");
  check_pickle_refused(pickle_file("\x85"), "more from its stack");
  check_pickle_refused(pickle_file("t"), "lacks a mark");
  check_pickle_refused(pickle_file("N(\x85"), "more from its stack");
  check_pickle_refused(pickle_file("h\x01"), "has not defined");
  check_pickle_refused(pickle_file("X" + little_endian(0xFFFFFFFF, 4) + "a"), "truncated");
  check_pickle_refused(pickle_file("\x8d" + little_endian(UINT64_MAX, 8) + "a"), "truncated");
  check_pickle_refused(pickle_file("T" + little_endian(0xFFFFFFFF, 4)), "negative length");
  check_pickle_refused(pickle_file("N(NNe"), "appends to None");
  check_pickle_refused(pickle_file("}(Nu"), "lacks its value");
  check_pickle_refused(pickle_file("N(NNu"), "sets items of None");
  check_pickle_refused(pickle_file("NNR"), "for its arguments");
  check_pickle_refused(pickle_file("NQ"), "persistent id");
  check_pickle_refused(pickle_file("ctorch._utils\n_rebuild_tensor_v2\n)R"), "lacks its storage");
  check_pickle_refused(pickle_file("ctorch._utils\n_rebuild_tensor_v2\n(NNNNtR"), "other than a storage");
  check_pickle_refused(pickle_file("S'text'\n"), "opcode 83");
  check_pickle_refused("\x80\x09N.", "protocol 9");
  check_pickle_refused(pickle_file("c" + std::string(2000, 'a') + "\nb\n"), "endless length");
}

TEST_CASE("pickle: growth without limit and towers are stopped or harmless") {
  check_pickle_refused(pickle_file(std::string(1'100'000, '(')), "stack grows");
  check_pickle_refused(pickle_file("N" + std::string(1'100'000, '2')), "stack grows");
  // A long name, remembered and called again and again.
  std::string calls = "c" + std::string(1000, 'a') + "\nb\nq\x01)q\x02";
  for (int i = 0; i < 300'000; ++i) calls += "h\x01h\x02R0";
  check_pickle_refused(pickle_file(calls), "grow without limit");
  std::string many;
  for (int i = 0; i < 2'100'000; ++i) many += "N0";
  check_pickle_refused(pickle_file(many), "values");

  // Half a million lists inside each other, and a list inside itself: read and freed without recursion.
  const Pickle tower(pickle_file(std::string(500'000, ']') + std::string(499'999, 'a')), "x");
  CHECK(tower.root()->as<PickleList>() != nullptr);
  const Pickle cycle(pickle_file(std::string("]q\x01h\x01"
                                             "a",
                                             6)),
                     "x");
  CHECK(cycle.root()->as<PickleList>()->items[0] == cycle.root());
}

TEST_CASE("pickle: random bytes are refused or harmless") {
  std::mt19937_64 random(2);
  const std::string valid = pickle_file(pickle_dict(
      {{"model", pickle_dict({{"a", pickle_tensor({"FloatStorage", "0", 12, 0, {3, 4}, {4, 1}})}})},
       {"args", "cargparse\nNamespace\n)\x81" + pickle_dict({{"mask_ratio", pickle_int(3)}}) + "b"}}));
  int read = 0;
  for (int i = 0; i < 50000; ++i) {
    const std::string bytes = mutate(valid, random, valid.size());
    read += works_or_is_refused([&] { Pickle(bytes, "x"); }) ? 1 : 0;
  }
  CHECK(read > 0);
  CHECK(read < 50000);
}

TEST_CASE("pth: views of a storage") {
  const ScratchFolder folder;
  const at::Tensor whole = load_view(folder, {"FloatStorage", "0", 12, 0, {3, 4}, {4, 1}});
  CHECK(at::equal(whole, at::arange(12).to(at::kFloat).reshape({3, 4})));
  const at::Tensor transposed = load_view(folder, {"FloatStorage", "0", 12, 4, {4, 2}, {1, 4}});
  CHECK(transposed.is_contiguous());
  CHECK(at::equal(transposed, at::arange(4, 12).to(at::kFloat).reshape({2, 4}).t()));
  for (const auto& [name, type] : {std::pair{"HalfStorage", at::kHalf},
                                   {"BFloat16Storage", at::kBFloat16},
                                   {"DoubleStorage", at::kDouble}}) {
    CAPTURE(name);
    const at::Tensor values = at::arange(12).div(8).to(type);
    CHECK(at::equal(load_view(folder, {name, "0", 12, 0, {12}, {1}}, values), values.to(at::kFloat)));
    CHECK(at::equal(load_view(folder, {name, "0", 12, 0, {4, 3}, {1, 4}}, values),
                    values.to(at::kFloat).reshape({3, 4}).t()));
  }
  const at::Tensor storage = at::arange(12).to(at::kFloat);
  const std::vector<std::pair<std::vector<int64_t>, std::vector<int64_t>>> views = {
      {{5, 4}, {0, 1}},  {{3, 6}, {4, 0}}, {{2, 3, 2}, {0, 4, 1}}, {{7}, {0}}, {{2, 2}, {6, 3}},
      {{1, 4}, {99, 1}}, {{}, {}},         {{3, 3}, {1, 1}}};
  for (const auto& [sizes, strides] : views) {
    CAPTURE(sizes.size());
    CHECK(at::equal(load_view(folder, {"FloatStorage", "0", 12, 0, sizes, strides}),
                    at::as_strided(storage, sizes, strides)));
  }
  // A few values far apart in a large storage.
  const at::Tensor large = at::arange(int64_t{1} << 21).to(at::kFloat);
  CHECK(at::equal(load_view(folder, {"FloatStorage", "0", 1 << 21, 3, {3, 2}, {600000, 5}}, large),
                  at::as_strided(large, {3, 2}, {600000, 5}, 3)));
}

TEST_CASE("pth: views that do not fit their storage are refused") {
  const ScratchFolder folder;
  const int64_t huge = int64_t{1} << 62;
  const std::vector<std::pair<PickledTensor, std::string>> faults = {
      {{"FloatStorage", "0", 12, 0, {13}, {1}}, "beyond its storage"},
      {{"FloatStorage", "0", 12, 1, {12}, {1}}, "beyond its storage"},
      {{"FloatStorage", "0", 12, 0, {3, 4}, {5, 1}}, "beyond its storage"},
      {{"FloatStorage", "0", 12, -1, {1}, {1}}, "beyond its storage"},
      {{"FloatStorage", "0", 12, huge, {1}, {1}}, "beyond its storage"},
      {{"FloatStorage", "0", 12, 0, {huge, huge}, {0, 0}}, "beyond its storage"},
      {{"FloatStorage", "0", 12, 0, {huge}, {huge}}, "beyond its storage"},
      {{"FloatStorage", "0", 12, 0, {-1}, {1}}, "negative size"},
      {{"FloatStorage", "0", 12, 5, {2}, {-1}}, "negative size"},
      {{"FloatStorage", "0", 12, 0, {0}, {1}}, "no elements"},
      {{"FloatStorage", "0", 12, 0, {3, 4}, {1}}, "1 strides"},
      {{"FloatStorage", "0", 13, 0, {12}, {1}}, "48 bytes instead of 13 elements"},
      {{"FloatStorage", "0", huge, 0, {12}, {1}}, "48 bytes instead of"},
      {{"DoubleStorage", "0", 12, 0, {12}, {1}}, "48 bytes instead of 12 elements"},
      {{"FloatStorage", "7", 12, 0, {12}, {1}}, "is missing"},
      {{"FloatStorage", "../../x", 12, 0, {12}, {1}}, "is missing"},
      {{"IntStorage", "0", 12, 0, {12}, {1}}, "integers"},
  };
  for (const auto& [tensor, part] : faults) {
    check_refused(codes::kCheckpointFormat, part, [&, &tensor = tensor] { load_view(folder, tensor); });
  }
}

TEST_CASE("pth: a record whose bytes were changed is found by its checksum") {
  const ScratchFolder folder;
  const std::string path = folder / "x.pth";
  write_pth(path, pickle_file(pickle_tensor({"FloatStorage", "0", 1000, 0, {1000}, {1}})),
            {at::ones({1000})});
  std::string bytes = read_bytes(path);
  const std::string one("\0\0\x80\x3f\0\0\x80\x3f", 8);
  bytes.replace(bytes.find(one) + 400, 200, 200, '\0');
  write_bytes(path, bytes);
  PthFile file(path);
  std::vector<float> values(1000);
  check_refused(codes::kCheckpointFormat, "checksum",
                [&] { file.read(*file.root()->as<PickleTensor>(), "x", values.data()); });
}

TEST_CASE("pth: other files are refused by what they are") {
  const ScratchFolder folder;
  const std::string path = folder / "x.pth";
  const auto check = [&](const std::string& bytes, const std::string& part) {
    write_bytes(path, bytes);
    check_refused(codes::kCheckpointFormat, part, [&] { PthFile file(path); });
  };
  check("PK\x03\x04 and then nothing", "cut off after 21 bytes");
  check_refused(codes::kFileNotFound, "There is no file", [&] { PthFile file(folder / "absent.pth"); });

  write_pth(path, pickle_file("N"), {});
  const std::string bytes = read_bytes(path);
  for (size_t length = 4; length + 1 < bytes.size(); length += 7) {
    write_bytes(path, bytes.substr(0, length));
    CHECK_THROWS_AS(PthFile file(path), Error);
  }
}
