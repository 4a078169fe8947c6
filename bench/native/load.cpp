// `load`: models, images and visible patches from files; `generate`: models and images out of a seed.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <fstream>

#include "core/checkpoint/checkpoint.h"
#include "core/engine/masking.h"
#include "core/random.h"
#include "geometries.h"
#include "session.h"

namespace ltrp::bench {

namespace {

[[noreturn]] void refuse(const std::string& message) { throw Error(codes::kInvalidArgument, message); }

bool has(const Json& request, const char* field) {
  return request.contains(field) && !request[field].is_null();
}

// {path, shape}: raw little-endian float32.
at::Tensor read_tensor(const Json& description) {
  const std::string path = description.at("path");
  const auto shape = description.at("shape").get<std::vector<int64_t>>();
  int64_t count = 1;
  for (const int64_t size : shape) {
    if (size < 1 || size > (int64_t{1} << 32) / count) refuse("The shape of " + path + " is out of range.");
    count *= size;
  }
  at::Tensor tensor = at::empty(shape, at::kFloat);
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(codes::kFileNotFound, "Cannot open " + path + ".");
  file.read(static_cast<char*>(tensor.data_ptr()), count * static_cast<int64_t>(sizeof(float)));
  if (!file || file.peek() != std::ifstream::traits_type::eof()) {
    throw Error(codes::kFileRead,
                path + " does not hold exactly " + std::to_string(count) + " float32 numbers.");
  }
  return tensor;
}

void write_tensor(const std::string& path, const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kFloat).contiguous();
  std::ofstream file(path, std::ios::binary);
  file.write(static_cast<const char*>(values.const_data_ptr()),
             static_cast<std::streamsize>(values.nbytes()));
  if (!file.flush()) throw Error(codes::kFileWrite, "Cannot write " + path + ".");
}

at::Tensor read_visible(const Json& rows, int64_t patches) {
  const auto ids = rows.get<std::vector<std::vector<int64_t>>>();
  if (ids.empty()) refuse("'visible' has no rows.");
  std::vector<at::Tensor> tensors;
  for (const std::vector<int64_t>& row : ids) {
    if (row.size() != ids.front().size()) refuse("The rows of 'visible' must be of one length.");
    tensors.push_back(at::tensor(row, at::kLong));
  }
  at::Tensor visible = at::stack(tensors);
  check_visible(visible, visible.size(0), patches);
  return visible;
}

// Biases off zero and norms off one, as in a trained model: a contender that forgets one must not agree.
void perturb(const TensorMap& tensors, uint64_t seed) {
  at::Generator generator = generator_for(seed, 1);
  for (const auto& [name, tensor] : tensors) {
    if (tensor.dim() == 1) tensor.add_(at::empty_like(tensor).normal_(0, 0.02, generator));
  }
}

}  // namespace

Json load(Session& session, const Json& request) {
  const at::NoGradGuard no_grad;
  if (has(request, "mae")) {
    session.loop.reset();
    session.mae = std::make_unique<MaskedAutoencoder>(load_checkpoint<MaeConfig>(request["mae"]));
    session.loop = std::make_unique<AuthorsLoop>(*session.mae);
  }
  if (has(request, "ranker")) {
    session.ranker = std::make_unique<PatchRanker>(load_checkpoint<RankerConfig>(request["ranker"]));
    keep_conversions(session.ranker->tensors());
  }
  if (has(request, "images")) session.images = read_tensor(request["images"]);
  if (has(request, "visible")) {
    const Grid grid = session.loaded_mae().grid_of(session.first_images(1));
    session.visible = read_visible(request["visible"], grid.patches());
  }
  return Json::object();
}

Json generate(Session&, const Json& request) {
  const at::NoGradGuard no_grad;
  const auto seed = static_cast<uint64_t>(integer(request, "seed", 0, 0, int64_t{1} << 53));
  if (has(request, "mae")) {
    const MaskedAutoencoder model = MaskedAutoencoder::initialized(mae_geometry(request["mae"]), seed);
    perturb(model.tensors(), seed);
    save_checkpoint(request["mae"].at("path"), model.config(), model.tensors(), StoredType::kFloat32);
  }
  if (has(request, "ranker")) {
    const PatchRanker model = PatchRanker::initialized(ranker_geometry(request["ranker"]), seed);
    perturb(model.tensors(), seed);
    save_checkpoint(request["ranker"].at("path"), model.config(), model.tensors(), StoredType::kFloat32);
  }
  if (has(request, "images")) {
    const Json& images = request["images"];
    const std::vector<int64_t> shape{integer(images, "count", {}, 1, 4096), 3,
                                     integer(images, "height", 224, 1, 4096),
                                     integer(images, "width", 224, 1, 4096)};
    at::Generator generator = generator_for(seed, 2);
    write_tensor(images.at("path"), at::empty(shape, at::kFloat).normal_(0, 1, generator));
  }
  return Json::object();
}

Json tokens(Session& session, const Json& request) {
  const at::NoGradGuard no_grad;
  const MaskedAutoencoder& model = session.loaded_mae();
  const int64_t count = session.first_images(1).defined() ? session.images.size(0) : 0;
  const at::Tensor visible = session.first_visible(count);
  std::vector<at::Tensor> parts;
  // One image at a time: the result is all that needs memory.
  for (int64_t i = 0; i < count; ++i) {
    const at::Tensor image = session.images.slice(0, i, i + 1), ids = visible.slice(0, i, i + 1);
    parts.push_back(model.decoder_input(model.encode(image, ids), ids, model.grid_of(image)));
  }
  const at::Tensor all = at::cat(parts);
  write_tensor(request.at("path"), all);
  return {{"shape", all.sizes().vec()}};
}

}  // namespace ltrp::bench
