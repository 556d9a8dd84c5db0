// Rows into the paged cache and out of it; a ring of slots against attention over everything under a mask.
#include "tests/kernels/cached_attention_fixture.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// Element (row, d) of an [N,D] array.
size_t at(int64_t row, int64_t dims, int64_t d) { return static_cast<size_t>(row * dims + d); }

/// Where a ring with `sinks` pinned rows and span r keeps position p.
int64_t ring_slot(int64_t p, int64_t sinks, int64_t span) { return p < sinks ? p : sinks + (p - sinks) % (span + 1); }

}  // namespace

TEST_CASE("cache: rows are written where slots say, and nothing else is touched") {
    const int64_t N = 70, G = 2, D = 33, P = 4, slots = P * ops::kCacheBlockRows;
    for (const CacheDtypes& dtypes : cache_dtypes()) {
        const Values k = rounded(dtypes.x, normal(N * G * D, "k")), v = rounded(dtypes.x, normal(N * G * D, "v"));
        const std::vector<int64_t> places = permutation(slots, "slots");
        std::vector<int32_t> slot_of, position_of;
        Values keys(static_cast<size_t>(slots * D), 7), values = keys;
        std::vector<int32_t> positions(static_cast<size_t>(slots), -1);
        for (int64_t n = 0; n < N; ++n) {
            position_of.push_back(static_cast<int32_t>(1000 + n));
            for (int64_t g = 0; g < G; ++g) {
                const int64_t place = (n + g) % 5 == 0 ? -1 : places[at(n, G, g)];
                slot_of.push_back(static_cast<int32_t>(place));
                if (place < 0) continue;
                positions[static_cast<size_t>(place)] = position_of.back();
                for (int64_t d = 0; d < D; ++d) {
                    keys[at(place, D, d)] = rounded(dtypes.stored, k[at(n * G + g, D, d)]);
                    values[at(place, D, d)] = rounded(dtypes.stored, v[at(n * G + g, D, d)]);
                }
            }
        }
        const std::vector<int64_t> shape{P, ops::kCacheBlockRows, D};
        TestTensor cached_k(dtypes.stored, shape, Values(keys.size(), 7)),
            cached_v(dtypes.stored, shape, Values(keys.size(), 7));
        TestTensor cached_positions({P, ops::kCacheBlockRows}, std::vector<int32_t>(positions.size(), -1));
        // k and v are parts of the rows of one product.
        Values joined;
        for (int64_t n = 0; n < N; ++n)
            for (const Values* part : {&k, &v})
                joined.insert(joined.end(), part->begin() + n * G * D, part->begin() + (n + 1) * G * D);
        const TestTensor rows(dtypes.x, {N, 2 * G, D}, joined);
        const Tensor k_rows = rows.tensor().slice(1, 0, G), v_rows = rows.tensor().slice(1, G, 2 * G);
        const TestTensor slot_tensor({N, G}, slot_of), position_tensor({N}, position_of);
        Context context(test_device(), 2);
        ops::cache_write(context, {cached_k, cached_v, cached_positions}, k_rows, v_rows, slot_tensor, position_tensor);
        INFO(name_of(dtypes.x) << " in " << name_of(dtypes.stored));
        CHECK(cached_k.get() == keys);
        CHECK(cached_v.get() == values);
        CHECK(cached_positions.get() == Values(positions.begin(), positions.end()));
    }
}

