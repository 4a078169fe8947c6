#include "core/selectors/selectors.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>

#include <atomic>

#include "core/check.h"
#include "core/engine/finite.h"
#include "kernels/backend.h"
#include "kernels/parallel.h"
#include "kernels/pixels.h"

namespace ltrp {
namespace {

template <typename Model>
const Model* asked(const SelectorModel& model) {
  const auto* found = std::get_if<std::shared_ptr<const Model>>(&model);
  return found != nullptr ? found->get() : nullptr;
}

// What came, for messages.
std::string described(const SelectorModel& model) {
  if (asked<Teacher>(model) != nullptr) return "a masked autoencoder";
  if (asked<InferenceRanker>(model) != nullptr) return "a ranker";
  const auto* classifier = asked<OpenClassifier>(model);
  if (classifier == nullptr) return "none";
  if (classifier->config().classes == 0) return "a vision transformer without a head";
  return "a vision transformer whose pooling is '" + name_of(classifier->config().pooling) + "'";
}

void check_model(const Selector& selector, const SelectorOptions& options) {
  const SelectorModel& model = options.model;
  const bool autoencoder = asked<Teacher>(model) != nullptr;
  const auto* classifier = asked<OpenClassifier>(model);
  const bool cls = classifier != nullptr && classifier->config().pooling == Pooling::kCls;
  const bool head = classifier != nullptr && classifier->config().classes > 0 &&
                    classifier->config().pooling != Pooling::kQueries;
  const auto need = [&](bool there, const char* what) {
    if (!there)
      invalid(std::string(options.model_name) + " must be " + what + " for the selector '" + selector.name +
              "'; got " + described(model) + ".");
  };
  switch (selector.needs) {
    case Needs::kNothing:
      break;
    case Needs::kAutoencoder:
      need(autoencoder, "a masked autoencoder");
      break;
    case Needs::kRanker:
      need(asked<InferenceRanker>(model) != nullptr, "a ranker");
      break;
    case Needs::kEncoder:
      need(autoencoder || classifier != nullptr, "a masked autoencoder or a vision transformer");
      break;
    case Needs::kBareEncoder:
      need(autoencoder || (classifier != nullptr && classifier->config().classes == 0),
           "a masked autoencoder or a vision transformer without a head");
      break;
    case Needs::kClassifier:
      need(head, "a vision transformer with a linear head");
      break;
    case Needs::kClsClassifier:
      // The CLS token of a model that pools the patches was trained for nothing.
      need(head && cls, "a vision transformer with a head and pooling 'cls', whose attention is trained,");
      break;
  }
}

const VitConfig* config_of(const SelectorModel& model) {
  if (const auto* teacher = asked<Teacher>(model)) return &teacher->config();
  if (const auto* ranker = asked<InferenceRanker>(model)) return &ranker->config();
  if (const auto* classifier = asked<OpenClassifier>(model)) return &classifier->config();
  return nullptr;
}

at::Device device_of(const SelectorModel& model) {
  if (const auto* teacher = asked<Teacher>(model)) return teacher->model().device();
  if (const auto* ranker = asked<InferenceRanker>(model)) return ranker->model().device();
  if (const auto* classifier = asked<OpenClassifier>(model)) return classifier->model().vit().device();
  return at::kCPU;
}

void check_classes(const SelectorOptions& options, int64_t images) {
  if (!options.classes) return;
  const auto* classifier = asked<OpenClassifier>(options.model);
  if (options.classes->numel() != images) {
    invalid("classes must hold a class for each of the " + std::to_string(images) + " images; got " +
            std::to_string(options.classes->numel()) + ".");
  }
  const double most = classifier != nullptr ? static_cast<double>(classifier->config().classes) : 0x1p31;
  const auto* ids = options.classes->const_data_ptr<int64_t>();
  for (int64_t i = 0; i < images; ++i)
    check_in(half_open(0, most), "classes[" + std::to_string(i) + "]", static_cast<double>(ids[i]));
}

}  // namespace

bool pools_patches(const SelectorModel& model) {
  const auto* classifier = asked<OpenClassifier>(model);
  if (classifier == nullptr) return false;
  const Pooling pooling = classifier->config().pooling;
  return pooling == Pooling::kMean || pooling == Pooling::kNormedMean;
}

const Selector& selector_named(const std::string& name) {
  std::string names;
  for (const Selector& selector : kSelectors) {
    if (name == selector.name) return selector;
    names += std::string(names.empty() ? "'" : ", '") + selector.name + "'";
  }
  invalid("selector must be one of " + names + "; got \"" + name + "\".");
}

Grid check_selector(const at::Tensor& images, const SelectorOptions& options) {
  const Selector& selector = selector_named(options.selector);
  const bool bytes = images.scalar_type() == at::kByte;
  const int64_t height = images.size(bytes ? 1 : 2), width = images.size(bytes ? 2 : 3);
  const int64_t patch = options.patch_size;
  check_in(closed(1, 1 << 16), "patchSize", static_cast<double>(patch));
  if (height % patch != 0 || width % patch != 0) {
    invalid("patchSize must divide the images' " + std::to_string(height) + " x " + std::to_string(width) +
            " pixels; got " + std::to_string(patch) + ".");
  }
  const Grid grid{height / patch, width / patch};
  if (options.keep != 0 || selector.needs_keep) {
    check_in(closed(1, static_cast<double>(grid.patches())), "keep", static_cast<double>(options.keep));
  }
  check_model(selector, options);
  const VitConfig* config = config_of(options.model);
  if (selector.needs != Needs::kNothing && config->patch_size != patch) {
    invalid("patchSize must be the model's " + std::to_string(config->patch_size) + " for the selector '" +
            selector.name + "'; got " + std::to_string(patch) + ".");
  }
  if (const auto* ranker = asked<InferenceRanker>(options.model); selector.needs == Needs::kRanker)
    ranker->grid_of(images);
  check_classes(options, images.size(0));
  return grid;
}

at::Tensor SelectorInput::pixels() const {
  const auto colours = [](const std::array<double, 3>& values) {
    return at::tensor(at::ArrayRef<double>(values), at::kDouble).view({3, 1, 1});
  };
  const at::Tensor image = given[0].to(at::kDouble);
  return given.scalar_type() == at::kByte ? image.permute({2, 0, 1}) / 255
                                          : image * colours(options.std) + colours(options.mean);
}

at::Tensor SelectorInput::patches() const {
  const at::Tensor normalized =
      given.scalar_type() == at::kByte ? normalize_pixels(given, options.mean, options.std) : given;
  return patchify_channels_last(normalized, options.patch_size)[0];
}

VitSteps SelectorInput::steps() const {
  if (const auto* teacher = asked<Teacher>(options.model)) return VitSteps(teacher->model().vit());
  return VitSteps(std::get<std::shared_ptr<const OpenClassifier>>(options.model)->vit());
}

at::Tensor SelectorInput::on_device() const { return given.to(device_of(options.model)); }

at::Tensor selector_scores(const at::Tensor& images, const SelectorOptions& options,
                           const RunContext& context) {
  const Grid grid = check_selector(images, options);
  const Selector& selector = selector_named(options.selector);
  const int64_t n = images.size(0);
  at::Tensor scores;
  if (selector.score_all != nullptr) {
    scores = selector.score_all(images, options, context).to(at::kCPU, at::kFloat);
  } else {
    scores = at::empty({n, grid.patches()}, at::kFloat);
    for_each_image(options, n, context, [&](int64_t i) {
      const c10::InferenceMode guard;
      scores[i].copy_(
          selector.score({options, grid, options.first_image + i, images.narrow(0, i, 1), context}));
    });
  }
  check_finite_result(scores, "scores");
  return scores;
}

void for_each_image(const SelectorOptions& options, int64_t images, const RunContext& context,
                    const std::function<void(int64_t)>& body) {
  std::atomic<int64_t> done{0};
  const auto work = [&](int64_t i, int) {
    context.check();
    const c10::DeviceGuard on_device(device_of(options.model));
    body(i);
    ++done;
    if (at::get_thread_num() == 0) context.progress(done, images);
  };
  if (backend_of(device_of(options.model).type()).asynchronous) {
    for (int64_t i = 0; i < images; ++i) work(i, 0);
  } else {
    for_tasks(
        images, [] { return 0; }, work);
  }
  context.progress(images, images);
}

at::Tensor highest(const at::Tensor& scores, int64_t keep) {
  const at::Tensor order = scores.argsort(/*stable=*/true, /*dim=*/1, /*descending=*/true);
  return std::get<0>(order.slice(1, 0, keep).sort(1));
}

at::Tensor scores_of_order(const at::Tensor& order) {
  const int64_t count = order.numel();
  const at::Tensor falling = at::arange(count, 0, -1, at::kFloat) / static_cast<double>(count);
  return at::empty({count}, at::kFloat).scatter_(0, order, falling);
}

}  // namespace ltrp
