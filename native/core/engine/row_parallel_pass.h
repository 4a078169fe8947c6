// One forward pass of a few images that several threads share: each takes some of the rows (tokens) through
// the stack. Everything in a block is done row by row but attention, which reads the keys and values of all
// the image's tokens; so the threads meet once in every block, where q, k and v of all rows are known.
#pragma once

#include <vector>

#include "core/engine/low_precision_stack.h"

namespace ltrp {

class RowParallelPass {
 public:
  // Tokens [first, end) of an image.
  struct Segment {
    int64_t image, first, end;
    int64_t size() const { return end - first; }
  };

  // `images` of `tokens` rows each, rows shared out evenly among `parts`, which may be at most as many as
  // there are rows. With `first_only` the output is that of each image's first token.
  RowParallelPass(const LowPrecisionStack& stack, int64_t images, int64_t tokens, int64_t parts,
                  bool first_only);

  // Stages for for_stages(): before stage 0 of a part enter() is called, after its last one leave().
  int64_t stages() const { return static_cast<int64_t>(stack_.depth()) + 1; }
  void advance(int64_t stage, int64_t part);

  // Whose rows the part has, in order.
  const std::vector<Segment>& segments(int64_t part) const { return at(part).segments; }
  // x [rows of the part, E] float32, overwritten.
  void enter(int64_t part, const at::Tensor& x);
  // What the final norm yields for the part's rows, [R, E]; with `first_only` for the rows of those of its
  // segments that begin an image.
  at::Tensor leave(int64_t part);

 private:
  struct Part {
    int64_t begin = 0;  // among all rows
    std::vector<Segment> segments;
    LowPrecisionStack::Rows rows;
  };
  Part& at(int64_t part) { return parts_[static_cast<size_t>(part)]; }
  const Part& at(int64_t part) const { return parts_[static_cast<size_t>(part)]; }
  ProductRows& qkv(size_t block) { return qkv_[block % 2]; }
  void project(size_t block, Part& part);
  at::Tensor attend(size_t block, const Part& part, bool first_only);
  static void keep_first(Part& part);

  const LowPrecisionStack& stack_;
  int64_t tokens_;
  bool first_only_;
  std::vector<Part> parts_;
  at::Tensor slots_;  // [tokens] int32: 0, 1, ...
  // Of all rows. Two in turn: while a part still reads those of one block, others write the next one's.
  ProductRows qkv_[2];
};

}  // namespace ltrp