TEST_CASE("cache: rows are read in the order of their positions, and what is not kept is zero") {
    struct Shape {
        int64_t dims, rows;
    };
    const int64_t sinks = 3, key_start = 40;
    for (const CacheDtypes& dtypes : cache_dtypes())
        for (const auto& [D, S] : {Shape{20, 60}, {1, 129}, {33, 300}, {64, 256}}) {
            CachedCase c{{.H = 2, .G = 2, .D = D}, {1000}, {}};
            // Sinks, positions before key_start, inside, and beyond the matrix; an empty slot; six blocks and a bit.
            c.kept = {{50, 0, 41, -1, 2, 39, 96, 97, 40}, {}};
            for (int32_t i = 0; i < 400; ++i) c.kept[1].push_back(399 - i);
            c.fill(dtypes);
            CachedRun run(c, dtypes);
            Values k(static_cast<size_t>(S * 2 * D), 0.0), v = k;
            for (size_t g = 0; g < 2; ++g)
                for (size_t i = 0; i < c.kept[g].size(); ++i) {
                    const int64_t p = c.kept[g][i], row = p < sinks ? p : sinks + p - key_start;
                    if (p < 0 || (p >= sinks && p < key_start) || row >= S) continue;
                    for (int64_t d = 0; d < D; ++d) {
                        k[at(row * 2 + static_cast<int64_t>(g), D, d)] = c.k[g][at(static_cast<int64_t>(i), D, d)];
                        v[at(row * 2 + static_cast<int64_t>(g), D, d)] = c.v[g][at(static_cast<int64_t>(i), D, d)];
                    }
                }
            // k and v are parts of the rows of one matrix, with a gap behind them.
            const TestTensor all(dtypes.x, {S, 5, D});
            const Tensor read_k = all.tensor().slice(1, 0, 2), read_v = all.tensor().slice(1, 2, 4);
            const auto part = [&, dims = D, rows_of = S](int64_t first, int64_t count) {
                const Values rows = all.get();
                Values out;
                for (int64_t row = 0; row < rows_of; ++row)
                    out.insert(out.end(), rows.begin() + (row * 5 + first) * dims,
                               rows.begin() + (row * 5 + first + count) * dims);
                return out;
            };
            Context context(test_device(), 2);
            ops::cache_read(context, read_k, read_v, run.cache(), run.rows(), sinks, key_start);
            INFO(name_of(dtypes.x) << " in " << name_of(dtypes.stored) << ", dims " << D << ", rows " << S);
            CHECK(part(0, 2) == k);
            CHECK(part(2, 2) == v);
            // Fewer rows: nothing stays of what was read before, and nothing was written beside k and v.
            const TestTensor none({1, 2}, {0, 0});
            ops::cache_read(context, read_k, read_v, run.cache(), {run.table, none}, sinks, key_start);
            CHECK(part(0, 4) == Values(2 * k.size(), 0.0));
            for (double x : part(4, 1)) REQUIRE(std::isnan(x));
        }
}

TEST_CASE("cache: a ring over three wraps is attention over everything under its mask") {
    const int64_t H = 4, G = 2, D = 16, sinks = 2, span = 67, T = sinks + 3 * (span + 1) + 5;
    for (Dtype dtype : computable({Dtype::f32, Dtype::f64})) {
        AttentionCase x{.T = T, .S = T, .H = H, .G = G, .D = D, .normaliser = Normaliser::off_by_one};
        x.sinks = x.key_start = sinks;
        x.span = {static_cast<int32_t>(span), 3, static_cast<int32_t>(span), 40};
        fill(x, dtype);
        AttentionRun all(x, dtype);
        Context context(test_device(), 2);
        all.forward(context);
        const Values expected = all.out.get();

        const int64_t slots = sinks + span + 1, W = (slots + ops::kCacheBlockRows - 1) / ops::kCacheBlockRows;
        const std::vector<int64_t> shape{G * W, ops::kCacheBlockRows, D};
        const TestTensor keys(dtype, shape), values(dtype, shape);
        const TestTensor positions({G * W, ops::kCacheBlockRows},
                                   std::vector<int32_t>(static_cast<size_t>(G * W * ops::kCacheBlockRows), -1));
        std::vector<int32_t> blocks(static_cast<size_t>(G * W));
        std::iota(blocks.begin(), blocks.end(), 0);
        const TestTensor table({1, G, W}, blocks), out(dtype, {1, H, D});
        const ops::PagedCache cache{keys, values, positions};
        Values got;
        for (int64_t t = 0; t < T; ++t) {
            const auto p = static_cast<int32_t>(t);
            const auto slot = static_cast<int32_t>(ring_slot(t, sinks, span));
            const auto length = static_cast<int32_t>(std::min(t + 1, slots));
            const TestTensor where({1, G}, {slot, static_cast<int32_t>(W * ops::kCacheBlockRows + slot)}),
                position({1}, {p});
            ops::cache_write(context, cache, all.k.tensor().slice(1, t, t + 1).view({1, G, D}),
                             all.v.tensor().slice(1, t, t + 1).view({1, G, D}), where, position);
            const std::vector<int32_t> lengths(static_cast<size_t>(G), length);
            const auto plan = ops::plan_cached_attention(lengths, G);
            const TestTensor length_tensor({1, G}, lengths),
                items({static_cast<int64_t>(plan.items_N3.size()) / 3, 3}, plan.items_N3);
            const TestTensor first({G + 1}, plan.first_BG1);
            ops::cached_attention_forward(context, out, all.q.tensor().slice(1, t, t + 1).view({1, H, D}), {}, cache,
                                          {table, length_tensor}, position, {items, first}, all.params());
            const Values row = out.get();
            got.insert(got.end(), row.begin(), row.end());
        }
        const double err = error(got, expected);
        INFO(name_of(dtype) << ": error " << err);
        if (!(err <= (dtype == Dtype::f64 ? 1e-13 : 1e-6))) FAIL();
    }
}
