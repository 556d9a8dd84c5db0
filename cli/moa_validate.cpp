// ballast moa validate
#include "cli/moa_stages.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/columns.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/json_figure.h"
#include "base/json_file.h"
#include "base/progress.h"
#include "moa/validate.h"

namespace ballast {

namespace {

/// The index of the least finite loss. RunError where none is finite.
size_t least_finite(const std::vector<double>& losses) {
    const auto before = [](double a, double b) { return std::isfinite(a) && !(std::isfinite(b) && b <= a); };
    const auto least = std::min_element(losses.begin(), losses.end(), before);
    if (!std::isfinite(*least))
        throw RunError(
            "no plan has a finite loss, so none is the best; does ballast eval streaming give a finite "
            "perplexity for this model?");
    return static_cast<size_t>(least - losses.begin());
}

/// "nan" for every NaN, never "-nan".
std::string loss_text(double loss, bool with_sign = false) {
    if (std::isnan(loss)) return "nan";
    return with_sign ? fmt::format("{:+.4f}", loss) : fmt::format("{:.4f}", loss);
}

}  // namespace

size_t validate_plans(MoaModel& model, const std::string& items, const std::vector<std::string>& plans, int64_t length,
                      const std::string& json) {
    const auto tokens = moa::items_of_length(model.tokens_of(moa::read_items(items), items), length);
    if (tokens.empty())
        throw UserError(
            fmt::format("{} has no item of more than {} and at most {} positions", items, 3 * length / 4, length));
    std::vector<infer::SpanPlan> read;
    for (const std::string& path : plans) {
        read.push_back(infer::read_span_plan(path));
        for (const auto& item : tokens) infer::cache_plan(read.back(), model.config(), item.length());
    }
    const int64_t kv_heads = model.config().key_value_heads();
    Progress progress("validate", std::ssize(tokens) * (std::ssize(plans) + 1), "items");
    const auto loss_of = [&](const std::optional<infer::SpanPlan>& plan, int64_t before) {
        return moa::validation_loss(model.context, *model.loaded.model, plan, tokens,
                                    [&](int64_t done) { progress.update(before + done); });
    };
    const double dense = loss_of(std::nullopt, 0);
    std::vector<std::vector<std::string>> rows{{"plan", "loss", "over dense", "memory"},
                                               {"dense", loss_text(dense), "", "1.0000"}};
    nlohmann::ordered_json results = nlohmann::ordered_json::array();
    std::vector<double> losses;
    for (size_t i = 0; i < plans.size(); ++i) {
        losses.push_back(loss_of(read[i], static_cast<int64_t>((i + 1) * tokens.size())));
        const double density = infer::memory_density(read[i], kv_heads, length);
        rows.push_back({plans[i], loss_text(losses.back()), loss_text(losses.back() - dense, true),
                        fmt::format("{:.4f}", density)});
        results.push_back({{"plan", plans[i]}, {"loss", json_figure(losses.back())}, {"density", density}});
    }
    progress.finish();
    std::cout << fmt::format("{} items of at most {} positions\n", tokens.size(), length) << align_columns(rows);
    if (!json.empty())
        write_json_file(
            json, nlohmann::ordered_json{
                      {"length", length}, {"items", tokens.size()}, {"dense", json_figure(dense)}, {"plans", results}});
    return least_finite(losses);
}

namespace {

struct ValidateCommand {
    std::string model, items, out, json;
    std::vector<std::string> plans;
    int64_t length = 0;
    TextOptions run_options;

    void run() const {
        std::vector<std::string> inputs = plans;
        inputs.insert(inputs.end(), {model, items});
        for (const std::string& path : {out, json}) run_options.require_output(path, inputs);
        require_different_outputs({{"--out", out}, {"--json", json}});
        infer::require_plan_name(out);
        const InterruptGuard guard;
        MoaModel loaded(model, run_options);
        const size_t best = validate_plans(loaded, items, plans, length, json);
        std::cout << fmt::format("least: {}\n", plans[best]);
        if (!out.empty()) infer::write_span_plan(out, infer::read_span_plan(plans[best]));
    }
};

}  // namespace

void add_moa_validate(Command parent) {
    auto o = std::make_shared<ValidateCommand>();
    Command command =
        parent.add_subcommand("validate", "What plans lose at a length that no profile saw; the best is kept");
    add_moa_model(command, o->model);
    command.add_option("calibration", o->items, "items of ballast moa calibrate that were not profiled").required();
    command.add_option("plans", o->plans, "plans of ballast moa optimise --all").required();
    command.add_option("--length", o->length, "items of more than 3/4 of so many positions and at most so many")
        .positive()
        .required();
    o->run_options.add_model_options(command);
    command.add_option("-o,--out", o->out, "the plan that loses least");
    command.add_option("--json", o->json, "file for the figures");
    command.footer(
        "Example:\n  ballast moa validate smollm2 other_items.jsonl plans/*.json --length 3072 -o plan.json");
    command.callback([o] { o->run(); });
}

}  // namespace ballast
