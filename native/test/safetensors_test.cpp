#include "core/checkpoint/safetensors.h"

#include <sys/resource.h>
#include <csignal>

#include "checkpoint_support.h"
#include "core/checkpoint/file_io.h"

using namespace ltrp;
using namespace ltrp::test;

namespace {

std::string container(const std::string& header, const std::string& data) {
  return little_endian(header.size(), 8) + header + data;
}

void check_format_refused(const std::string& bytes, const std::string& part) {
  const ScratchFolder folder;
  write_bytes(folder / "x.safetensors", bytes);
  check_refused(codes::kCheckpointFormat, part, [&] { read_safetensors(folder / "x.safetensors"); });
}

}  // namespace

TEST_CASE("safetensors: every dtype survives a round trip bit for bit") {
  const ScratchFolder folder;
  std::map<std::string, at::Tensor> tensors;
  for (const at::ScalarType type : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt,
                                    at::kShort, at::kChar, at::kByte, at::kBool}) {
    tensors[std::string("t.") + at::toString(type)] = at::randint(0, 100, {3, 5}).to(type);
  }
  tensors["scalar"] = at::scalar_tensor(3.5, at::kFloat);
  tensors["empty"] = at::empty({0, 4}, at::kFloat);
  tensors["view"] = at::rand({4, 6}).t();
  tensors["umlaut \xc3\xa4 \" \\"] = at::ones({1});
  write_safetensors(folder / "x.safetensors", tensors, {{"note", "line\nbreak \xe2\x82\xac"}});
  const SafetensorsFile file = read_safetensors(folder / "x.safetensors");
  REQUIRE(file.tensors.size() == tensors.size());
  for (const auto& [name, tensor] : tensors) {
    CAPTURE(name);
    CHECK((file.tensors.at(name).scalar_type() == tensor.scalar_type()));
    CHECK(at::equal(file.tensors.at(name), tensor));
  }
  CHECK(file.metadata.at("note") == "line\nbreak \xe2\x82\xac");
  CHECK(folder.files() == 1);
}

TEST_CASE("safetensors: the golden files can be read") {
  const auto golden = golden_folder();
  if (!golden) return;
  const SafetensorsFile file = read_safetensors((*golden / "small/expected.safetensors").string());
  CHECK(file.tensors.at("anchor").sizes().vec() == std::vector<int64_t>{2, 49, 768});
  CHECK((file.tensors.at("ids_keep").scalar_type() == at::kLong));
}

