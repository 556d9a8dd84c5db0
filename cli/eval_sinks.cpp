// ballast eval sinks
#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <iostream>
#include <optional>

#include "base/atomic_file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/eval_commands.h"
#include "cli/memory.h"
#include "cli/text_options.h"
#include "eval/encoder_sinks.h"
#include "eval/input_ids.h"
#include "eval/last_query.h"
#include "eval/measurement.h"
#include "eval/results_json.h"
#include "eval/sinks.h"

namespace ballast {
namespace {

struct SinksCommand {
    std::string model, maps, ids;
    eval::SinkOptions options;
    bool sentences = false, begin_of_text = false;
    int64_t last_query = 0, last_query_sequences = 16;
    std::string json;
    TextOptions text;
    std::vector<std::string> for_decoders;  // the given options that mean nothing to an encoder

    void run() {
        for (const std::string& output : {json, maps}) text.require_output(output, std::array{model, ids});
        require_different_outputs({{"--json", json}, {"--maps", maps}});
        options.maps = !maps.empty();
        Context context = text.make_context();
        const InterruptGuard guard;
        if (model::is_bert_folder(model))
            of_encoder(context);
        else
            of_decoder(context);
    }

  private:
    void of_encoder(Context& context) const {
        if (!for_decoders.empty())
            throw UserError(fmt::format("{} {} for decoders, and {} holds an encoder", fmt::join(for_decoders, ", "),
                                        for_decoders.size() == 1 ? "is" : "are", model));
        if (text.dtype != "f32") throw UserError("--dtype: encoders are computed in f32; leave it out");
        const model::Bert bert(context, model);
        const model::BertConfig& config = bert.config();
        const std::optional<eval::InputIds> input = read_ids(config.vocab_size);
        const int64_t length = std::min(input ? input->length : options.length,
                                        config.max_position_embeddings);  // longer ones are refused
        require_memory(eval::encoder_sinks_memory(config, length, options.maps), context, kBesideWeights, advice());
        const std::vector<std::vector<int32_t>> all =
            input ? rows_of(*input)
                  : text.encoder_sequences(train::encoder_source(model), options.length, options.sequences);
        Progress progress("sinks", static_cast<int64_t>(all.size()), "sequences");
        eval::EncoderSinkResult result = eval::evaluate_encoder_sinks(context, bert, all, options.maps,
                                                                      [&](int64_t done) { progress.update(done); });
        progress.finish();
        print(result);
        if (!maps.empty()) eval::write_maps(maps, result);
        if (!json.empty()) eval::write_measurements(json, {model, -1, {std::move(result)}});
    }

    /// Of --ids; empty: they were not given.
    std::optional<eval::InputIds> read_ids(int64_t vocab_size) const {
        if (ids.empty()) return std::nullopt;
        return eval::read_input_ids(ids, vocab_size);
    }

    void require_memory_of_decoder(const Context& context, const model::Transformer& of) const {
        require_memory(eval::sinks_memory(context, of.config(), of.dtype(), options), context, kBesideWeights,
                       advice());
        if (last_query > 0)
            require_memory(eval::last_query_memory(context, of.config(), of.dtype(), last_query), context,
                           kBesideWeights, "lower --last-query");
    }

    std::string advice() const {
        return fmt::format("{}{}", ids.empty() ? "lower --length" : "give shorter rows with --ids",
                           options.maps ? ", or leave out --maps" : "");
    }

    void of_decoder(Context& context) {
        const train::LoadedModel loaded = train::load_model(model, context, dtype_of_option(text.dtype));
        const model::ModelConfig& config = loaded.model->config();
        if (sentences && last_query > 0 && std::ranges::count(text.text, "-") > 0)
            throw UserError(
                "--sentences and --last-query each read the text, and standard input can be read once; name a file");
        const std::optional<eval::InputIds> input = read_ids(config.vocab_size);
        if (input) options.length = config.num_sink_tokens + input->length;
        require_memory_of_decoder(context, *loaded.model);
        const bool reads_tokens = ids.empty() && (!sentences || last_query > 0);
        const std::vector<uint32_t> tokens = reads_tokens ? text.read(loaded) : std::vector<uint32_t>{};
        if (last_query > 0) eval::check_last_query(config, static_cast<int64_t>(tokens.size()), last_query);
        const Sequences given = input ? sequences_of(*input) : sequences(loaded, tokens);
        for (const int64_t length : {options.length, last_query})
            if (length > config.max_position_embeddings)
                log_warning(
                    fmt::format("sequences of {} tokens, but the model was trained on {}; expect other attention",
                                length, config.max_position_embeddings));

        eval::MeasuredModel measured{loaded.source, loaded.step, {}, text.dtype};
        eval::SinkResult result = eval::evaluate_sinks(context, *loaded.model, given.all, options);
        result.whole_sentences = given.whole_sentences;
        print(result);
        if (!maps.empty()) eval::write_maps(maps, result);
        measured.metrics.emplace_back(std::move(result));
        if (last_query > 0) measured.metrics.emplace_back(of_last_query(context, loaded, tokens));
        if (!json.empty()) eval::write_measurements(json, measured);
    }

