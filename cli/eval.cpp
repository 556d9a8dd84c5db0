// ballast eval streaming|table|sinks|logits
#include <CLI/CLI.hpp>
#include <filesystem>
#include <fmt/format.h>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/interrupt.h"
#include "base/json_file.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/safetensors.h"
#include "cli/commands.h"
#include "data/corpus.h"
#include "data/tokenizer.h"
#include "eval/cache_table.h"
#include "eval/logits.h"
#include "eval/sinks.h"
#include "eval/streaming.h"
#include "kernels/backend.h"
#include "train/load_model.h"

namespace ballast {
namespace {

using nlohmann::ordered_json;

constexpr const char* kDtypeHelp = "compute type; fp16 on a GPU only";

/// What every evaluation of a text takes.
struct TextOptions {
    std::vector<std::string> text;
    std::string tokenizer, json, dtype = "f32", gemm = "auto", backend = "auto";
    int64_t max_tokens = 0, threads = 0;

    void add_to(CLI::App* command) {
        command->add_option("--text", text, "text files (UTF-8), read as one stream")->required();
        command->add_option("--tokenizer", tokenizer, "tokenizer.json; default: the one beside the model");
        command->add_option("--max-tokens", max_tokens, "use only the first tokens of the text; 0: all")
            ->check(CLI::NonNegativeNumber);
        add_dtype_option(command, dtype, kDtypeHelp);
        command
            ->add_option("--gemm", gemm, "reference: our fixed-order matrix products, the same bits on every processor")
            ->check(CLI::IsMember({"auto", "reference"}))
            ->capture_default_str();
        add_backend_option(command, backend);
        command->add_option("--threads", threads, "0: every core")->check(CLI::NonNegativeNumber);
        command->add_option("--json", json, "write the results to this file");
    }
    /// Before the work, not after it.
    void check_outputs() const {
        if (!json.empty()) require_writable(json);
    }
    Context make_context() const {
        return Context(device_of_backend(backend), static_cast<int>(threads), gemm == "reference" ? Gemm::reference : Gemm::automatic);
    }
};

std::vector<uint32_t> read_text(const TextOptions& options, const train::LoadedModel& loaded) {
    const std::string path = !options.tokenizer.empty() ? options.tokenizer : loaded.tokenizer_path;
    if (path.empty())
        throw UserError(fmt::format("{} has no tokenizer.json beside it; name one with --tokenizer", loaded.source));
    const data::Tokenizer tokenizer = data::Tokenizer::load(path);
    if (!loaded.tokenizer_hash.empty() && loaded.tokenizer_hash != tokenizer.hash())
        throw UserError(fmt::format("{} was trained with another tokenizer than {}; name its own with --tokenizer",
                                    loaded.source, path));
    data::Corpus corpus(options.text,
                        {.last_cut = [&](std::string_view piece) { return tokenizer.last_safe_cut(piece); }});
    data::Encoder encoder(tokenizer);
    std::vector<uint32_t> tokens;
    const auto enough = [&] {
        return options.max_tokens > 0 && static_cast<int64_t>(tokens.size()) >= options.max_tokens;
    };
    for (data::TextPiece piece; !enough() && corpus.next(piece);) encoder.encode(piece.text, tokens, piece.offset);
    if (enough()) tokens.resize(static_cast<size_t>(options.max_tokens));
    if (tokens.empty())
        throw UserError(fmt::format("{} is empty; there is nothing to evaluate", fmt::join(options.text, ", ")));
    return tokens;
}

ordered_json to_json(const eval::StreamingResult& r) {
    ordered_json curve = ordered_json::array();
    for (const auto& point : r.curve)
        curve.push_back({{"position", point.position}, {"tokens", point.tokens}, {"loss", point.loss}});
    return {{"policy", r.policy}, {"sinks", r.sinks},           {"cache", r.cache},
            {"method", r.method}, {"tokens", r.tokens},         {"of_tokens", r.of_tokens},
            {"loss", r.loss},     {"perplexity", r.perplexity}, {"seconds", r.seconds},
            {"curve", curve}};
}

ordered_json to_json(const eval::SinkResult& r) {
    ordered_json layers = ordered_json::array();
    for (int64_t l = 0; l < r.layers; ++l) {
        ordered_json heads = ordered_json::array();
        for (int64_t h = 0; h < r.heads; ++h) {
            const auto begin = r.alpha.begin() + (l * r.heads + h) * r.positions;
            heads.push_back(std::vector<double>(begin, begin + r.positions));
        }
        const auto of_layer = [&](const std::vector<double>& values) {
            return std::vector<double>(values.begin() + l * r.positions, values.begin() + (l + 1) * r.positions);
        };
        layers.push_back({{"share", of_layer(r.share)}, {"share_std", of_layer(r.share_std)}, {"alpha", heads}});
    }
    return {{"length", r.length},
            {"sequences", r.sequences},
            {"epsilon", r.epsilon},
            {"sink_rate", r.sink_rate},
            {"layers", layers}};
}

// ---- streaming ------------------------------------------------------------------------------------------------------

struct StreamingCommand {
    std::string model, policy = "sink", method = "masked";
    std::vector<int64_t> sinks, caches;
    int64_t chunk = 512, recompute_every = 1;
    TextOptions text;

