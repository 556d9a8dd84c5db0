// ballast eval streaming|table|logits, and the list of all of them
#include <array>
#include <cmath>
#include <filesystem>
#include <fmt/format.h>
#include <iostream>

#include "base/atomic_file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/path_labels.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/eval_commands.h"
#include "cli/memory.h"
#include "cli/text_options.h"
#include "eval/cache_table.h"
#include "eval/logits.h"
#include "infer/sampling.h"
#include "infer/span_plan.h"
#include "kernels/backend.h"
#include "train/load_model.h"

namespace ballast {
namespace {

/// Four decimals; "nan" without a sign.
std::string perplexity_cell(double perplexity) {
    return std::isfinite(perplexity) ? fmt::format("{:.4f}", perplexity) : eval::perplexity_text(perplexity);
}

// ---- streaming ------------------------------------------------------------------------------------------------------

struct StreamingCommand {
    std::string model, policy = "sink", method, plan, weights = "same";
    std::vector<int64_t> sinks, caches, heavy, recent, blocks;
    int64_t chunk = 512, every = 1;
    bool chunk_is_given = false;
    std::string json;
    TextOptions text;

    /// Scripts that try several policies give all of them the same settings, so these are no mistake.
    void warn_of_other_settings() const {
        const auto warn = [&](const char* setting) {
            log_warning(fmt::format("the policy {} has no setting {}; it is passed over", policy, setting));
        };
        if (!is_scored() && !sinks.empty() && policy != "sink") warn("sinks");
        if (!caches.empty() && (policy == "dense" || policy == "moa")) warn("cache");
        if (!method.empty() && policy == "recompute") warn("method");
        if (chunk_is_given && policy == "recompute") warn("chunk");
        if (chunk_is_given && policy != "recompute" && is_cached())
            log_warning("only the method masked has a setting chunk; it is passed over");
    }

    std::vector<eval::StreamingOptions> cells(const model::ModelConfig& config) const {
        eval::StreamingOptions base;
        base.method = is_cached() ? eval::StreamingMethod::cache : eval::StreamingMethod::masked;
        base.chunk = chunk;
        base.every = every;
        std::vector<eval::StreamingOptions> out;
        if ((policy == "moa") != !plan.empty()) throw UserError("--policy moa and --plan go together");
        if (policy == "moa") {
            base.policy = eval::Mixture{};
            base.plan = eval::NamedPlan{std::filesystem::path(plan).stem().string(), infer::read_span_plan(plan)};
        }
        if (!is_scored() && !(heavy.empty() && recent.empty() && blocks.empty()))
            throw UserError("--heavy, --recent and --blocks are for the policies h2o and infllm");
        warn_of_other_settings();
        if (is_scored()) return scored_cells(config, base);
        if (policy == "dense" || policy == "moa") {
            eval::check_streaming(config, base);
            return {base};
        }
        const std::vector<int64_t> sizes =
            caches.empty() ? std::vector<int64_t>{config.max_position_embeddings / 2} : caches;
        const std::vector<int64_t> starts = policy == "window" ? std::vector<int64_t>{0}
                                            : sinks.empty()    ? std::vector<int64_t>{0, 1, 2, 4}
                                                               : sinks;
        for (int64_t cache : sizes)
            if (policy == "recompute")
                out.emplace_back(base).policy = eval::Recompute{cache};
            else
                for (int64_t s : starts) out.emplace_back(base).policy = infer::CachePolicy::sink(s, cache - s);
        for (const auto& cell : out) eval::check_streaming(config, cell);  // all of them before the first is computed
        return out;
    }

    /// The cells suit the model; does the text suit them?
    static void check_length(const model::ModelConfig& config, const std::vector<eval::StreamingOptions>& cells,
                             int64_t positions) {
        try {
            for (const auto& cell : cells) eval::check_streaming(config, cell, positions);
        } catch (const UserError& error) {
            throw UserError(fmt::format("{}; --max-tokens takes only the text's beginning", error.what()));
        }
    }

    /// Before the first cell is computed, so that none of them is killed.
    void require_memory_of(const std::vector<eval::StreamingOptions>& cells, const Context& context,
                           const model::Transformer& of, int64_t positions) const {
        const Dtype stored = of.weights().matrix_dtype();
        for (const auto& cell : cells)
            require_memory(eval::streaming_memory(context, of.config(), of.dtype(), stored, cell, positions), context,
                           kBesideWeights, less_memory());
    }

