// The words for an enumeration's values. Each enumeration has one table of them, beside its definition;
// arguments, files and messages take their words from there, and `info()` tells them to TypeScript, whose
// tests compare.
#pragma once

#include <string>

#include "core/check.h"

namespace ltrp {

template <typename Value>
struct Named {
  Value value;
  const char* name;
};

// `static constexpr Named<Value> all[]` for each enumeration, or a table with more columns.
template <typename Value>
struct Names;

template <typename Value>
std::string name_of(Value value) {
  for (const auto& entry : Names<Value>::all) {
    if (entry.value == value) return entry.name;
  }
  throw Error(codes::kInternal, "A value has no name.");
}

// Error(kInvalidArgument): `drop must be one of 'decoder', 'encoder', 'both'; got "x".` `given` is what came,
// as it is quoted.
template <typename Value>
Value value_of(const std::string& argument, const std::string& word, const std::string& given) {
  std::string allowed;
  for (const auto& entry : Names<Value>::all) {
    if (word == entry.name) return entry.value;
    allowed += std::string(allowed.empty() ? "'" : ", '") + entry.name + "'";
  }
  invalid(argument + " must be one of " + allowed + "; got " + given + ".");
}

}  // namespace ltrp
