// ballast eval outliers
#include <cmath>
#include <fmt/format.h>
#include <iostream>

#include "base/columns.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/eval_commands.h"
#include "cli/memory.h"
#include "cli/text_options.h"
#include "eval/measurement.h"
#include "eval/outliers.h"
#include "eval/streaming.h"

namespace ballast {
namespace {

struct OutliersCommand {
    std::string model;
    eval::OutlierOptions options;
    std::string json;
    TextOptions text;

    void run() {
        text.require_output(json, {&model, 1});
        Context context = text.make_context();
        const train::LoadedModel loaded = train::load_model(model, context, dtype_of_option(text.dtype));
        const model::ModelConfig& config = loaded.model->config();
        if (options.length == 0)
            options.length = std::min(eval::OutlierOptions{}.length, config.max_position_embeddings);
        require_memory(eval::outliers_memory(context, config, loaded.model->dtype(), options), context, kBesideWeights,
                       "lower --length");
        if (options.length > config.max_position_embeddings)
            log_warning(fmt::format("sequences of {} tokens, but the model was trained on {}; expect other activations",
                                    options.length, config.max_position_embeddings));
        const std::vector<uint32_t> tokens = text.read(loaded);
        options.first_id = loaded.first_of_samples(tokens);
        const InterruptGuard guard;
        Progress progress("outliers", options.sequences, "sequences");
        const eval::OutlierResult result = eval::evaluate_outliers(context, *loaded.model, tokens, options,
                                                                   [&](int64_t done) { progress.update(done); });
        progress.finish();
        print(result);
        if (!json.empty()) eval::write_measurements(json, {loaded.source, loaded.step, {result}, text.dtype});
    }

  private:
    static std::string figures(const eval::ActivationFigures& a) {
        return fmt::format("{:.4g} / {:.4g}", a.kurtosis, a.largest);
    }

    static void print(const eval::OutlierResult& r) {
        std::cout << fmt::format(
            "{} sequences of {} tokens; kurtosis / largest |x| of the residual stream and of the "
            "linear layers' inputs; mean norm of values\n",
            r.sequences, r.length);
        std::vector<std::vector<std::string>> rows{
            {"", "residual", "qkv", "out", "up", "down", "value of 1", "of others"}};
        rows.push_back({"embedding", figures(r.embedding), "", "", "", "", "", ""});
        for (size_t l = 0; l < r.layers.size(); ++l) {
            auto& row = rows.emplace_back(1, fmt::format("layer {}", l));
            for (const auto& tensor : r.layers[l].tensors) row.push_back(figures(tensor));
            row.push_back(fmt::format("{:.3f}", r.layers[l].value_first));
            row.push_back(fmt::format("{:.3f}", r.layers[l].value_rest));
        }
        rows.push_back({"head's input", figures(r.head), "", "", "", "", "", ""});
        std::cout << align_columns(rows)
                  << fmt::format(
                         "perplexity over {} tokens: {}; with every linear layer's input rounded to {} bits, one "
                         "scale a tensor: {}\n",
                         r.tokens, eval::perplexity_text(std::exp(r.loss)), r.bits,
                         eval::perplexity_text(std::exp(r.rounded_loss)));
    }
};

}  // namespace

void add_eval_outliers(Command parent) {
    auto o = std::make_shared<OutliersCommand>();
    o->options.length = 0;
    Command command = parent.add_subcommand(
        "outliers", "How far activations stick out, and what rounding them to 8 bits costs in perplexity");
    command.add_option("model", o->model, "run folder, checkpoint file or Hugging Face folder").required();
    command
        .add_option("--length", o->options.length,
                    "tokens of a sequence, sink tokens included; default: the trained context, at most 512")
        .in_range(1, infer::CacheSizes::kEndless);
    command.add_option("--sequences", o->options.sequences, "sequences, spread evenly over the text")
        .positive()
        .capture_default_str();
    command.add_option("--bits", o->options.bits, "bits of a rounded activation").in_range(2, 16).capture_default_str();
    add_text_options(command, *o).required();
    command.footer(
        "Example:\n  ballast eval outliers runs/160m --text book.txt --json outliers.json\n"
        "Rounding: the input of every linear layer, the head's too, becomes the nearest multiple of s = max |x| / 127, "
        "x "
        "being all its\nelements in one sequence. Weights, attention and the residual stream stay as they are.");
    command.callback([o] { o->run(); });
}

}  // namespace ballast
