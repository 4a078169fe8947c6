// How a configuration tells which tensors its model has.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace ltrp {

// A stack of pre-norm transformer blocks.
struct TransformerConfig {
  int64_t dim = 0;
  int64_t depth = 0;
  int64_t heads = 0;
  int64_t mlp_dim = 0;  // hidden width of the MLP, 4 * dim in all published models
  bool operator==(const TransformerConfig&) const = default;

  template <typename Self, typename Visit>
  static void each(Self& c, Visit&& visit) {
    visit("dim", c.dim);
    visit("depth", c.depth);
    visit("heads", c.heads);
    visit("mlp_dim", c.mlp_dim);
  }
};

// A size along one axis: times * field + plus. `field` is where the configuration keeps the value, so that
// the shapes of a file can be read back into it; a size that no field has is `plus` alone.
struct Extent {
  Extent(int64_t size) : plus(size) {}                         // NOLINT(google-explicit-constructor)
  Extent(int64_t* field, int64_t times = 1, int64_t plus = 0)  // NOLINT(google-explicit-constructor)
      : field(field), times(times), plus(plus) {}
  int64_t size() const { return field ? times * *field + plus : plus; }

  int64_t* field = nullptr;
  int64_t times = 1, plus = 0;
};
using Shape = std::vector<Extent>;

// What goes through a model's tensors, by canonical name (weights.h). A configuration calls it for each; it
// may write to the fields that extents point to.
class TensorVisitor {
 public:
  virtual ~TensorVisitor() = default;

  virtual void tensor(const std::string& name, const Shape& shape) = 0;
  // Table [1, 1 + patches, dim].
  virtual void positions(const std::string& name, int64_t* dim) { tensor(name, {1, {&patches, 1, 1}, dim}); }
  // Whether a part is there that a model may lack. `said` is what the configuration says. Where that is being
  // read off a file, the answer is whether the file has any of `layers`.
  virtual bool has(bool said, std::initializer_list<const char*> /*layers*/) { return said; }
  // `prefix`: "blocks.". May set the depth.
  virtual void transformer(const std::string& prefix, TransformerConfig& config);

  // A linear map or a norm: weight of that shape, and a bias.
  void layer(const std::string& name, const Shape& weight) {
    tensor(name + ".bias", {weight.front()});
    tensor(name + ".weight", weight);
  }

  // Of the model's own grid.
  int64_t patches = 0;
};

}  // namespace ltrp
