// Runs cached_attention_forward on a case whose cache has its rows in shuffled slots and blocks, NaN where no head sees
// one.
#pragma once

#include <algorithm>
#include <optional>

#include "tests/kernels/attention_fixture.h"

namespace ballast::test {

/// What the model computes in, and what the cache holds.
struct CacheDtypes {
    Dtype x, stored;
};
inline std::vector<CacheDtypes> cache_dtypes() {
    std::vector<CacheDtypes> pairs;
    for (Dtype x : compute_dtypes()) pairs.push_back({x, x});
    pairs.push_back({Dtype::f32, Dtype::bf16});
    return pairs;
}

/// 0 … count - 1 in a random order.
inline std::vector<int64_t> permutation(int64_t count, std::string_view name) {
    const Philox generator(kSeed, name);
    std::vector<int64_t> order(static_cast<size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i > 1; --i)
        std::swap(order[i - 1], order[static_cast<size_t>(generator.uniform(i) * static_cast<double>(i))]);
    return order;
}

/// One query a sequence. `rules` has H, G, D, normaliser, spans, sinks, ALiBi.
struct CachedCase {
    AttentionCase rules;
    std::vector<int32_t> query_position = {};     // [B]
    std::vector<std::vector<int32_t>> kept = {};  // [B * G]: each slot's position, -1: nothing is there
    Values q = {}, sink_query = {};               // [B,H,D]
    std::vector<Values> k = {}, v = {};           // [B * G]: [slots, D]

    int64_t sequences() const { return static_cast<int64_t>(query_position.size()); }

    void fill(const CacheDtypes& dtypes) {
        AttentionCase& x = rules;
        x.scale = 1 / std::sqrt(static_cast<double>(x.D));
        if (x.normaliser == Normaliser::sink_logit) x.sink_logit = rounded(Dtype::f32, normal(x.H, "sink_logit", 3));
        q = rounded(dtypes.x, normal(sequences() * x.H * x.D, "q"));
        sink_query = rounded(dtypes.x, normal(sequences() * x.H * x.D, "sink_query"));
        k.clear(), v.clear();
        for (size_t bg = 0; bg < kept.size(); ++bg) {
            const int64_t count = static_cast<int64_t>(kept[bg].size()) * x.D;
            k.push_back(rounded(dtypes.stored, normal(count, "k" + std::to_string(bg))));
            v.push_back(rounded(dtypes.stored, normal(count, "v" + std::to_string(bg))));
        }
    }

    /// Whether a head of the group sees position j. Rows that none sees are not to be read.
    bool is_seen(size_t bg, int64_t j) const {
        const AttentionCase& x = rules;
        const auto group = x.H / x.G, b = static_cast<int64_t>(bg) / x.G, g = static_cast<int64_t>(bg) % x.G;
        const int64_t i = query_position[static_cast<size_t>(b)];
        bool near = x.span.empty() || j < x.sinks;
        for (int64_t h = g * group; !near && h < (g + 1) * group; ++h) {
            const int64_t span = x.span[static_cast<size_t>(h)];
            near = span < 0 || i - j <= span;
        }
        return 0 <= j && j <= i && near;
    }

