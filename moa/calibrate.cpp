#include "moa/calibrate.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/philox.h"
#include "infer/engine.h"

namespace ballast::moa {
namespace {

/// Tokens that decoding and encoding again may add: 8, as MoA leaves, fewer in short items.
int64_t spare(int64_t length) { return std::clamp<int64_t>(length / 16, 1, 8); }

class Calibration {
  public:
    Calibration(Context& context, model::Transformer& model, const data::Tokenizer& tokenizer,
                std::optional<uint32_t> begin_of_text, const Documents& documents, const CalibrateOptions& options,
                const std::function<void(int64_t)>& done)
        : context_(context),
          model_(model),
          tokenizer_(tokenizer),
          encoder_(tokenizer, model.config(), begin_of_text),
          documents_(documents),
          options_(options),
          done_(done) {
        for (const int64_t length : options.lengths) unanswered(length, 0);  // all of them before the first is answered
    }

    std::vector<Item> run() {
        for (const int64_t length : options_.lengths) {
            const size_t first = items_.size();
            for (int64_t i = 0; i < options_.count; ++i) items_.push_back(unanswered(length, i));
            if (options_.kind == ItemKind::model) answer(first, length);
            done_(answered_ += options_.count * options_.answer_tokens);
        }
        return std::move(items_);
    }

  private:
    int64_t instruction_tokens() const {
        if (options_.kind != ItemKind::model) return 0;
        return std::ssize(tokenizer_.encode(before())) + std::ssize(tokenizer_.encode(after()));
    }
    size_t mark() const {
        const size_t at = options_.instruction.find(kPassageMark);
        if (at == std::string::npos)
            throw UserError(fmt::format("the instruction has no {} where the passage shall stand", kPassageMark));
        return at;
    }
    std::string before() const { return options_.instruction.substr(0, mark()); }
    std::string after() const { return options_.instruction.substr(mark() + kPassageMark.size()); }

    int64_t passage_tokens(int64_t length) const {
        const int64_t answer = options_.kind == ItemKind::plain ? 0 : options_.answer_tokens;
        const int64_t room = length - encoder_.leading() - instruction_tokens() - answer - spare(length);
        if (length > model_.config().max_position_embeddings)
            throw UserError(fmt::format("items of {} positions: the model was trained on {}", length,
                                        model_.config().max_position_embeddings));
        if (room < answer || room < 1)
            throw UserError(fmt::format(
                "items of {} positions leave {} for a passage beside an instruction of {} and an answer of {}; choose "
                "longer ones or fewer --answer-tokens",
                length, room, instruction_tokens(), answer));
        return room;
    }

    /// Consecutive tokens of a document, the same for every kind of item.
    std::span<const uint32_t> passage(int64_t length, int64_t number, int64_t count) const {
        std::vector<const Documents::value_type*> long_enough;
        for (const auto& document : documents_)
            if (std::ssize(document) >= count) long_enough.push_back(&document);
        if (long_enough.empty())
            throw UserError(fmt::format("no document has the {} tokens of an item of {} positions", count, length));
        const auto& document = *long_enough[static_cast<size_t>(number) % long_enough.size()];
        const Philox random(options_.seed, fmt::format("passages of {}", length));
        const auto places = static_cast<double>(std::ssize(document) - count + 1);
        const auto first = static_cast<size_t>(random.uniform(static_cast<uint64_t>(number)) * places);
        return std::span(document).subspan(first, static_cast<size_t>(count));
    }

    Item unanswered(int64_t length, int64_t number) const {
        const bool by_human = options_.kind == ItemKind::human || options_.kind == ItemKind::human_context;
        const int64_t room = passage_tokens(length), answer = by_human ? options_.answer_tokens : 0;
        const auto tokens = passage(length, number, room + answer);
        const std::string text = tokenizer_.decode(tokens.first(static_cast<size_t>(room)));
        if (options_.kind == ItemKind::plain) return {"", text, options_.kind};
        if (by_human) return {text, tokenizer_.decode(tokens.subspan(static_cast<size_t>(room))), options_.kind};
        return {before() + text + after(), "", options_.kind};
    }