    std::vector<eval::StreamingOptions> cells(const model::ModelConfig& config) const {
        eval::StreamingOptions base;
        base.method = method == "cache" ? eval::StreamingMethod::cache : eval::StreamingMethod::masked;
        base.chunk = chunk;
        base.recompute_every = recompute_every;
        std::vector<eval::StreamingOptions> out;
        if (policy == "dense") return {base};
        const std::vector<int64_t> sizes =
            caches.empty() ? std::vector<int64_t>{config.max_position_embeddings / 2} : caches;
        const std::vector<int64_t> starts = policy == "window" ? std::vector<int64_t>{0}
                                            : sinks.empty()    ? std::vector<int64_t>{0, 1, 2, 4}
                                                               : sinks;
        for (int64_t cache : sizes)
            if (policy == "recompute") {
                auto& cell = out.emplace_back(base);
                cell.policy.kind = infer::CacheKind::recompute;
                cell.recompute_length = cache;
            } else {
                for (int64_t s : starts) out.emplace_back(base).policy = infer::CachePolicy::sink(s, cache - s);
            }
        return out;
    }

    void run() const {
        text.check_outputs();
        Context context = text.make_context();
        const train::LoadedModel loaded = train::load_model(model, context, dtype_of_option(text.dtype));
        const auto& config = loaded.model->config();
        const eval::TextStream stream = eval::make_text_stream(read_text(text, loaded), config, 0);
        const auto length = static_cast<int64_t>(stream.tokens.size());
        if (policy == "dense" && length > config.max_position_embeddings)
            log_warning(fmt::format(
                "dense: the text has {} positions, the model was trained on {}; expect the perplexity to drift", length,
                config.max_position_embeddings));
        const InterruptGuard guard;
        ordered_json results = ordered_json::array();
        std::cout << fmt::format("{:<10} {:>6} {:>8} {:>10} {:>12}\n", "policy", "sinks", "cache", "tokens",
                                 "perplexity");
        for (const auto& cell : cells(config)) {
            Progress progress(cell.policy.name(), length, "tokens");
            const auto result = eval::evaluate_streaming(context, *loaded.model, stream, cell,
                                                         [&](int64_t done) { progress.update(done); });
            progress.finish();
            std::cout << fmt::format("{:<10} {:>6} {:>8} {:>10} {:>12.4f}\n", result.policy, result.sinks, result.cache,
                                     result.tokens, result.perplexity)
                      << std::flush;
            results.push_back(to_json(result));
        }
        if (!text.json.empty())
            write_json_file(text.json,
                            ordered_json{{"model", loaded.source}, {"step", loaded.step}, {"results", results}});
    }
};

void add_streaming(CLI::App* parent) {
    auto o = std::make_shared<StreamingCommand>();
    CLI::App* command = parent->add_subcommand("streaming", "Perplexity of a long text under a cache policy");
    command->add_option("model", o->model, "run folder, checkpoint file or Hugging Face folder")->required();
    command
        ->add_option("--policy", o->policy,
                     "dense: keep all; window: the last C; sink: the first s and the last C - s; recompute: run the "
                     "last C again for every token")
        ->check(CLI::IsMember({"dense", "window", "recompute", "sink"}))
        ->capture_default_str();
    command
        ->add_option("--sinks", o->sinks,
                     "positions kept at the start, e.g. 0,1,2,4 (the model's sink tokens come first)")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(CLI::NonNegativeNumber);
    command->add_option("--cache", o->caches, "total positions C, e.g. 256,512,1024; default: half the trained context")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(CLI::PositiveNumber);
    command
        ->add_option("--method", o->method,
                     "masked: one pass in chunks; cache: the literal cache, token by token; they agree")
        ->check(CLI::IsMember({"masked", "cache"}))
        ->capture_default_str();
    command->add_option("--chunk", o->chunk, "positions a masked pass takes at once")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command->add_option("--every", o->recompute_every, "recompute: score every k-th token")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    o->text.add_to(command);
    command->footer(
        "Example:\n  ballast eval streaming runs/160m --text book.txt --sinks 0,1,2,4 --cache 512,1024 --json "
        "streaming.json");
    command->callback([o] { o->run(); });
}

// ---- table ----------------------------------------------------------------------------------------------------------

struct TableCommand {
    std::vector<std::string> models;
    std::string method = "masked";
    eval::CacheTableOptions table;
    TextOptions text;