    /// Head h of sequence b on its own, over the slots of its group.
    AttentionResult reference(int64_t b, int64_t h) const {
        const AttentionCase& x = rules;
        const size_t bg = static_cast<size_t>(b * x.G + h / (x.H / x.G)), at = static_cast<size_t>(h);
        AttentionCase one{.S = static_cast<int64_t>(kept[bg].size()), .D = x.D, .scale = x.scale};
        one.normaliser = x.normaliser;
        if (!x.sink_logit.empty()) one.sink_logit = {x.sink_logit[at]};
        if (!x.alibi.empty()) one.alibi = {x.alibi[at]};
        if (!x.span.empty()) one.span = {x.span[at]};
        for (int32_t position : kept[bg]) one.key_positions.push_back(position < 0 ? INT32_MAX : position);
        one.sinks = x.sinks;
        one.query_start = query_position[static_cast<size_t>(b)];
        one.sink_query_position = x.sink_query_position;
        one.has_sink_query = x.has_sink_query;
        const auto head = [&](const Values& all) {
            const auto first = all.begin() + (b * x.H + h) * x.D;
            return Values(first, first + x.D);
        };
        one.q = head(q);
        one.sink_query = head(sink_query);
        one.k = k[bg];
        one.v = v[bg];
        return reference_attention(one);
    }
};

/// The case's tensors and the op on them.
class CachedRun {
  public:
    /// The cache has some blocks more than are used; `padding` items more than needed are in the list of work.
    CachedRun(const CachedCase& c, const CacheDtypes& dtypes, int64_t padding = 0)
        : case_(c),
          B_(c.sequences()),
          blocks_(used_blocks(c) + 3),
          width_(widest(c) + 1),
          keys(dtypes.stored, {blocks_, ops::kCacheBlockRows, c.rules.D}),
          values(dtypes.stored, {blocks_, ops::kCacheBlockRows, c.rules.D}),
          positions({blocks_, ops::kCacheBlockRows}, std::vector<int32_t>(static_cast<size_t>(slots()), 0)),
          table({B_, c.rules.G, width_}, std::vector<int32_t>(static_cast<size_t>(B_ * c.rules.G * width_), -7)),
          length({B_, c.rules.G}, lengths(c)),
          q(dtypes.x, {B_, c.rules.H, c.rules.D}, c.q),
          sink_query(dtypes.x, {B_, c.rules.H, c.rules.D}, c.sink_query),
          query_position({B_}, c.query_position),
          out(dtypes.x, {B_, c.rules.H, c.rules.D}),
          mass(accumulation_dtype(dtypes.x), {blocks_, ops::kCacheBlockRows},
               Values(static_cast<size_t>(slots()), 0.5)),
          acc_(accumulation_dtype(dtypes.x)) {
        fill_cache();
        const auto plan = ops::plan_cached_attention(lengths(c), c.rules.G);
        const int64_t items = static_cast<int64_t>(plan.items_N3.size() / 3) + padding;
        const auto padded = ops::plan_cached_attention(lengths(c), c.rules.G, std::max<int64_t>(items, 1));
        items_.emplace(std::vector<int64_t>{std::max<int64_t>(items, 1), 3}, padded.items_N3);
        first_.emplace(std::vector<int64_t>{B_ * c.rules.G + 1}, padded.first_BG1);
        const AttentionCase& x = c.rules;
        if (!x.sink_logit.empty()) sink_logit_.emplace(acc_, std::vector<int64_t>{x.H}, x.sink_logit);
        if (!x.alibi.empty()) alibi_.emplace(acc_, std::vector<int64_t>{x.H}, x.alibi);
        if (!x.span.empty()) span_.emplace(std::vector<int64_t>{x.H}, x.span);
    }

    ops::PagedCache cache() const { return {keys, values, positions}; }
    ops::CacheRows rows() const { return {table, length}; }
    ops::CachedAttentionWork work() const { return {*items_, *first_}; }
    ops::AttentionParams params() const {
        const AttentionCase& x = case_.rules;
        ops::AttentionParams p;
        p.scale = x.scale;
        p.normaliser = x.normaliser;
        if (sink_logit_) p.sink_logit_H = *sink_logit_;
        if (alibi_) p.alibi_slope_H = *alibi_;
        if (span_) p.mask.span_H = *span_;
        p.mask.num_sink_positions = x.sinks;
        p.sink_query_position = x.sink_query_position;
        return p;
    }
    void forward(Context& context, bool with_mass = false) {
        ops::cached_attention_forward(context, out, q, case_.rules.has_sink_query ? sink_query.tensor() : Tensor(),
                                      cache(), rows(), query_position, work(), params(),
                                      {.mass_PR = with_mass ? mass.tensor() : Tensor()});
    }
    /// Slot i of (b, g) as block * 64 + row.
    int64_t slot(size_t bg, int64_t i) const {
        return block_[bg][static_cast<size_t>(i / ops::kCacheBlockRows)] * ops::kCacheBlockRows +
               i % ops::kCacheBlockRows;
    }
    int64_t slots() const { return blocks_ * ops::kCacheBlockRows; }

    static std::vector<int32_t> lengths(const CachedCase& c) {
        std::vector<int32_t> counts;
        for (const auto& kept : c.kept) counts.push_back(static_cast<int32_t>(kept.size()));
        return counts;
    }

  private:
    static int64_t blocks_of(const std::vector<int32_t>& kept) {
        return (static_cast<int64_t>(kept.size()) + ops::kCacheBlockRows - 1) / ops::kCacheBlockRows;
    }
    static int64_t used_blocks(const CachedCase& c) {
        int64_t blocks = 0;
        for (const auto& kept : c.kept) blocks += blocks_of(kept);
        return blocks;
    }
    static int64_t widest(const CachedCase& c) {
        int64_t blocks = 0;
        for (const auto& kept : c.kept) blocks = std::max(blocks, blocks_of(kept));
        return blocks;
    }

