#include "eval/recompute.h"

#include <algorithm>
#include <memory>
#include <span>

#include "eval/stop.h"
#include "model/sink_tokens.h"

namespace ballast::eval {
namespace {

constexpr int64_t kWindows = 16;  // that are run together

/// While the text still fits in the window all windows start at its beginning, so one pass serves them together. Of a
/// later window only the last position has a target, and the head reads no other.
class Windows {
  public:
    Windows(Context& context, model::Transformer& model, const TextStream& text, int64_t length, int64_t every)
        : context_(context),
          model_(model),
          text_(text),
          length_(std::min(length, static_cast<int64_t>(text.tokens.size()))),
          every_(every) {
        const auto targets = static_cast<size_t>(text.num_targets());
        losses_.values.resize(targets);
        losses_.scored.resize(targets);
    }

    TokenLosses run(const StreamingProgress& progress) {
        first_window();
        const auto last = static_cast<int64_t>(text_.tokens.size()) - 1, n = text_.num_sink_tokens;
        require(length_ > text_.num_leading(), "windows without text");
        const int64_t first =
            n + (length_ - n + every_ - 1) / every_ * every_;  // text positions that are multiples of every_
        std::vector<int64_t> ends;                             // stream positions whose successor is scored
        for (int64_t end = first; end < last; end += every_) {
            ends.push_back(end);
            if (std::ssize(ends) < kWindows && end + every_ < last) continue;
            stop_if_interrupted();
            windows(ends);
            progress(end + 1);
            ends.clear();
        }
        return std::move(losses_);
    }

  private:
    /// The pass over so many windows: the first one, a whole batch, or what is left at the end.
    model::Pass& pass_of(int64_t windows) {
        if (!pass_ || pass_->batch() != windows) {
            pass_.reset();  // its memory first
            pass_ = std::make_unique<model::Pass>(context_, model_, model::PassKind::forward, windows, length_);
        }
        return *pass_;
    }

    void first_window() {
        const auto length = static_cast<size_t>(length_);
        std::vector<int32_t> targets(length, model::kNoTarget);
        for (int64_t i = text_.num_sink_tokens; i < length_; i += every_)
            targets[static_cast<size_t>(i)] = text_.target(static_cast<size_t>(i));
        model::Pass& pass = pass_of(1);
        pass.set_tokens(std::span(text_.tokens).first(length), targets);
        pass.forward();
        const std::vector<float> losses = context_.read_floats(pass.losses());
        for (size_t i = 0; i < length; ++i)
            if (targets[i] != model::kNoTarget) score(static_cast<int64_t>(i), losses[i]);
    }

    void windows(const std::vector<int64_t>& ends) {
        const int64_t leading = text_.num_leading();
        std::vector<int32_t> ids, targets;
        for (const int64_t end : ends) {
            const auto begin = text_.tokens.begin(), next = begin + end + 1;
            ids.insert(ids.end(), begin, begin + leading);
            ids.insert(ids.end(), next - (length_ - leading), next);
            targets.push_back(text_.target(static_cast<size_t>(end)));
        }
        const std::vector<float> losses = context_.read_floats(pass_of(std::ssize(ends)).forward_last(ids, targets));
        for (size_t w = 0; w < ends.size(); ++w) score(ends[w], losses[w]);
    }

    void score(int64_t stream_position, float loss) {
        const auto target = static_cast<size_t>(stream_position - text_.num_sink_tokens);
        losses_.values[target] = loss;
        losses_.scored[target] = true;
    }

    Context& context_;
    model::Transformer& model_;
    const TextStream& text_;
    int64_t length_, every_;
    std::unique_ptr<model::Pass> pass_;
    TokenLosses losses_;
};

}  // namespace

MeasurementMemory recompute_memory(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                                   int64_t positions, int64_t length, int64_t every) {
    const int64_t window = std::min(length, positions), scored = (positions - window) / every + 1;
    return pass_memory(context, config, dtype, std::min(scored, kWindows), window, weights);
}

TokenLosses recompute_losses(Context& context, model::Transformer& model, const TextStream& text, int64_t length,
                             int64_t every, const StreamingProgress& progress) {
    return Windows(context, model, text, length, every).run(progress);
}

}  // namespace ballast::eval
