// Pieces of error messages. Names come from files that may be hostile: they are shortened and stripped of
// control characters.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ltrp {

// 'name', at most 160 bytes of it, control characters replaced by '?'.
inline std::string quote_name(std::string_view name) {
  constexpr size_t kMaxBytes = 160;
  size_t length = name.size();
  if (length > kMaxBytes) {
    length = kMaxBytes;
    while (length > 0 && (static_cast<unsigned char>(name[length]) & 0xC0) == 0x80)
      --length;  // not inside a UTF-8 character
  }
  std::string text = "'";
  for (const char c : name.substr(0, length))
    text += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
  return text + (length < name.size() ? "...'" : "'");
}

// 'a', 'b' and 12 more: as many names as fit into about `max_bytes`.
template <typename Names>
std::string list_names(const Names& names, size_t max_bytes) {
  std::string text;
  size_t left = names.size();
  for (const auto& name : names) {
    const std::string quoted = quote_name(name);
    if (!text.empty() && text.size() + quoted.size() > max_bytes) break;
    text += (text.empty() ? "" : ", ") + quoted;
    --left;
  }
  return left == 0 ? text : text + " and " + std::to_string(left) + " more";
}

// [2, 3, 4]
template <typename Sizes>
std::string shape_text(const Sizes& sizes) {
  std::string text = "[";
  const char* separator = "";
  for (const int64_t size : sizes) {
    text += separator + std::to_string(size);
    separator = ", ";
  }
  return text + "]";
}

}  // namespace ltrp
