// The kinds of models that files hold.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace ltrp {

// What a set of named tensors looks like before anything is known about it.
enum class Content {
  kAutoencoder,
  kEncoder,  // and nothing else
  kHead,     // and an encoder
  kRanker,   // as LTRP's training names it
};

// A configuration has one, `static const ModelKind kind`.
struct ModelKind {
  const char* word;    // in our own files and in JavaScript: "ranker"
  const char* phrase;  // in messages: "a ranker"
  // What it can be read from, the best first.
  std::vector<Content> from;
  bool hugging_face = true;  // whether Hugging Face has such models
  // How names begin, in any naming, of what such a file may have besides the model. It is left out.
  std::vector<std::string> left_out = {};
};

// What a loaded model cannot do for want of a part.
struct Lacking {
  std::string refusal;  // where all of it is needed: "holds an encoder alone, ..."
  std::string note;     // elsewhere
};

// What a foreign file tells about its model besides the shapes of its tensors. A configuration's recognise()
// is asked before its sizes are known.
class Evidence {
 public:
  virtual ~Evidence() = default;

  // Whether it has a layer or tensor of that canonical name.
  virtual bool has(const std::string& layer) const = 0;
  // Rows of a layer; nothing where it has none.
  virtual std::optional<int64_t> rows(const std::string& layer) const = 0;
  // Patches that its position tables are for.
  virtual std::optional<int64_t> patches() const = 0;
  // What the config.json beside it says, or else the arguments that its training recorded.
  virtual std::optional<bool> truth(const char* key) const = 0;
  virtual std::optional<std::string> word(const char* key) const = 0;

  virtual void note(const std::string& sentence) = 0;
  // Error(kUnsupported): `'PATH' needs WHAT.`
  [[noreturn]] virtual void unsupported(const std::string& what) const = 0;
};

}  // namespace ltrp
