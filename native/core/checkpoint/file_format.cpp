#include "core/checkpoint/file_format.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <string_view>

#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

using namespace std::string_view_literals;

constexpr uint64_t kLookedAt = 1024;
constexpr const char* kSaveAgain =
    "load it with a PyTorch that can and save its state_dict again with torch.save";
constexpr const char* kReadable = "safetensors files and those of torch.save are read";

[[noreturn]] void refuse(const InputFile& file, const std::string& what) {
  throw Error(codes::kCheckpointFormat, "'" + file.path() + "' " + what + ".");
}

struct Signature {
  std::string_view bytes;
  size_t offset;
  const char* what;    // "is ..."
  const char* advice;  // after a semicolon
};
constexpr Signature kSignatures[] = {
    {"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"sv, 0, "in the format of PyTorch before 1.6",
     kSaveAgain},
    {"ustar"sv, 257, "a tar archive, the format of PyTorch before 0.2 or a packed folder",
     "unpack a folder; otherwise load it with a PyTorch that can and save its state_dict again with "
     "torch.save"},
    {"\x89HDF\r\n\x1a\n"sv, 0, "an HDF5 file (Keras, TensorFlow)", kReadable},
    {"GGUF"sv, 0, "a GGUF file (llama.cpp)", kReadable},
    {"TFL3"sv, 4, "a TensorFlow Lite model", kReadable},
    {"\x93NUMPY"sv, 0, "a NumPy array (.npy)", kReadable},
    {"\x1f\x8b"sv, 0, "compressed with gzip", "unpack it first"},
    {"\xfd"
     "7zXZ\0"sv,
     0, "compressed with xz", "unpack it first"},
    {"BZh"sv, 0, "compressed with bzip2", "unpack it first"},
    {"\x28\xb5\x2f\xfd"sv, 0, "compressed with Zstandard", "unpack it first"},
    {"7z\xbc\xaf\x27\x1c"sv, 0, "a 7-Zip archive", "unpack it first"},
    {"Rar!\x1a\x07"sv, 0, "a RAR archive", "unpack it first"},
    {"\x89PNG"sv, 0, "a PNG picture, not a model", kReadable},
    {"\xff\xd8\xff"sv, 0, "a JPEG picture, not a model", kReadable},
    {"%PDF"sv, 0, "a PDF document, not a model", kReadable},
    {"version https://git-lfs.github.com/"sv, 0, "a pointer of Git LFS, not the file itself",
     "fetch it with git lfs pull"},
};

bool is_text(std::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= 0x20 || byte == '\t' || byte == '\n' || byte == '\r';
  });
}

std::string lower_case_start(std::string_view text) {
  const size_t begin = std::min(text.find_first_not_of(" \t\r\n\xef\xbb\xbf"), text.size());
  std::string start(text.substr(begin, 64));
  std::transform(start.begin(), start.end(), start.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return start;
}

// A model message begins with its version and goes on with another field.
bool is_onnx(std::string_view bytes) {
  constexpr std::string_view kNextFields = "\x12\x1a\x22\x28\x32\x3a\x42\x72";
  return bytes.size() > 2 && bytes[0] == 8 && bytes[1] > 0 && bytes[1] < 64 &&
         kNextFields.find(bytes[2]) != std::string_view::npos;
}

std::string first_bytes(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const char c : bytes.substr(0, 8)) {
    const auto byte = static_cast<unsigned char>(c);
    if (!text.empty()) text += ' ';
    text += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return text;
}

}  // namespace

FileFormat checkpoint_format(const InputFile& file) {
  std::string start(std::min(file.size(), kLookedAt), '\0');
  file.read_at(0, start.data(), start.size());
  const std::string_view bytes = start;
  if (bytes.empty()) refuse(file, "is empty: it has 0 bytes; the download or copy did not finish");
  if (bytes.starts_with("PK\x03\x04"sv) || bytes.starts_with("PK\x05\x06"sv)) return FileFormat::kZip;
  for (const Signature& signature : kSignatures) {
    if (bytes.size() > signature.offset && bytes.substr(signature.offset).starts_with(signature.bytes)) {
      refuse(file, std::string("is ") + signature.what + "; " + signature.advice);
    }
  }
  constexpr size_t kHeader = 8;
  if (bytes.size() > kHeader && bytes[kHeader] == '{') return FileFormat::kSafetensors;
  if (is_onnx(bytes)) refuse(file, std::string("is an ONNX model; ") + kReadable);
  if (bytes.size() > 1 && bytes[0] == '\x80' && bytes[1] > 0 && bytes[1] <= 5) {
    refuse(file, std::string("is a plain pickle, which torch.save since 1.6 does not write; ") + kSaveAgain);
  }
  if (std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == 0; })) {
    refuse(file, "begins with " + std::to_string(bytes.size()) +
                     " bytes that are zero; the download or copy did not finish");
  }
  if (is_text(bytes)) {
    const std::string text = lower_case_start(bytes);
    for (const char* tag : {"<!doctype html", "<html", "<head", "<?xml", "<body"}) {
      if (text.starts_with(tag))
        refuse(file, "is a web page, not a model; the download needs another address or a login");
    }
    if (text.starts_with('{') || text.starts_with('[')) {
      refuse(file, "is JSON, not a model; give the file with the weights, or the folder that has both");
    }
    refuse(file, "is a text, not a model; it begins with " + quote_name(bytes.substr(0, 60)));
  }
  if (file.path().ends_with(".safetensors"))
    return FileFormat::kSafetensors;  // whose reader says what is wrong
  refuse(file,
         "is no checkpoint that is known: it begins with the bytes " + first_bytes(bytes) + "; " + kReadable);
}

}  // namespace ltrp