    struct Sequences {
        std::vector<std::vector<uint32_t>> all;
        int64_t whole_sentences = -1;
    };
    static Sequences sequences_of(const eval::InputIds& input) {
        Sequences out;
        for (const auto& row : rows_of(input)) out.all.emplace_back(row.begin(), row.end());
        return out;
    }
    Sequences sequences(const train::LoadedModel& loaded, const std::vector<uint32_t>& tokens) {
        const model::ModelConfig& config = loaded.model->config();
        if (!sentences) {
            options.first_id = first_id(loaded, tokens);
            return {eval::sink_sequences(config, tokens, options)};
        }
        const int64_t words = options.length - config.num_sink_tokens;
        eval::check_sinks(config, words, options);
        eval::SentenceSequences cut = text.sentences(loaded, words, options.sequences);
        return {std::move(cut.sequences), cut.whole};
    }

    /// What pieces of the text begin with; -1: as they are.
    int64_t first_id(const train::LoadedModel& loaded, const std::vector<uint32_t>& tokens) const {
        return begin_of_text ? begin_id(loaded) : loaded.first_of_samples(tokens);
    }

    int64_t begin_id(const train::LoadedModel& loaded) const {
        if (const auto id = text.begin_of_text(loaded)) return *id;
        throw UserError(fmt::format("--begin-of-text: texts of {} begin with no token of their own", loaded.source));
    }

    static std::vector<std::vector<int32_t>> rows_of(const eval::InputIds& input) {
        std::vector<std::vector<int32_t>> out;
        for (auto row = input.ids.begin(); row != input.ids.end(); row += input.length)
            out.emplace_back(row, row + input.length);
        return out;
    }

    eval::LastQueryResult of_last_query(Context& context, const train::LoadedModel& loaded,
                                        const std::vector<uint32_t>& tokens) const {
        Progress progress("last query", last_query_sequences, "sequences");
        eval::LastQueryResult result =
            eval::evaluate_last_query(context, *loaded.model, tokens, last_query, last_query_sequences,
                                      first_id(loaded, tokens), [&](int64_t done) { progress.update(done); });
        progress.finish();
        print(result);
        return result;
    }

    static void print(const eval::EncoderSinkResult& r) {
        std::cout << fmt::format(
            "{} sequences; attention on [CLS], on [SEP] and on the rest, by layer (deviation over heads)\n",
            r.sequences);
        for (int64_t l = 0; l < r.layers; ++l) {
            std::cout << fmt::format("layer {:>2} ", l);
            for (const auto& share : r.share) {
                const eval::Spread spread = eval::spread_of({share.data() + l * r.heads, static_cast<size_t>(r.heads)});
                std::cout << fmt::format("  {:.3f} ({:.3f})", spread.mean, spread.deviation);
            }
            std::cout << '\n';
        }
    }

    static void print(const eval::SinkResult& r) {
        std::cout << fmt::format("{} sequences of {} tokens", r.sequences, r.length);
        if (r.whole_sentences >= 0)
            std::cout << fmt::format(", each begins with a sentence, {} end with one", r.whole_sentences);
        std::cout << '\n';
        for (int64_t k = 0; k < r.positions; ++k)
            std::cout << fmt::format("Sink_{} (alpha > {}): {:.2f} %\n", k + 1, r.epsilon,
                                     100 * r.sink_rate[static_cast<size_t>(k)]);
        std::cout << "mean attention on the first positions, by layer (deviation over heads)"
                  << (r.logit_first.empty() ? "\n"
                                            : "; mean logit before the softmax on position 1, and on the others\n");
        for (int64_t l = 0; l < r.layers; ++l) {
            std::cout << fmt::format("layer {:>2} ", l);
            for (int64_t k = 0; k < r.positions; ++k) {
                const auto at = static_cast<size_t>(l * r.positions + k);
                std::cout << fmt::format("  {:.3f} ({:.3f})", r.share[at], r.share_std[at]);
            }
            if (!r.logit_first.empty())
                std::cout << fmt::format("  {:>8.3f} {:>8.3f}", mean_of_layer(r, r.logit_first, l),
                                         mean_of_layer(r, r.logit_rest, l));
            std::cout << '\n';
        }
    }

