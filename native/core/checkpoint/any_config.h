// A model's configuration for code that reads and writes files and need not know which model it is.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>

#include "core/checkpoint/config_json.h"
#include "core/weights/config.h"
#include "core/weights/kind.h"

namespace ltrp {

class AnyConfig {
 public:
  virtual ~AnyConfig() = default;
  virtual const ModelKind& kind() const = 0;
  virtual VitConfig& vit() = 0;
  virtual void validate() const = 0;
  virtual nlohmann::json to_json() const = 0;
  virtual void from_json(const nlohmann::json& value) = 0;  // as config_from_json()
  virtual void each_tensor(TensorVisitor& visitor) = 0;
  virtual void each_transformer(const std::function<void(const char* name, TransformerConfig&)>& visit) = 0;
  virtual void recognise(Evidence& file) = 0;
  virtual std::optional<Lacking> lacking() const = 0;
  virtual bool* normalized_target() = 0;  // null where there is no such field
};

template <typename Config>
class ConfigOf final : public AnyConfig {
 public:
  explicit ConfigOf(Config& config) : config_(config) {}
  const ModelKind& kind() const override { return Config::kind; }
  VitConfig& vit() override { return config_; }
  void validate() const override { ltrp::validate(config_); }
  nlohmann::json to_json() const override { return config_to_json(config_); }
  void from_json(const nlohmann::json& value) override { config_ = config_from_json<Config>(value); }
  void each_tensor(TensorVisitor& visitor) override {
    visitor.patches = config_.grid().patches();
    Config::each_tensor(config_, visitor);
  }
  void each_transformer(const std::function<void(const char*, TransformerConfig&)>& visit) override {
    Config::each(config_, [&](const char* name, auto& field) {
      using Field = std::decay_t<decltype(field)>;
      if constexpr (std::is_same_v<Field, TransformerConfig>) visit(name, field);
      if constexpr (std::is_same_v<Field, std::optional<TransformerConfig>>) {
        if (field) visit(name, *field);
      }
    });
  }
  void recognise(Evidence& file) override {
    if constexpr (requires { config_.recognise(file); }) config_.recognise(file);
  }
  std::optional<Lacking> lacking() const override {
    if constexpr (requires { config_.lacking(); }) return config_.lacking();
    return std::nullopt;
  }
  bool* normalized_target() override {
    if constexpr (requires { config_.normalized_target; }) return &config_.normalized_target;
    return nullptr;
  }

 private:
  Config& config_;
};

}  // namespace ltrp