    /// The options that decide what a cell takes.
    std::string less_memory() const {
        const bool keeps_all = policy == "dense" || policy == "moa" || policy == "infllm";
        std::vector<std::string> options;
        if (keeps_all) options.emplace_back("--max-tokens");
        if (!is_cached() && policy != "recompute") options.emplace_back("--chunk");
        if (policy == "h2o") options.insert(options.end(), {"--heavy", "--recent"});
        if (policy == "window" || policy == "sink" || policy == "recompute") options.emplace_back("--cache");
        return fmt::format("lower {}", fmt::join(options, " or "));
    }

    bool is_scored() const { return policy == "h2o" || policy == "infllm"; }
    bool is_cached() const { return method == "cache" || (method.empty() && is_scored()); }

    /// A cell for every way to take a number from each list; make_plan() knows which lists the policy may have.
    std::vector<eval::StreamingOptions> scored_cells(const model::ModelConfig& config,
                                                     eval::StreamingOptions base) const {
        if (!caches.empty())
            throw UserError(fmt::format("the policy {} has no setting cache; what it keeps is said by --recent and {}",
                                        policy, policy == "h2o" ? "--heavy" : "--sinks and --blocks"));
        const auto or_default = [](const std::vector<int64_t>& list, int64_t value) {
            return list.empty() ? std::vector<int64_t>{value} : list;
        };
        base.policy = eval::Scored{policy};
        std::vector<eval::StreamingOptions> out;
        for (const int64_t s : or_default(sinks, -1))
            for (const int64_t h : or_default(heavy, -1))
                for (const int64_t r : or_default(recent, 0))
                    for (const int64_t b : or_default(blocks, -1))
                        out.emplace_back(base).choice =
                            infer::PolicyChoice{.policy = policy, .sinks = s, .heavy = h, .recent = r, .blocks = b};
        for (const auto& cell : out) eval::check_streaming(config, cell);
        return out;
    }

