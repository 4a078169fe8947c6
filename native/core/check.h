// Refusals of values. One style of message: what must hold, what came.
#pragma once

#include <cmath>
#include <cstdio>
#include <limits>
#include <string>

#include "core/error.h"

namespace ltrp {

// Which numbers an argument may be; NaN and infinities are in none.
struct Interval {
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
  bool low_open = false, high_open = false;

  bool contains(double value) const {
    return std::isfinite(value) && (low_open ? value > low : value >= low) &&
           (high_open ? value < high : value <= high);
  }
};
inline Interval closed(double low, double high) { return {low, high}; }
inline Interval open(double low, double high) { return {low, high, true, true}; }
inline Interval half_open(double low, double high) { return {low, high, false, true}; }
inline Interval at_least(double low) { return {.low = low}; }
inline Interval above(double low) { return {.low = low, .low_open = true}; }

inline std::string text_of(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  char text[32];
  std::snprintf(text, sizeof text, "%.16g", value);
  return text;
}

inline std::string text_of(const Interval& range) {
  if (std::isinf(range.low)) return "finite";
  if (std::isinf(range.high)) return (range.low_open ? "above " : "at least ") + text_of(range.low);
  return std::string("in ") + (range.low_open ? "(" : "[") + text_of(range.low) + ", " + text_of(range.high) +
         (range.high_open ? ")" : "]");
}

[[noreturn]] inline void invalid(const std::string& sentence) {
  throw Error(codes::kInvalidArgument, sentence);
}

// `maskRatio must be in (0, 1); got 2.`
inline void check_in(const Interval& allowed, const std::string& name, double value) {
  if (!allowed.contains(value))
    invalid(name + " must be " + text_of(allowed) + "; got " + text_of(value) + ".");
}

}  // namespace ltrp
