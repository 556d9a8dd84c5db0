#include "eval/cache_table.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "base/columns.h"
#include "base/progress.h"
#include "infer/sampling.h"

namespace ballast::eval {
namespace {

std::vector<StreamingOptions> columns(const CacheTableOptions& table) {
    StreamingOptions column;
    column.method = table.method;
    std::vector<StreamingOptions> out;
    const auto add = [&](const StreamingPolicy& policy) { out.emplace_back(column).policy = policy; };
    for (const int64_t sinks : table.sinks) add(infer::CachePolicy::sink(sinks, table.cache - sinks));
    add(infer::CachePolicy::dense());
    add(Recompute{table.cache});
    out.back().every = table.recompute_every;
    return out;
}

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
                                   name_of(cell.policy), cell.tokens, cell.of_tokens, name_of(row.cells.front().policy),
                                   perplexity_text(perplexity_on_subset(row.cells.front(), cell)));
            if (cell.non_finite == 0) continue;
            out += fmt::format("! {}, {}: {}\n", row.model, name_of(cell.policy), non_finite_text(cell));
            non_finite = true;
        }
    return non_finite ? out + fmt::format("! {}\n", infer::kNonFiniteAdvice) : out;
}

}  // namespace

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

void check_cache_table(const model::ModelConfig& config, int64_t num_tokens, const CacheTableOptions& options) {
    check_sinks(config, num_tokens, options.sink_metrics);
    for (const StreamingOptions& column : columns(options)) check_streaming(config, column);
}

MeasurementMemory cache_table_memory(const Context& context, const model::ModelConfig& config, Dtype dtype,
                                     int64_t num_tokens, const CacheTableOptions& options) {
    MeasurementMemory largest = sinks_memory(context, config, dtype, options.sink_metrics);
    for (const StreamingOptions& column : columns(options))
        largest = larger_of(std::move(largest), streaming_memory(context, config, dtype, dtype, column,
                                                                 config.num_sink_tokens + num_tokens));
    return largest;
}

CacheTableRow evaluate_cache_table(Context& context, const std::string& name, model::Transformer& model,
                                   const std::vector<uint32_t>& text, const CacheTableOptions& options) {
    const auto length = static_cast<int64_t>(text.size());
    check_cache_table(model.config(), length, options);
    const TextStream stream = make_text_stream(text, model.config(), 0, options.sink_metrics.first_id);
    const std::vector<StreamingOptions> all = columns(options);
    Progress progress(name, static_cast<int64_t>(all.size()) * length, "tokens");
    CacheTableRow row;
    row.model = name;
    row.sinks = evaluate_sinks(context, model, text, options.sink_metrics);
    for (size_t i = 0; i < all.size(); ++i) {
        progress.set_suffix(name_of(all[i].policy));
        row.cells.push_back(evaluate_streaming(context, model, stream, all[i], [&](int64_t done) {
            progress.update(static_cast<int64_t>(i) * length + std::min(done, length));
        }));
    }
    progress.finish();
    return row;
}

MeasuredModel to_measured_model(CacheTableRow row, const std::string& model, int64_t step) {
    MeasuredModel out{model, step, {}};
    for (StreamingResult& cell : row.cells) out.metrics.emplace_back(std::move(cell));
    out.metrics.emplace_back(std::move(row.sinks));
    return out;
}

std::string format_cache_table(const std::vector<CacheTableRow>& rows) {
    require(!rows.empty(), "a table without rows");
    const auto& first = rows.front();
    std::vector<std::vector<std::string>> perplexities{{"perplexity"}}, shares{{"attention on position 1"}};
    for (const auto& cell : first.cells) perplexities[0].push_back(name_of(cell.policy));
    perplexities[0].push_back("Sink_1");
    int64_t layers = 0;
    for (const auto& row : rows) layers = std::max(layers, row.sinks.layers);
    for (int64_t l = 0; l < layers; ++l) shares[0].push_back(fmt::format("layer {}", l));
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