    void run() const {
        text.require_output(json, std::array{model, plan});
        Context context = text.make_context();
        const train::LoadedModel loaded =
            train::load_model(model, context, dtype_of_option(text.dtype), weights_of_option(weights));
        const auto& config = loaded.model->config();
        const std::vector<eval::StreamingOptions> all = cells(config);
        const std::vector<uint32_t> tokens = text.read(loaded);
        const eval::TextStream stream = eval::make_text_stream(tokens, config, 0, loaded.first_of_samples(tokens));
        const auto length = static_cast<int64_t>(stream.tokens.size());
        check_length(config, all, length);
        for (const auto& cell : all) eval::check_windows(cell, stream);
        require_memory_of(all, context, *loaded.model, length);
        if (policy == "dense" && length > config.max_position_embeddings)
            log_warning(fmt::format(
                "dense: the text has {} positions, the model was trained on {}; expect the perplexity to drift", length,
                config.max_position_embeddings));
        const InterruptGuard guard;
        eval::MeasuredModel measured{loaded.source, loaded.step, {}, text.dtype, weights == "same" ? "" : weights};
        const size_t width = is_scored() ? 20 : 10;  // of a name with all of its numbers
        std::cout << fmt::format("{:<{}} {:>6} {:>8} {:>10} {:>12}\n", "policy", width, "sinks", "cache", "tokens",
                                 "perplexity");
        for (const auto& cell : all) {
            const std::string name = name_of(cell.policy);
            Progress progress(name, length, "tokens");
            auto result = eval::evaluate_streaming(context, *loaded.model, stream, cell,
                                                   [&](int64_t done) { progress.update(done); });
            progress.finish();
            std::cout << fmt::format("{:<{}} {:>6} {:>8} {:>10} {:>12}\n",
                                     is_scored() ? label_of(result) : kind_name(result.policy), width,
                                     sink_positions(result.policy), total_positions(result.policy), result.tokens,
                                     perplexity_cell(result.perplexity))
                      << std::flush;
            if (result.non_finite > 0)
                log_warning(fmt::format("{}: {}; {}", name, eval::non_finite_text(result), infer::kNonFiniteAdvice));
            measured.metrics.emplace_back(std::move(result));
        }
        if (!json.empty()) eval::write_measurements(json, measured);
    }
};

void add_streaming(Command parent) {
    auto o = std::make_shared<StreamingCommand>();
    Command command = parent.add_subcommand("streaming", "Perplexity of a long text under a cache policy");
    command.add_option("model", o->model, "run folder, checkpoint file or Hugging Face folder").required();
    command
        .add_option(
            "--policy", o->policy,
            "dense: keep all; window: the last C; sink: the first s and the last C - s; moa: a span for every "
            "head (--plan); h2o: the R last and the H that had most attention, token by token; infllm: the first s, "
            "the R last and the B nearest blocks between; recompute: run the last C again for every token")
        .one_of({"dense", "window", "recompute", "sink", "moa", "h2o", "infllm"})
        .capture_default_str();
    command
        .add_option(
            "--sinks", o->sinks,
            "positions kept at the start (the model's sink tokens come first); default: sink 0,1,2,4; infllm 64")
        .delimiter(',')
        .one_value_each()
        .non_negative();
    command.add_option("--cache", o->caches, "total positions C, e.g. 256,512,1024; default: half the trained context")
        .delimiter(',')
        .one_value_each()
        .positive();
    command.add_option(
        "--plan", o->plan,
        "moa, the policy where a plan is given: the plan, for a text of at most its longest length (--max-tokens)");
    command
        .add_option("--heavy", o->heavy,
                    "h2o: positions H kept by score, e.g. 32,64; default: a quarter of the trained context")
        .delimiter(',')
        .one_value_each()
        .non_negative();
    command
        .add_option("--recent", o->recent,
                    "h2o, infllm: the last positions R; default: a quarter of the trained context")
        .delimiter(',')
        .one_value_each()
        .positive();
    command
        .add_option("--blocks", o->blocks,
                    "infllm: blocks B of 64 positions a query; default: a quarter of the trained context")
        .delimiter(',')
        .one_value_each()
        .non_negative();
    command
        .add_option("--method", o->method,
                    "masked: one pass in chunks; cache: token by token, infllm's in chunks; they agree. Default: "
                    "masked; of h2o and infllm cache")
        .one_of({"masked", "cache"});
    command.add_option("--chunk", o->chunk, "positions a masked pass takes at once").positive().capture_default_str();
    command
        .add_option("--every", o->every,
                    "score every k-th token; with recompute each costs a whole window, and other policies with the "
                    "same k are then scored on the same tokens")
        .positive()
        .capture_default_str();
    add_text_options(command, *o).required();
    add_weights_option(command, o->weights);
    o->text.add_newline_start(command);
    command.footer(
        "Example:\n  ballast eval streaming runs/160m --text book.txt --sinks 0,1,2,4 --cache 512,1024 --json "
        "streaming.json");
    command.callback([o, command] {
        o->chunk_is_given = command.count("--chunk") > 0;
        if (command.count("--policy") == 0 && !o->plan.empty()) o->policy = "moa";
        o->run();
    });
}

// ---- table ----------------------------------------------------------------------------------------------------------

struct TableCommand {
    std::vector<std::string> models;
    std::string method = "masked";
    eval::CacheTableOptions table;
    std::string json;
    TextOptions text;

    void run() {
        text.require_output(json, models);
        table.method = method == "cache" ? eval::StreamingMethod::cache : eval::StreamingMethod::masked;
        const std::vector<std::string> names = path_labels(models);
        Context context = text.make_context();
        std::vector<std::vector<uint32_t>> texts;
        for (const std::string& path : models)
            texts.push_back(checked_text(path, context));  // before the first is computed
        const InterruptGuard guard;
        std::vector<eval::CacheTableRow> rows;
        std::vector<eval::MeasuredModel> measured;
        for (size_t i = 0; i < models.size(); ++i) {
            const train::LoadedModel loaded = train::load_model(models[i], context, dtype_of_option(text.dtype));
            table.sink_metrics.first_id = loaded.first_of_samples(texts[i]);
            rows.push_back(eval::evaluate_cache_table(context, names[i], *loaded.model, texts[i], table));
            measured.push_back(to_measured_model(rows.back(), models[i], loaded.step));
            measured.back().dtype = text.dtype;
        }
        std::cout << eval::format_cache_table(rows);
        if (!json.empty()) eval::write_measurement_table(json, table.cache, measured);
    }

