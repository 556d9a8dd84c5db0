// A mixture of attention spans (MoA, Fu et al. 2024, arXiv 2406.14909). Every head has a rule that gives the number of
// positions its cache holds for a text of N positions. Files are the MoA project's {"alphas", "betas"} JSON with
// optional keys of our own (docs/moa.md), or a table of DuoAttention's head scores.
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

/// The shortest and longest text a plan was made for, in positions. The plan accepts no longer text.
struct LengthRange {
    int64_t shortest = 1, longest = 1;
    bool operator==(const LengthRange&) const = default;
};

/// A result of the optimiser, or of a validation, at one length.
struct PlanFigure {
    int64_t length = 0;
    double density = 0;
    std::optional<double> loss;
    bool operator==(const PlanFigure&) const = default;
};

/// Rules for every entry of every layer. The entries of a layer are its query heads or its key-value heads. With
/// key-value heads, all query heads of a group have the group's rule.
struct SpanPlan {
    int64_t layers = 0, entries = 0;
    std::vector<SpanRule> rules;       // [layers, entries]
    int64_t block = 64, sinks = 64;    // positions; MoA's files imply these values
    std::optional<PlanShape> shape;    // of the model that the plan is for
    std::optional<LengthRange> range;  // empty: as in MoA's files, which accept any text
    std::vector<PlanFigure> figures;   // from the optimiser: influence lost at each profiled length

    const SpanRule& rule(int64_t layer, int64_t entry) const {
        return rules[static_cast<size_t>(layer * entries + entry)];
    }
    /// UserError that begins with "<source>: " for invalid numbers: sinks or alphas that are not multiples of the
    /// block, a share of N outside [0,1], spans shorter than the sinks at a length of the range.
    void validate(const std::string& source) const;
    bool operator==(const SpanPlan&) const = default;
};

/// The positions that a head's cache holds for a text of N positions, the query's own included: alpha + beta N, at most
/// N, at least the sinks and one block, rounded up to whole blocks. The sinks are included, as in the MoA project's run
/// time (its optimiser adds them): a full cache holds `sinks` positions and the last cache_size - sinks.
int64_t cache_size(const SpanRule& rule, int64_t block, int64_t sinks, int64_t N);
/// Earlier positions that a query sees besides the sinks and itself: cache_size - sinks - 1.
int64_t span_at(const SpanPlan& plan, int64_t layer, int64_t entry, int64_t N);

/// The rows that key-value head g of `kv_heads` keeps of N positions. Under a plan with one entry per query head this
/// is the largest number that a head of the group needs: a row stays while it is in the span of any of them.
int64_t kept_rows(const SpanPlan& plan, int64_t layer, int64_t g, int64_t kv_heads, int64_t N);
/// The share of memory: kept rows divided by N, as a mean over layers and key-value heads.
double memory_density(const SpanPlan& plan, int64_t kv_heads, int64_t N);
/// The share of work: cached positions that a query at the end attends to, divided by N, as a mean over the plan's
/// entries.
double attention_density(const SpanPlan& plan, int64_t N);

/// The caches of a model for texts of at most N positions, prompt and answer together. UserError when the plan is for a
/// model of another shape or for shorter texts, and when N is beyond the positions that the model was trained on. Keys
/// keep their absolute positions, so a plan does not extend a model's context.
CachePlan cache_plan(const SpanPlan& plan, const model::ModelConfig& config, int64_t N);

/// True for a name that ends in .tsv: it is read as a table of DuoAttention's scores, every other one as a plan.
bool is_score_table(const std::string& path);
/// Reads a plan's file, or a table of scores with the defaults of DuoOptions. UserError that names the file and the
/// place in it when the file is neither.
SpanPlan read_span_plan(const std::string& path);
/// UserError for the name of a table of scores, as the plan could not be read again.
void require_plan_name(const std::string& path);
/// UserError as for require_plan_name().
void write_span_plan(const std::string& path, const SpanPlan& plan);

/// How to convert DuoAttention's scores (Xiao et al. 2024, arXiv 2410.10819) to a plan: key-value heads with a score of
/// at least `threshold` keep everything; the others keep the first `sinks` and the last `recent` positions.
struct DuoOptions {
    double threshold = 0.5;
    int64_t sinks = 64, recent = 256, block = 64;
};
/// `path` has one line per layer and one column per key-value head, as numpy.savetxt writes it. Scores are clipped to
/// [0,1].
SpanPlan read_duo_plan(const std::string& path, const DuoOptions& options);

}  // namespace ballast::infer
