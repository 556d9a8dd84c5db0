#include "eval/cache_table.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "base/columns.h"

namespace ballast::eval {
namespace {

std::string column_name(const StreamingResult& cell) { return eval::column_name(cell.policy, cell.sinks, cell.cache); }

bool is_subset(const StreamingResult& cell) { return cell.tokens < cell.of_tokens; }

std::string cell_text(const StreamingResult& cell) {
    return perplexity_text(cell.perplexity) + (is_subset(cell) ? "*" : "");
}

std::string notes(const std::vector<CacheTableRow>& rows) {
    std::string out;
    bool non_finite = false;
    for (const auto& row : rows)
        for (const auto& cell : row.cells) {
            if (is_subset(cell))
                out += fmt::format("* {}, {}: scored on {} of {} tokens; {} over the same ones: {}\n", row.model,
                                   column_name(cell), cell.tokens, cell.of_tokens, column_name(row.cells.front()),
                                   perplexity_text(perplexity_on_subset(row.cells.front(), cell)));
            if (cell.non_finite == 0) continue;
            out += fmt::format("! {}, {}: {}\n", row.model, column_name(cell), non_finite_text(cell));
            non_finite = true;
        }
    return non_finite ? out + fmt::format("! {}\n", kNonFiniteAdvice) : out;
}

}  // namespace

std::string column_name(const std::string& policy, int64_t sinks, int64_t cache) {
    if (policy == "dense" || policy == "recompute") return policy;
    return fmt::format("{}+{}", sinks, cache - sinks);
}

double perplexity_on_subset(const StreamingResult& cell, const StreamingResult& subset) {
    require(cell.losses.values.size() == subset.losses.values.size(), "cells of different texts");
    double total = 0;
    int64_t count = 0;
    for (size_t i = 0; i < cell.losses.values.size(); ++i)
        if (subset.losses.scored[i]) {
            total += static_cast<double>(cell.losses.values[i]);
            ++count;
        }
    return std::exp(total / static_cast<double>(count));
}

CacheTableRow evaluate_cache_table(Context& context, const std::string& name, model::Transformer& model,
                                   const std::vector<uint32_t>& text, const CacheTableOptions& options,
                                   const CacheTableProgress& progress) {
    const TextStream stream = make_text_stream(text, model.config(), 0);
    CacheTableRow row;
    row.model = name;
    row.sinks = evaluate_sinks(context, model, text, options.sink_metrics);  // first: refuses a text that is too short
    const auto add = [&](const infer::CachePolicy& policy, const std::string& cell) {
        StreamingOptions streaming;
        streaming.policy = policy;
        streaming.method = options.method;
        streaming.recompute_length = options.cache;
        streaming.recompute_every = options.recompute_every;
        row.cells.push_back(evaluate_streaming(context, model, stream, streaming,
                                               [&](int64_t done) { progress(name + " " + cell, done); }));
    };
    for (int64_t x : options.sinks) {
        const auto policy = infer::CachePolicy::sink(x, options.cache - x);
        add(policy, policy.name());
    }
    add(infer::CachePolicy::dense(), "dense");
    add({infer::CacheKind::recompute, 0, 0}, "recompute");
    return row;
}

std::string format_cache_table(const std::vector<CacheTableRow>& rows) {
    require(!rows.empty(), "a table without rows");
    const auto& first = rows.front();
    std::vector<std::vector<std::string>> perplexities{{"perplexity"}}, shares{{"attention on position 1"}};
    for (const auto& cell : first.cells) perplexities[0].push_back(column_name(cell));
    perplexities[0].push_back("Sink_1");
    for (int64_t l = 0; l < first.sinks.layers; ++l) shares[0].push_back(fmt::format("layer {}", l));
    for (const auto& row : rows) {
        auto& line = perplexities.emplace_back(1, row.model);
        for (const auto& cell : row.cells) line.push_back(cell_text(cell));
        line.push_back(fmt::format("{:.1f} %", 100 * row.sinks.sink_rate.front()));
        auto& share = shares.emplace_back(1, row.model);
        for (int64_t l = 0; l < row.sinks.layers; ++l)
            share.push_back(fmt::format("{:.3f}", row.sinks.share[static_cast<size_t>(l * row.sinks.positions)]));
    }
    return align_columns(perplexities) + notes(rows) + "\n" + align_columns(shares);
}

}  // namespace ballast::eval