    static double mean_of_layer(const eval::SinkResult& r, const std::vector<double>& of_heads, int64_t layer) {
        return eval::spread_of({of_heads.data() + layer * r.heads, static_cast<size_t>(r.heads)}).mean;
    }

    static void print(const eval::LastQueryResult& r) {
        std::cout << fmt::format(
            "attention of query {} on position 1, mean over {} sequences, by layer (deviation over heads)\n", r.length,
            r.sequences);
        for (int64_t l = 0; l < r.layers; ++l) {
            const eval::Spread layer = r.layer_spread(l);
            std::cout << fmt::format("layer {:>2}   {:.3f} ({:.3f})\n", l, layer.mean, layer.deviation);
        }
    }
};

}  // namespace

void add_eval_sinks(Command parent) {
    auto o = std::make_shared<SinksCommand>();
    Command command = parent.add_subcommand("sinks", "How much attention falls on the first tokens");
    command
        .add_option("model", o->model, "run folder, checkpoint file or Hugging Face folder, of an encoder (BERT) too")
        .required();
    Option length = command.add_option("--length", o->options.length, "tokens of a sequence, sink tokens included")
                        .in_range(1, infer::CacheSizes::kEndless)
                        .capture_default_str();
    Option sequences = command.add_option("--sequences", o->options.sequences, "sequences, spread evenly over the text")
                           .positive()
                           .capture_default_str();
    Option of_sentences = command.add_flag(
        "--sentences", o->sentences,
        "sequences begin with a sentence, encoded by itself (after the token that the model's texts begin with, where "
        "there is one), and go on to exactly --length tokens; those that end with a sentence are taken first");
    Option begin_of_text =
        command
            .add_flag(
                "--begin-of-text", o->begin_of_text,
                "pieces of the text begin with the tokenizer's begin-of-text token in the place of their first; pieces "
                "for a run that was trained so always do")
            .excludes(of_sentences);
    command.add_option("--positions", o->options.positions, "first positions to report")
        .positive()
        .capture_default_str();
    command
        .add_option("--epsilon", o->options.epsilon, "a head with more than this share on a position has a sink there")
        .in_range_of_reals(0.0, 1.0)
        .capture_default_str();
    command.add_option("--maps", o->maps,
                       "write the mean maps of every head, f32 [layers, heads, length, length], to this safetensors "
                       "file: attention (weights) and attention_logits (before the softmax)");
    Option last_query =
        command
            .add_option("--last-query", o->last_query,
                        "also the weight that the last query of sequences of this many tokens gives position 1 "
                        "(StreamingLLM: 4096)")
            .in_range(1, infer::CacheSizes::kEndless);
    command.add_option("--last-query-sequences", o->last_query_sequences, "how many of those, at most")
        .positive()
        .needs(last_query)
        .capture_default_str();
    Option of_text = add_text_options(command, *o);
    Option of_ids = command.add_option(
        "--ids", o->ids,
        "in place of a text: a safetensors file with whole-number input_ids [B,T], a sequence a row; "
        "those of an encoder as it reads them, [CLS] … [SEP]");
    for (Option other : {of_text, length, sequences, last_query, of_sentences, begin_of_text}) of_ids.excludes(other);
    command.footer(
        "Examples:\n"
        "  ballast eval sinks runs/160m --text book.txt --json sinks.json --maps maps.safetensors\n"
        "The figures of StreamingLLM (2, 7 and 13; with --length 128, 11; 12):\n"
        "  ballast eval sinks smollm2 --text book.txt --sentences --length 16 --sequences 256 --maps maps.safetensors "
        "--last-query 4096 --json sinks.json\n"
        "An encoder is always given sentences. Its [CLS] is the first token of a sequence, its [SEP] each later one "
        "with the id of the last.");
    command.callback([o, command] {
        if (o->text.text.empty() && o->ids.empty()) throw UserError("eval sinks needs --text or --ids");
        for (const char* option : {"--begin-of-text", "--positions", "--epsilon", "--last-query"})
            if (command.count(option) > 0) o->for_decoders.emplace_back(option);
        o->run();
    });
}

}  // namespace ballast