TEST_CASE("safetensors: damaged and hostile files are refused in one sentence") {
  const std::string four(4, '\0');
  check_format_refused("", "has only 0 bytes");
  check_format_refused("abc", "has only 3 bytes");
  check_format_refused(little_endian(uint64_t{1} << 60, 8) + "{}",
                       "claims 1152921504606846976 bytes, but only 2 follow");
  check_format_refused(little_endian(UINT64_MAX, 8) + "{}", "but only 2 follow");
  check_format_refused("This is not a model but a text file.", "header claims");
  check_format_refused(container("{", ""), "not valid JSON");
  check_format_refused(container("[]", ""), "not a JSON object");
  check_format_refused(container("{\"\xff\":1}", ""), "not valid JSON in UTF-8");
  check_format_refused(container(std::string(100000, '['), ""), "not a JSON object");
  check_format_refused(container("{\"a\":" + std::string(100000, '['), ""), "exactly dtype, shape");
  check_format_refused(container("{\"a\":{\"shape\":" + std::string(100000, '['), ""), "nested too deeply");
  check_format_refused(
      container(
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
          four),
      "the key 'a' twice");
  check_format_refused(
      container(R"({"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}})", four),
      "'dtype' twice");
  check_format_refused(container(R"({"a":{"dtype":"Q7","shape":[1],"data_offsets":[0,4]}})", four),
                       "unknown dtype 'Q7'");
  check_format_refused(container(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", four),
                       "not a whole number");
  check_format_refused(container(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", four),
                       "not a whole number");
  check_format_refused(container(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}})", four + four),
                       "do not fit its shape");
  check_format_refused(container(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", four),
                       "do not fit its shape");
  check_format_refused(
      container(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", ""),
      "64 bits");
  check_format_refused(
      container(R"({"a":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}})", ""),
      "64 bits");
  check_format_refused(container(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", four),
                       "truncated");
  check_format_refused(container(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", four + "x"),
                       "1 bytes after its last tensor");
  check_format_refused(container(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", four + four),
                       "leaves a hole");
  check_format_refused(
      container(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
          four + four + four),
      "overlaps");
  check_format_refused(container(R"({"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})", "\x07"),
                       "truth value");
  check_format_refused(container(R"({"a":{"dtype":"F32","shape":[1]}})", four),
                       "exactly dtype, shape and data_offsets");
  check_format_refused(container(R"({"__metadata__":{"a":1}})", ""), "not a string");
}

TEST_CASE("safetensors: a file cut anywhere is refused") {
  const ScratchFolder folder;
  write_safetensors(folder / "x", {{"a", at::rand({3})}, {"b", at::rand({2, 2})}}, {});
  const std::string bytes = read_bytes(folder / "x");
  for (size_t length = 0; length < bytes.size(); ++length) {
    write_bytes(folder / "cut", bytes.substr(0, length));
    CHECK_THROWS_AS(read_safetensors(folder / "cut"), Error);
  }
}

TEST_CASE("safetensors: absent files, folders and pipes are refused") {
  const ScratchFolder folder;
  check_refused(codes::kFileNotFound, "There is no file", [&] { read_safetensors(folder / "absent"); });
  check_refused(codes::kFileRead, "not a regular file", [&] { read_safetensors(folder / "."); });
  check_refused(codes::kFileRead, "not a regular file", [&] { read_safetensors("/dev/zero"); });
}

TEST_CASE("atomic writing: failures leave the old file and no temporary one") {
  const ScratchFolder folder;
  const std::string path = folder / "model.safetensors";
  write_safetensors(path, {{"a", at::ones({4})}}, {});
  const std::string before = read_bytes(path);

  SUBCASE("no room for the file") {
    // A limit on file sizes fails the write call the way a full disk does, without needing one.
    const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
    rlimit old_limit{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
    const rlimit small{1000, old_limit.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    check_refused(codes::kFileWrite, path, [&] { write_safetensors(path, {{"a", at::ones({4000})}}, {}); });
    ::setrlimit(RLIMIT_FSIZE, &old_limit);
    std::signal(SIGXFSZ, old_handler);
  }
  SUBCASE("a tensor that cannot be stored") {
    CHECK_THROWS_AS(write_safetensors(path, {{"a", at::ones({4}, at::kComplexFloat)}}, {}), Error);
  }
  SUBCASE("a writer that is abandoned") {
    AtomicFileWriter writer(path);
    writer.write("half", 4);
  }
  SUBCASE("two writers at once") {
    AtomicFileWriter first(path);
    check_refused(codes::kFileWrite, "being written", [&] { AtomicFileWriter second(path); });
  }
  CHECK(read_bytes(path) == before);
  CHECK(folder.files() == 1);
}

TEST_CASE(
    "atomic writing: leftovers of a killed process are reused, links are followed, folders are refused") {
  const ScratchFolder folder;
  write_bytes(folder / ".x.tmp", std::string(100000, 'x'));
  write_safetensors(folder / "x", {{"a", at::ones({4})}}, {});
  CHECK(folder.files() == 1);
  CHECK(read_safetensors(folder / "x").tensors.size() == 1);

  fs::create_symlink(folder / "x", folder / "link");
  write_safetensors(folder / "link", {{"a", at::ones({4})}, {"b", at::ones({4})}}, {});
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(read_safetensors(folder / "x").tensors.size() == 2);

  fs::create_directory(folder / "sub");
  check_refused(codes::kFileWrite, "it is a folder", [&] { write_safetensors(folder / "sub", {}, {}); });
  check_refused(codes::kFileWrite, "none/x", [&] { write_safetensors(folder / "none/x", {}, {}); });
}

TEST_CASE("safetensors: random damage is refused or harmless") {
  const ScratchFolder folder;
  write_safetensors(
      folder / "x",
      {{"a", at::rand({3, 2})}, {"b.weight", at::ones({5}).to(at::kBool)}, {"c", at::rand({2, 2, 2})}},
      {{"format", "pt"}});
  const std::string bytes = read_bytes(folder / "x");
  std::mt19937_64 random(1);
  int loaded = 0;
  for (int i = 0; i < 5000; ++i) {
    write_bytes(folder / "y", mutate(bytes, random, 300));
    loaded += works_or_is_refused([&] { read_safetensors(folder / "y"); }) ? 1 : 0;
  }
  CHECK(loaded > 0);
  CHECK(loaded < 5000);
}