    /// Blocks in a random order. Rows beyond a length, and those that no head sees, stay NaN; the former say that they
    /// hold position 0, which every query would see.
    void fill_cache() {
        const int64_t D = case_.rules.D;
        const std::vector<int64_t> order = permutation(blocks_, "blocks");
        Values all_k(static_cast<size_t>(slots() * D), std::numeric_limits<double>::quiet_NaN()), all_v = all_k;
        std::vector<int32_t> all_positions(static_cast<size_t>(slots()), 0);
        std::vector<int32_t> all_table(static_cast<size_t>(B_ * case_.rules.G * width_), -7);
        size_t next = 0;
        for (size_t bg = 0; bg < case_.kept.size(); ++bg) {
            block_.emplace_back();
            for (int64_t w = 0; w < blocks_of(case_.kept[bg]); ++w) {
                block_[bg].push_back(order[next++]);
                all_table[bg * static_cast<size_t>(width_) + static_cast<size_t>(w)] =
                    static_cast<int32_t>(block_[bg].back());
            }
            for (size_t i = 0; i < case_.kept[bg].size(); ++i) {
                const int64_t at = slot(bg, static_cast<int64_t>(i));
                all_positions[static_cast<size_t>(at)] = case_.kept[bg][i];
                if (!case_.is_seen(bg, case_.kept[bg][i])) continue;
                const int64_t from = static_cast<int64_t>(i) * D;
                std::copy_n(case_.k[bg].begin() + from, D, all_k.begin() + at * D);
                std::copy_n(case_.v[bg].begin() + from, D, all_v.begin() + at * D);
            }
        }
        keys.set(all_k);
        values.set(all_v);
        write_device(positions.tensor().data, all_positions.data(), all_positions.size() * sizeof(int32_t));
        write_device(table.tensor().data, all_table.data(), all_table.size() * sizeof(int32_t));
    }

    const CachedCase& case_;
    int64_t B_, blocks_, width_;
    std::vector<std::vector<int64_t>> block_;  // [B * G]: the blocks of a table's row

  public:
    TestTensor keys, values, positions, table, length, q, sink_query, query_position, out, mass;

  private:
    Dtype acc_;
    std::optional<TestTensor> items_, first_, sink_logit_, alibi_, span_;
};

/// What a computation in T gives that rounds the weights and the result only.
inline Values naive_out(const AttentionResult& oracle, const Values& v, int64_t dims, Dtype dtype) {
    Values out(static_cast<size_t>(dims), 0.0);
    for (size_t i = 0; i < oracle.weights.size(); ++i) {
        const double weight = rounded(dtype, oracle.weights[i]);
        for (size_t d = 0; weight != 0 && d < out.size(); ++d) out[d] += weight * v[i * out.size() + d];
    }
    return rounded(dtype, out);
}

/// out, and the token scores, against the oracle. Heads that share rows have their weights rounded in 16 bits.
inline void check_cached(const CachedCase& shape, const CacheDtypes& dtypes) {
    CachedCase c = shape;
    c.fill(dtypes);
    CachedRun run(c, dtypes, 2);
    INFO(describe(c.rules) << " sequences " << c.sequences() << " in " << name_of(dtypes.x) << ", cache in "
                           << name_of(dtypes.stored));
    Context context(test_device(), 2);
    run.forward(context, true);
    Values out, naive, mass(static_cast<size_t>(run.slots()), 0.5);
    for (int64_t b = 0; b < c.sequences(); ++b)
        for (int64_t h = 0; h < c.rules.H; ++h) {
            const AttentionResult one = c.reference(b, h);
            out.insert(out.end(), one.out.begin(), one.out.end());
            const size_t bg = static_cast<size_t>(b * c.rules.G + h / (c.rules.H / c.rules.G));
            const Values rough = naive_out(one, c.v[bg], c.rules.D, dtypes.x);
            naive.insert(naive.end(), rough.begin(), rough.end());
            for (size_t i = 0; i < one.weights.size(); ++i)
                mass[static_cast<size_t>(run.slot(bg, static_cast<int64_t>(i)))] += one.weights[i];
        }
    if (is_narrow(dtypes.x) && c.rules.H > c.rules.G)
        check_error("out", run.out, out, 2 * error(naive, out) + 1e-12);
    else
        check_close("out", run.out, out, 1e-5);
    check_close("mass", run.mass, mass, 1e-5);
    const std::string with_mass = run.out.bytes();
    run.out.poison();
    run.forward(context);
    CHECK(run.out.bytes() == with_mass);
}

}  // namespace ballast::test
