#include "eval/recompute.h"

#include <algorithm>

#include "eval/stop.h"
#include "model/sink_tokens.h"

namespace ballast::eval {
namespace {

/// While the text still fits in the window all windows start at its beginning, so one pass serves them together.
class Windows {
  public:
    Windows(Context& context, model::Transformer& model, const TextStream& text, int64_t length, int64_t every)
        : context_(context),
          text_(text),
          length_(std::min(length, static_cast<int64_t>(text.tokens.size()))),
          every_(every),
          pass_(context, model, model::PassKind::forward, kWindows, length_) {
        const auto targets = static_cast<size_t>(text.num_targets());
        losses_.values.resize(targets);
        losses_.scored.resize(targets);
    }

    TokenLosses run(const StreamingProgress& progress) {
        first_window();
        std::vector<int64_t> ends;  // stream positions whose successor is scored
        const auto last = static_cast<int64_t>(text_.tokens.size()) - 1, n = text_.num_sink_tokens;
        const int64_t first =
            n + (length_ - n + every_ - 1) / every_ * every_;  // text positions that are multiples of every_
        for (int64_t end = first; end < last; end += every_) {
            ends.push_back(end);
            if (static_cast<int64_t>(ends.size()) < kWindows && end + every_ < last) continue;
            stop_if_interrupted();
            windows(ends);
            progress(end + 1);
            ends.clear();
        }
        return std::move(losses_);
    }

  private:
    static constexpr int64_t kWindows = 16;

    void first_window() {
        std::vector<int32_t> ids(static_cast<size_t>(kWindows * length_), text_.tokens.front());
        std::vector<int32_t> targets(ids.size(), model::kNoTarget);
        std::copy_n(text_.tokens.begin(), length_, ids.begin());
        for (int64_t i = text_.num_sink_tokens; i < length_; i += every_)
            targets[static_cast<size_t>(i)] = text_.target(static_cast<size_t>(i));
        const std::vector<float> out = losses_of(ids, targets);
        for (int64_t i = 0; i < length_; ++i)
            if (const auto at = static_cast<size_t>(i); targets[at] != model::kNoTarget) score(i, out[at]);
    }

    void windows(const std::vector<int64_t>& ends) {
        const int64_t n = text_.num_sink_tokens;
        std::vector<int32_t> ids(static_cast<size_t>(kWindows * length_), text_.tokens.front());
        std::vector<int32_t> targets(ids.size(), model::kNoTarget);
        for (size_t w = 0; w < ends.size(); ++w) {
            const auto row = ids.begin() + static_cast<int64_t>(w) * length_;
            std::copy_n(text_.tokens.begin(), n, row);
            std::copy_n(text_.tokens.begin() + ends[w] + 1 - (length_ - n), length_ - n, row + n);
            targets[(w + 1) * static_cast<size_t>(length_) - 1] = text_.target(static_cast<size_t>(ends[w]));
        }
        const std::vector<float> out = losses_of(ids, targets);
        for (size_t w = 0; w < ends.size(); ++w) score(ends[w], out[(w + 1) * static_cast<size_t>(length_) - 1]);
    }

    std::vector<float> losses_of(const std::vector<int32_t>& ids, const std::vector<int32_t>& targets) {
        pass_.set_tokens(ids, targets);
        pass_.forward();
        return context_.read_floats(pass_.losses());
    }

    void score(int64_t stream_position, float loss) {
        const auto target = static_cast<size_t>(stream_position - text_.num_sink_tokens);
        losses_.values[target] = loss;
        losses_.scored[target] = true;
    }

    Context& context_;
    const TextStream& text_;
    int64_t length_, every_;
    model::Pass pass_;
    TokenLosses losses_;
};

}  // namespace

TokenLosses recompute_losses(Context& context, model::Transformer& model, const TextStream& text, int64_t length,
                             int64_t every, const StreamingProgress& progress) {
    return Windows(context, model, text, length, every).run(progress);
}

}  // namespace ballast::eval