    void run() {
        text.check_outputs();
        table.method = method == "cache" ? eval::StreamingMethod::cache : eval::StreamingMethod::masked;
        Context context = text.make_context();
        const InterruptGuard guard;
        std::vector<eval::CacheTableRow> rows;
        ordered_json json = ordered_json::array();
        for (const std::string& path : models) {
            const train::LoadedModel loaded = train::load_model(path, context, dtype_of_option(text.dtype));
            if (table.cache == 0) table.cache = loaded.model->config().max_position_embeddings / 2;
            const std::vector<uint32_t> tokens = read_text(text, loaded);
            const std::string name = std::filesystem::path(path).lexically_normal().filename().string();
            const auto cells = static_cast<int64_t>(table.sinks.size()) + 2,
                       length = static_cast<int64_t>(tokens.size());
            Progress progress("evaluate " + name, cells * length, "tokens");
            int64_t finished = -1;
            std::string current;
            rows.push_back(eval::evaluate_cache_table(context, name, *loaded.model, tokens, table,
                                                      [&](const std::string& cell, int64_t done) {
                                                          if (cell != current) ++finished, current = cell;
                                                          progress.set_suffix(cell);
                                                          progress.update(finished * length + std::min(done, length));
                                                      }));
            progress.finish();
            ordered_json cells_json = ordered_json::array();
            for (const auto& cell : rows.back().cells) cells_json.push_back(to_json(cell));
            json.push_back({{"model", path}, {"results", cells_json}, {"sinks", to_json(rows.back().sinks)}});
        }
        std::cout << eval::format_cache_table(rows);
        if (!text.json.empty()) write_json_file(text.json, ordered_json{{"cache", table.cache}, {"models", json}});
    }
};

void add_table(CLI::App* parent) {
    auto o = std::make_shared<TableCommand>();
    CLI::App* command = parent->add_subcommand("table", "Several models against every cache policy, in one table");
    command->add_option("models", o->models, "run folders, checkpoint files or Hugging Face folders")->required();
    command
        ->add_option("--cache", o->table.cache, "total positions C of every policy; default: half the trained context")
        ->check(CLI::PositiveNumber);
    command->add_option("--sinks", o->table.sinks, "columns x + (C - x)")
        ->delimiter(',')
        ->allow_extra_args(false)
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command->add_option("--every", o->table.recompute_every, "recompute: score every k-th token")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command->add_option("--method", o->method, "masked or cache")
        ->check(CLI::IsMember({"masked", "cache"}))
        ->capture_default_str();
    o->text.add_to(command);
    command->footer(
        "Example:\n  ballast eval table runs/vanilla runs/zero_sink runs/sink_token --text heldout.txt --cache 64 "
        "--json table.json");
    command->callback([o] { o->run(); });
}

// ---- sinks ----------------------------------------------------------------------------------------------------------

struct SinksCommand {
    std::string model, maps;
    eval::SinkOptions options;
    TextOptions text;

