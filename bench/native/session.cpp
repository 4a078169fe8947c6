#include "session.h"

#include <ATen/ATen.h>

#include <map>

namespace ltrp::bench {

namespace {

[[noreturn]] void refuse(const std::string& message) { throw Error(codes::kInvalidArgument, message); }

// The field's value, or null when the request does not have it.
const Json* find(const Json& request, const char* field) {
  const auto found = request.find(field);
  return found == request.end() || found->is_null() ? nullptr : &*found;
}

template <typename Number>
Number checked(const char* field, Number value, Number low, Number high) {
  if (value >= low && value <= high) return value;
  refuse(std::string("'") + field + "' must be from " + Json(low).dump() + " to " + Json(high).dump() +
         ", not " + Json(value).dump() + ".");
}

}  // namespace

Operation find_operation(const std::string& name) {
  static const std::map<std::string, Operation> table{
      {"hello", hello}, {"load", load},           {"generate", generate}, {"scores", scores},
      {"rank", rank},   {"reference", reference}, {"tokens", tokens},     {"check", check},
      {"peak", peak},   {"bandwidth", bandwidth}, {"kernels", kernels},   {"training", training},
      {"steps", steps}};
  const auto found = table.find(name);
  return found == table.end() ? nullptr : found->second;
}

const MaskedAutoencoder& Session::loaded_mae() const {
  if (!mae) refuse("No autoencoder is loaded; send `load` with `mae` first.");
  return *mae;
}

const PatchRanker& Session::loaded_ranker() const {
  if (!ranker) refuse("No ranker is loaded; send `load` with `ranker` first.");
  return *ranker;
}

at::Tensor Session::first_images(int64_t count) const {
  if (!images.defined()) refuse("No images are loaded; send `load` with `images` first.");
  return images.slice(0, 0, checked<int64_t>("images", count, 1, images.size(0)));
}

at::Tensor Session::first_visible(int64_t count) const {
  if (!visible.defined()) refuse("No visible patches are loaded; send `load` with `visible` first.");
  return visible.slice(0, 0, checked<int64_t>("images", count, 1, visible.size(0)));
}

int64_t integer(const Json& request, const char* field, std::optional<int64_t> fallback, int64_t low,
                int64_t high) {
  const Json* value = find(request, field);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !value->is_number_integer())
    refuse(std::string("'") + field + "' must be a whole number.");
  return checked(field, value->get<int64_t>(), low, high);
}

double number(const Json& request, const char* field, std::optional<double> fallback, double low,
              double high) {
  const Json* value = find(request, field);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !value->is_number()) refuse(std::string("'") + field + "' must be a number.");
  return checked(field, value->get<double>(), low, high);
}

Json nested(const at::Tensor& matrix) {
  const at::Tensor values = matrix.to(at::kDouble).contiguous();
  Json rows = Json::array();
  for (int64_t i = 0; i < values.size(0); ++i) {
    const double* row = values.const_data_ptr<double>() + i * values.size(1);
    rows.push_back(std::vector<double>(row, row + values.size(1)));
  }
  return rows;
}

}  // namespace ltrp::bench