    /// The dense model's greedy answers to the items from `first` on; those it has nothing to say to are left out.
    void answer(size_t first, int64_t length) {
        constexpr int64_t kBatch = 4;
        const auto& config = model_.config();
        infer::Engine engine(
            context_, model_,
            infer::CachePlan::uniform(infer::CachePolicy::dense(), config.num_layers, config.num_heads),
            {.max_batch = std::min<int64_t>(kBatch, options_.count), .max_positions = length},
            std::min(config.vocab_size, tokenizer_.vocab_size()));
        std::vector<int64_t> texts;
        for (size_t i = first; i < items_.size(); ++i) texts.push_back(engine.submit(request(items_[i], length)));
        while (engine.step()) {
            if (interrupted()) throw RunError("interrupted before the end; no items were written");
            done_(answered_ + engine.decoded_tokens());
        }
        for (size_t i = 0; i < texts.size(); ++i) {
            const infer::Answer answer = engine.take(texts[i]);
            if (answer.finish == infer::Finish::not_finite)
                throw RunError(
                    fmt::format("the logits for token {} of the answer to item {} are not finite; {}; no items "
                                "were written",
                                answer.tokens.size() + 1, first + i + 1, infer::kNonFiniteAdvice));
            std::vector<uint32_t> ids;
            for (const infer::SampledToken& token : answer.tokens) ids.push_back(static_cast<uint32_t>(token.id));
            items_[first + i].answer = tokenizer_.decode(ids, /*skip_special=*/true);
        }
        std::erase_if(items_, [](const Item& item) { return item.answer.empty(); });
        if (items_.size() == first)
            throw UserError(
                fmt::format("the model ends every answer of {} positions before it begins; choose another "
                            "--instruction, or --kind human",
                            length));
    }

    infer::Request request(const Item& item, int64_t length) const {
        ItemTokens tokens = encoder_({item.prompt, "x", item.kind});  // an item has an answer
        infer::Request out;
        out.prompt.assign(tokens.ids.begin() + model_.config().num_sink_tokens,
                          tokens.ids.begin() + tokens.first_scored);
        out.max_tokens = std::min(options_.answer_tokens, length - tokens.first_scored);
        if (out.max_tokens < 1)
            throw UserError(
                fmt::format("a passage took {} more positions when it was encoded again than it had; choose longer "
                            "items",
                            tokens.first_scored - length + options_.answer_tokens));
        out.sampling.temperature = 0;
        if (const auto end = tokenizer_.end_of_text_id()) out.stop_ids = {static_cast<int32_t>(*end)};
        return out;
    }

    Context& context_;
    model::Transformer& model_;
    const data::Tokenizer& tokenizer_;
    ItemEncoder encoder_;
    const Documents& documents_;
    const CalibrateOptions& options_;
    const std::function<void(int64_t)>& done_;
    std::vector<Item> items_;
    int64_t answered_ = 0;  // tokens of lengths that are done, those that answers did not need among them
};

}  // namespace

Documents hold_out(Documents& documents, int64_t length, int64_t count, int64_t longest) {
    Documents out;
    int64_t missing = count * length;
    for (auto document = documents.rbegin(); document != documents.rend() && missing >= length; ++document) {
        if (std::ssize(*document) < length) continue;
        const int64_t taken = std::min(std::ssize(*document), missing);
        out.emplace_back(document->end() - taken, document->end());
        document->resize(document->size() - static_cast<size_t>(taken));
        missing -= taken;
    }
    const bool enough_left = std::any_of(documents.begin(), documents.end(),
                                         [&](const auto& document) { return std::ssize(document) >= longest; });
    if (missing >= length || !enough_left)
        throw UserError(fmt::format(
            "the text is too short for a validation on what was not profiled: {} items of {} positions, and one of {} "
            "to profile, take {} tokens, in one document or in several of at least {}; give a longer --text, or lower "
            "--validation-count or --validation-length",
            count, length, longest, count * length + longest, std::max(length, longest)));
    return out;
}

std::vector<Item> calibrate(Context& context, model::Transformer& model, const data::Tokenizer& tokenizer,
                            std::optional<uint32_t> begin_of_text, const Documents& documents,
                            const CalibrateOptions& options, const std::function<void(int64_t)>& done) {
    return Calibration(context, model, tokenizer, begin_of_text, documents, options, done).run();
}

}  // namespace ballast::moa