    void run() {
        text.check_outputs();
        options.maps = !maps.empty();
        if (options.maps) require_writable(maps);
        Context context = text.make_context();
        const train::LoadedModel loaded = train::load_model(model, context, dtype_of_option(text.dtype));
        const int64_t positions = loaded.model->config().max_position_embeddings;
        if (options.length > positions)
            log_warning(fmt::format("sequences of {} tokens, but the model was trained on {}; expect other attention",
                                    options.length, positions));
        const eval::SinkResult r = eval::evaluate_sinks(context, *loaded.model, read_text(text, loaded), options);
        std::cout << fmt::format("{} sequences of {} tokens\n", r.sequences, r.length);
        for (int64_t k = 0; k < r.positions; ++k)
            std::cout << fmt::format("Sink_{} (alpha > {}): {:.2f} %\n", k + 1, r.epsilon,
                                     100 * r.sink_rate[static_cast<size_t>(k)]);
        std::cout << "mean attention on the first positions, by layer (deviation over heads)\n";
        for (int64_t l = 0; l < r.layers; ++l) {
            std::cout << fmt::format("layer {:>2} ", l);
            for (int64_t k = 0; k < r.positions; ++k) {
                const auto at = static_cast<size_t>(l * r.positions + k);
                std::cout << fmt::format("  {:.3f} ({:.3f})", r.share[at], r.share_std[at]);
            }
            std::cout << '\n';
        }
        if (!text.json.empty())
            write_json_file(text.json,
                            ordered_json{{"model", loaded.source}, {"step", loaded.step}, {"sinks", to_json(r)}});
        if (maps.empty()) return;
        SafetensorsWriter writer(maps);
        writer.add("attention", Dtype::f32, std::vector<int64_t>{r.layers, r.heads, r.length, r.length}, r.maps.data());
        writer.commit();
    }
};

void add_sinks(CLI::App* parent) {
    auto o = std::make_shared<SinksCommand>();
    CLI::App* command = parent->add_subcommand("sinks", "How much attention falls on the first tokens");
    command->add_option("model", o->model, "run folder, checkpoint file or Hugging Face folder")->required();
    command->add_option("--length", o->options.length, "tokens of a sequence, sink tokens included")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command->add_option("--sequences", o->options.sequences, "sequences, spread evenly over the text")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command->add_option("--positions", o->options.positions, "first positions to report")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    command
        ->add_option("--epsilon", o->options.epsilon, "a head with more than this share on a position has a sink there")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    command->add_option(
        "--maps", o->maps,
        "write the mean attention map of every head, f32 [layers, heads, length, length], to this safetensors file");
    o->text.add_to(command);
    command->footer(
        "Example:\n  ballast eval sinks runs/160m --text book.txt --json sinks.json --maps maps.safetensors");
    command->callback([o] { o->run(); });
}

// ---- logits ---------------------------------------------------------------------------------------------------------

struct LogitsCommand {
    std::string model, ids, out, dtype = "f32", backend = "auto";
    bool gradients = false;

    void run() const {
        require_writable(out);
        Context context(device_of_backend(backend), 0);
        const train::LoadedModel loaded = train::load_model(model, context, dtype_of_option(dtype));
        const double loss = eval::write_logits(context, *loaded.model, ids, out, gradients);
        std::cout << fmt::format("loss {:.6f} -> {}\n", loss, out);
    }
};

void add_logits(CLI::App* parent) {
    auto o = std::make_shared<LogitsCommand>();
    CLI::App* command =
        parent->add_subcommand("logits", "Logits, loss and gradients on given ids, to compare with anything");
    command->add_option("model", o->model, "run folder, checkpoint file or Hugging Face folder")->required();
    command->add_option("--ids", o->ids, "safetensors file with int32 input_ids [B,T]")->required();
    command->add_option("--out", o->out, "safetensors file to write: logits [B,T,V], loss, grad.<tensor>")->required();
    add_backend_option(command, o->backend);
    command->add_flag("--grads", o->gradients, "also every gradient of the loss");
    add_dtype_option(command, o->dtype, kDtypeHelp);
    command->footer(
        "Example:\n  ballast eval logits EleutherAI-pythia-160m --ids ids.safetensors --out out.safetensors --grads");
    command->callback([o] { o->run(); });
}

}  // namespace

void add_eval_command(CLI::App& app) {
    CLI::App* command = app.add_subcommand("eval", "Measure a model: streaming perplexity, attention sinks, logits");
    command->require_subcommand(1);
    add_streaming(command);
    add_table(command);
    add_sinks(command);
    add_logits(command);
    command->footer("Example: ballast eval streaming runs/160m --text book.txt --sinks 0,1,2,4 --cache 512,1024");
}

}  // namespace ballast
