// What the helper keeps between requests, and the table of its operations.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "authors_loop.h"
#include "core/error.h"
#include "core/model/mae.h"
#include "core/model/ranker.h"
#include "core/training/trainer.h"

namespace ltrp::bench {

using Json = nlohmann::json;

struct Session {
  std::unique_ptr<MaskedAutoencoder> mae;
  std::unique_ptr<AuthorsLoop> loop;  // of `mae`
  std::unique_ptr<PatchRanker> ranker;
  at::Tensor images;   // [n, 3, H, W] normalised
  at::Tensor visible;  // [n, V] int64
  std::unique_ptr<Trainer> trainer;
  std::vector<at::Tensor> pictures;  // [H, W, 3] bytes, what it is trained on

  // The loaded thing, or Error(kInvalidArgument) saying that it was not loaded.
  const MaskedAutoencoder& loaded_mae() const;
  const PatchRanker& loaded_ranker() const;
  // The first `count` images.
  at::Tensor first_images(int64_t count) const;
  at::Tensor first_visible(int64_t count) const;
};

// One operation: the request's fields in, the reply's fields out; refusals are ltrp::Error.
using Operation = Json (*)(Session&, const Json& request);

// Null when there is no operation of this name.
Operation find_operation(const std::string& name);

// One per operation, each in the file that its name suggests.
Json hello(Session&, const Json&);
Json load(Session&, const Json&);
Json generate(Session&, const Json&);
Json scores(Session&, const Json&);
Json rank(Session&, const Json&);
Json reference(Session&, const Json&);
Json tokens(Session&, const Json&);
Json check(Session&, const Json&);
Json peak(Session&, const Json&);
Json bandwidth(Session&, const Json&);
Json kernels(Session&, const Json&);
Json training(Session&, const Json&);
Json steps(Session&, const Json&);

// A number of the request, or `fallback` when it is absent. Error(kInvalidArgument) naming the field unless
// it is within [low, high].
int64_t integer(const Json& request, const char* field, std::optional<int64_t> fallback, int64_t low,
                int64_t high);
double number(const Json& request, const char* field, std::optional<double> fallback, double low,
              double high);

// [n, m] floating -> nested arrays of numbers.
Json nested(const at::Tensor& matrix);

}  // namespace ltrp::bench
