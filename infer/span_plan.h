// A mixture of attention spans (MoA, Fu et al. 2024, arXiv 2406.14909): for every head a rule that says how much of a
// text of N positions its cache holds. Files are the MoA project's {"alphas", "betas"} JSON with optional keys of ours
// (docs/moa.md), or a table of DuoAttention's head scores.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "infer/cache_plan.h"
#include "model/config.h"

namespace ballast::infer {

/// alpha + beta N positions: the elastic rule (section 4.1 of the paper).
struct SpanRule {
    double alpha = 0, beta = 1;
    bool operator==(const SpanRule&) const = default;
};

/// The heads a plan was made for.
struct PlanShape {
    int64_t layers = 0, heads = 0, kv_heads = 0;

    static PlanShape of(const model::ModelConfig& config) {
        return {config.num_layers, config.num_heads, config.key_value_heads()};
    }
    bool operator==(const PlanShape&) const = default;
};

/// Shortest and longest text a plan was made for, in positions; the longest is also the most that it takes.
struct LengthRange {
    int64_t shortest = 1, longest = 1;
    bool operator==(const LengthRange&) const = default;
};

/// What the optimiser, or a validation, found at one length.
struct PlanFigure {
    int64_t length = 0;
    double density = 0;
    std::optional<double> loss;
    bool operator==(const PlanFigure&) const = default;
};

/// Rules for every entry of every layer. A layer's entries are its query heads, or its key-value heads: then all query
/// heads of a group have the group's rule.
struct SpanPlan {
    int64_t layers = 0, entries = 0;
    std::vector<SpanRule> rules;       // [layers, entries]
    int64_t block = 64, sinks = 64;    // positions; MoA's files mean these two
    std::optional<PlanShape> shape;    // of the model it is for
    std::optional<LengthRange> range;  // none: as in MoA's files, which take any text
    std::vector<PlanFigure> figures;   // by the optimiser: influence lost at each profiled length

    const SpanRule& rule(int64_t layer, int64_t entry) const {
        return rules[static_cast<size_t>(layer * entries + entry)];
    }
    /// UserError, after "<source>: ", for numbers that mean nothing: sinks or alphas that the block does not divide, a
    /// share of N outside [0,1], spans below the sinks at a length of the range.
    void validate(const std::string& source) const;
    bool operator==(const SpanPlan&) const = default;
};

/// Positions that the cache of a head holds when a text is N long, the query's own among them: alpha + beta N, at most
/// N, at least the sinks and one block, rounded up to whole blocks. Sinks are inside, as in the MoA project's run time
/// (its optimiser counts them on top): a full cache holds `sinks` and the last cache_size - sinks.
int64_t cache_size(const SpanRule& rule, int64_t block, int64_t sinks, int64_t N);
/// Earlier positions that a query sees besides the sinks and itself: cache_size - sinks - 1.
int64_t span_at(const SpanPlan& plan, int64_t layer, int64_t entry, int64_t N);

/// Rows that the key-value head g of `kv_heads` keeps of N positions. Under a plan with an entry a query head these are
/// the most that a head of the group needs: a row stays while any of them spans it.
int64_t kept_rows(const SpanPlan& plan, int64_t layer, int64_t g, int64_t kv_heads, int64_t N);
/// Share of memory: rows kept over N, mean over layers and key-value heads.
double memory_density(const SpanPlan& plan, int64_t kv_heads, int64_t N);
/// Share of work: cached positions that a query at the end attends to over N, mean over the plan's entries.
double attention_density(const SpanPlan& plan, int64_t N);

/// The caches of a model for texts of at most N positions, prompt and answer together. UserError when the plan is for
/// another shape of model or shorter texts, and when N is beyond the positions that the model was trained on: keys stay
/// at their absolute places, so a plan does not make a model reach further.
CachePlan cache_plan(const SpanPlan& plan, const model::ModelConfig& config, int64_t N);

/// A plan's file. One that ends in .tsv is a table of DuoAttention's scores, taken with DuoOptions' defaults.
/// UserError, naming the file and the place in it, when it is neither.
SpanPlan read_span_plan(const std::string& path);
void write_span_plan(const std::string& path, const SpanPlan& plan);

/// How DuoAttention's scores (Xiao et al. 2024, arXiv 2410.10819) become a plan: key-value heads of a score of at least
/// `threshold` keep everything, the others the first `sinks` and the last `recent` positions.
struct DuoOptions {
    double threshold = 0.5;
    int64_t sinks = 64, recent = 256, block = 64;
};
/// `path` has a line a layer and a column a key-value head, as numpy.savetxt writes it; scores are clipped to [0,1].
SpanPlan read_duo_plan(const std::string& path, const DuoOptions& options);

}  // namespace ballast::infer
