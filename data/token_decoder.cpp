#include "data/token_decoder.h"

#include "data/byte_level.h"
#include "data/replace_all.h"
#include "data/utf8.h"

namespace ballast::data {
namespace {

std::string replaced(std::string_view text, const ReplaceStep& step) {
    std::string out;
    append_replaced(out, text, step);
    return out;
}

/// The end of the chain.
class Collect final : public DecodingStage {
  public:
    explicit Collect(std::string& out) : out_(out) {}
    void push(std::string_view text, bool) override { out_ += text; }
    void finish() override {}

  private:
    std::string& out_;
};

/// A stage with another behind it.
class Link : public DecodingStage {
  public:
    explicit Link(DecodingStage& next) : next_(next) {}
    void finish() override { next_.finish(); }

  protected:
    DecodingStage& next_;
};

class ReplaceStage final : public Link {
  public:
    ReplaceStage(DecodingStage& next, ReplaceStep step) : Link(next), step_(std::move(step)) {}
    void push(std::string_view text, bool begins) override { next_.push(replaced(text, step_), begins); }

  private:
    ReplaceStep step_;
};

/// Joins: only the first piece of all begins a token.
class FuseStage : public Link {
  public:
    using Link::Link;
    void push(std::string_view text, bool) override {
        next_.push(text, first_);
        first_ = false;
    }

  private:
    bool first_ = true;
};

class ByteLevelStage final : public FuseStage {
  public:
    using FuseStage::FuseStage;
    /// A token with a character that is no letter of a byte, an added one, stands for its plain text.
    void push(std::string_view text, bool begins) override {
        FuseStage::push(from_byte_level(text).value_or(std::string(text)), begins);
    }
};

class ByteFallbackStage final : public Link {
  public:
    using Link::Link;
    void push(std::string_view text, bool begins) override {
        if (const auto byte = byte_of_token(text)) {
            run_ += static_cast<char>(*byte);
            return;
        }
        flush();
        next_.push(text, begins);
    }
    void finish() override {
        flush();
        Link::finish();
    }

  private:
    void flush() {
        if (run_.empty()) return;
        if (valid_utf8_prefix(run_) == run_.size()) {
            next_.push(run_, true);
        } else {
            std::string replacement;
            append_utf8(replacement, kReplacementCharacter);
            for (size_t i = 0; i < run_.size(); ++i) next_.push(replacement, true);
        }
        run_.clear();
    }

    std::string run_;  // bytes that may yet become a character, or spoil it
};

class StripStage final : public Link {
  public:
    StripStage(DecodingStage& next, StripStep step) : Link(next), step_(std::move(step)) {}
    void push(std::string_view text, bool begins) override {
        if (begins) left_ = step_.start;
        while (left_ > 0 && text.starts_with(step_.content)) {
            text.remove_prefix(step_.content.size());
            --left_;
        }
        if (!text.empty()) left_ = 0;
        next_.push(text, begins);
    }

  private:
    StripStep step_;
    uint32_t left_ = 0;  // characters that may still go
};

class WordPieceStage final : public Link {
  public:
    WordPieceStage(DecodingStage& next, WordPieceDecoderStep step) : Link(next), step_(std::move(step)) {}
    void push(std::string_view text, bool begins) override {
        std::string token(text);
        if (!first_ && token.starts_with(step_.prefix)) {
            token.erase(0, step_.prefix.size());
        } else if (!first_) {
            token.insert(0, " ");
        }
        first_ = false;
        if (step_.cleanup) clean_up(token);
        next_.push(token, begins);
    }

  private:
    static void clean_up(std::string& token) {
        static const ReplaceStep kSteps[] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                             {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                             {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
        for (const ReplaceStep& step : kSteps) token = replaced(token, step);
    }

    WordPieceDecoderStep step_;
    bool first_ = true;
};

class MetaspaceStage final : public Link {
  public:
    MetaspaceStage(DecodingStage& next, const MetaspaceStep& step)
        : Link(next),
          space_{step.replacement, " "},
          drop_{step.replacement, ""},
          drops_first_(step.prepend_scheme != PrependScheme::never) {}
    void push(std::string_view text, bool begins) override {
        next_.push(replaced(text, first_ && drops_first_ ? drop_ : space_), begins);
        first_ = false;
    }

  private:
    ReplaceStep space_, drop_;
    bool drops_first_, first_ = true;
};

struct MakeStage {
    DecodingStage& next;
    using Made = std::unique_ptr<DecodingStage>;
    Made operator()(const ByteLevelDecoderStep&) const { return std::make_unique<ByteLevelStage>(next); }
    Made operator()(const ReplaceStep& step) const { return std::make_unique<ReplaceStage>(next, step); }
    Made operator()(const ByteFallbackStep&) const { return std::make_unique<ByteFallbackStage>(next); }
    Made operator()(const FuseStep&) const { return std::make_unique<FuseStage>(next); }
    Made operator()(const StripStep& step) const { return std::make_unique<StripStage>(next, step); }
    Made operator()(const WordPieceDecoderStep& step) const { return std::make_unique<WordPieceStage>(next, step); }
    Made operator()(const MetaspaceStep& step) const { return std::make_unique<MetaspaceStage>(next, step); }
};

/// What a step makes of one token that stands by itself.
struct ApplyToToken {
    std::string_view text;
    std::string operator()(const ByteLevelDecoderStep&) const {
        return from_byte_level(text).value_or(std::string(text));
    }
    std::string operator()(const ReplaceStep& step) const { return replaced(text, step); }
    std::string operator()(const ByteFallbackStep&) const {
        const auto byte = byte_of_token(text);
        return byte ? std::string(1, static_cast<char>(*byte)) : std::string(text);
    }
    std::string operator()(const FuseStep&) const { return std::string(text); }
    std::string operator()(const StripStep&) const { return std::string(text); }
    std::string operator()(const WordPieceDecoderStep& step) const {
        return text.starts_with(step.prefix) ? std::string(text.substr(step.prefix.size())) : " " + std::string(text);
    }
    std::string operator()(const MetaspaceStep& step) const { return replaced(text, {step.replacement, " "}); }
};

}  // namespace

TokenDecoder::TokenDecoder(const std::vector<TokenDecoderStep>& steps, std::string& out) {
    stages_.push_back(std::make_unique<Collect>(out));
    for (size_t i = steps.size(); i-- > 0;) stages_.push_back(std::visit(MakeStage{*stages_.back()}, steps[i]));
}

std::string bytes_of_token(const std::vector<TokenDecoderStep>& steps, std::string_view spelling) {
    std::string text(spelling);
    for (const TokenDecoderStep& step : steps) text = std::visit(ApplyToToken{text}, step);
    return text;
}

}  // namespace ballast::data