  private:
    /// The model's tokens of the text. The first model decides on a cache that was not given.
    std::vector<uint32_t> checked_text(const std::string& path, const Context& context) {
        const train::ModelSource model = train::find_model(path);
        if (table.cache == 0) table.cache = model.config.max_position_embeddings / 2;
        std::vector<uint32_t> tokens = text.read(model);
        try {
            check_cache_table(model.config, static_cast<int64_t>(tokens.size()), table);
        } catch (const UserError& error) {
            throw UserError(fmt::format("{}: {}", path, error.what()));
        }
        const Dtype dtype = computable_on(context.device(), dtype_of_option(text.dtype));
        eval::MeasurementMemory memory =
            eval::cache_table_memory(context, model.config, dtype, static_cast<int64_t>(tokens.size()), table);
        memory.device.emplace_back(
            "weights", model::Weights::bytes(model::ParameterTable(model.config), dtype, model::WeightUse::inference));
        require_memory(memory, context, "to measure " + path, "lower --cache or --max-tokens");
        return tokens;
    }
};

void add_table(Command parent) {
    auto o = std::make_shared<TableCommand>();
    Command command = parent.add_subcommand("table", "Several models against every cache policy, in one table");
    command.add_option("models", o->models, "run folders, checkpoint files or Hugging Face folders").required();
    command
        .add_option("--cache", o->table.cache, "total positions C of every policy; default: half the trained context")
        .positive();
    command.add_option("--sinks", o->table.sinks, "columns x + (C - x)")
        .delimiter(',')
        .one_value_each()
        .non_negative()
        .capture_default_str();
    command.add_option("--every", o->table.recompute_every, "recompute: score every k-th token")
        .positive()
        .capture_default_str();
    command.add_option("--method", o->method, "masked or cache").one_of({"masked", "cache"}).capture_default_str();
    add_text_options(command, *o).required();
    command.footer(
        "Example:\n  ballast eval table runs/vanilla runs/zero_sink runs/sink_token --text heldout.txt --cache 64 "
        "--json table.json");
    command.callback([o] { o->run(); });
}

// ---- logits ---------------------------------------------------------------------------------------------------------

struct LogitsCommand {
    std::string model, ids, out, dtype = "f32", backend = "auto";
    bool gradients = false;

    void run() const {
        require_not_an_input(out, std::array{model, ids});
        require_writable(out);
        const InterruptGuard guard;
        Context context(device_of_backend(backend), 0);
        const train::LoadedModel loaded = train::load_model(model, context, dtype_of_option(dtype));
        const eval::InputIds input = eval::read_input_ids(ids, loaded.model->config().vocab_size);
        require_memory(
            eval::logits_memory(context, loaded.model->config(), loaded.model->dtype(), input, gradients), context,
            kBesideWeights,
            fmt::format("give fewer or shorter rows with --ids{}", gradients ? ", or leave out --grads" : ""));
        const double loss = eval::write_logits(context, *loaded.model, input, out, gradients);
        std::cout << fmt::format("loss {:.6f} -> {}\n", loss, out);
    }
};

void add_logits(Command parent) {
    auto o = std::make_shared<LogitsCommand>();
    Command command =
        parent.add_subcommand("logits", "Logits, loss and gradients on given ids, to compare with anything");
    command.add_option("model", o->model, "run folder, checkpoint file or Hugging Face folder").required();
    command.add_option("--ids", o->ids, "safetensors file with input_ids [B,T], integers").required();
    command.add_option("--out", o->out, "safetensors file to write: logits [B,T,V], loss, grad.<tensor>").required();
    add_backend_option(command, o->backend);
    command.add_flag("--grads", o->gradients, "also every gradient of the loss");
    add_dtype_option(command, o->dtype, kComputeDtypeHelp);
    command.footer(
        "Example:\n  ballast eval logits EleutherAI-pythia-160m --ids ids.safetensors --out out.safetensors --grads");
    command.callback([o] { o->run(); });
}

}  // namespace

void add_eval_command(Command app) {
    Command command =
        app.add_subcommand("eval", "Measure a model: streaming perplexity, attention sinks, outliers, logits");
    command.require_subcommand();
    add_streaming(command);
    add_table(command);
    add_eval_sinks(command);
    add_eval_outliers(command);
    add_logits(command);
    add_eval_plot(command);
    command.footer("Example: ballast eval streaming runs/160m --text book.txt --sinks 0,1,2,4 --cache 512,1024");
}

}  // namespace ballast
