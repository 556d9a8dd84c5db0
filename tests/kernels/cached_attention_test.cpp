// Attention over a paged cache against the oracle over the visible slots, and that a sequence's bits are its own.
#include "kernels/recording.h"
#include "tests/kernels/cached_attention_fixture.h"

using namespace ballast;
using namespace ballast::test;

namespace {

bool on_cpu() { return test_device() == Device::cpu; }

/// `count` positions in [0, count + holes) of which some are left out, in shuffled slots; every seventh slot is empty.
std::vector<int32_t> shuffled(int64_t count, int64_t holes, std::string_view name) {
    std::vector<int32_t> kept;
    for (int64_t p : permutation(count + holes, name))
        if (static_cast<int64_t>(kept.size()) < count) kept.push_back(static_cast<int32_t>(p));
    for (size_t i = 6; i < kept.size(); i += 7) kept[i] = -1;
    return kept;
}

/// A sequence for each length; key-value heads of a sequence keep different numbers of rows.
CachedCase ragged(const AttentionCase& rules, const std::vector<int64_t>& lengths) {
    CachedCase c{rules};
    for (int64_t length : lengths) {
        // Ahead of some rows: what stands behind the query is not seen.
        c.query_position.push_back(static_cast<int32_t>(length == 0 ? 3 : length - length / 10 - 1));
        for (int64_t g = 0; g < rules.G; ++g)
            c.kept.push_back(shuffled(std::max<int64_t>(0, length - 5 * g), 9, "slots" + std::to_string(length + g)));
    }
    return c;
}

/// Windows, sinks, ALiBi and the second query, for H heads.
std::vector<AttentionCase> cached_variants(int64_t H, int64_t G, int64_t D) {
    std::vector<AttentionCase> cases;
    for (Normaliser normaliser : {Normaliser::softmax, Normaliser::off_by_one, Normaliser::sink_logit})
        for (int mask = 0; mask < 3; ++mask) {
            AttentionCase x{.H = H, .G = G, .D = D};
            x.normaliser = normaliser;
            const int alibi = (mask + static_cast<int>(normaliser)) % 2;
            for (int64_t h = 0; h < H; ++h) {
                if (mask > 0) x.span.push_back(h % 3 == 2 ? -1 : static_cast<int32_t>(h % 3 == 0 ? 20 * h : 63));
                if (alibi != 0) x.alibi.push_back(0.25 / static_cast<double>(h + 1));
            }
            if (mask == 2) x.sinks = 3, x.has_sink_query = true, x.sink_query_position = 40;
            cases.push_back(x);
        }
    return cases;
}

}  // namespace

TEST_CASE("cached attention: every mask and normaliser over shuffled slots, against the oracle") {
    // The executor takes its time.
    const std::vector<int64_t> lengths =
        on_cpu() ? std::vector<int64_t>{0, 1, 63, 64, 65, 300} : std::vector<int64_t>{0, 270};
    for (const auto& [H, G, D] : {std::array<int64_t, 3>{3, 3, 64}, {9, 3, 64}, {4, 1, 40}, {10, 2, 33}})
        for (const AttentionCase& rules : cached_variants(H, G, D))
            for (const CacheDtypes& dtypes : cache_dtypes()) check_cached(ragged(rules, lengths), dtypes);
}

TEST_CASE("cached attention: many splits, and every tile of head dims") {
    for (int64_t D :
         on_cpu() ? std::vector<int64_t>{1, 16, 32, 80, 96, 128, 160, 256} : std::vector<int64_t>{1, 32, 80, 160, 256})
        for (const CacheDtypes& dtypes : cache_dtypes()) {
            AttentionCase rules{.H = 6, .G = 2, .D = D, .normaliser = Normaliser::off_by_one};
            rules.span = {-1, 200, 700, 5, 0, INT32_MAX};
            check_cached(ragged(rules, {1000}), dtypes);
        }
}

TEST_CASE("cached attention: any number of heads that share rows, over every tile of head dims") {
    struct Shape {
        int64_t heads, dims;
    };
    for (const auto& [heads, dims] : {Shape{1, 96},
                                      {2, 32},
                                      {3, 64},
                                      {4, 256},
                                      {7, 128},
                                      {16, 80},
                                      {16, 33},
                                      {20, 160},
                                      {40, 64},
                                      {71, 64},
                                      {71, 128}})
        for (const CacheDtypes& dtypes : cache_dtypes()) {
            if (!is_narrow(dtypes.x) && heads > 7) continue;
            std::vector<AttentionCase> variants = cached_variants(heads, 1, dims);
            for (size_t n = static_cast<size_t>(heads) % 2; n < variants.size(); n += 4)
                check_cached(ragged(variants[n], {330, 62}), dtypes);
        }
}

TEST_CASE("cached attention: heads that share rows and see different ones of a tile, far beyond the first splits") {
    for (const CacheDtypes& dtypes : cache_dtypes()) {
        AttentionCase rules{.H = 5, .G = 1, .D = 64, .normaliser = Normaliser::sink_logit};
        rules.span = {0, 1, 15, 16, 40};
        rules.sinks = 4, rules.has_sink_query = true, rules.sink_query_position = 600;
        rules.alibi = {0.5, 0.25, 0.125, 0.0625, 0.03125};
        CachedCase c{rules, {799}, {std::vector<int32_t>(800)}};
        std::iota(c.kept[0].begin(), c.kept[0].end(), 0);
        check_cached(c, dtypes);
    }
}

TEST_CASE("cached attention: queries of any strides and alignment give the same bits") {
    for (const CacheDtypes& dtypes : cache_dtypes())
        for (int64_t dims : {33, 64}) {
            AttentionCase rules{.H = 6, .G = 2, .D = dims};
            rules.sinks = 3, rules.has_sink_query = true, rules.sink_query_position = 40;
            CachedCase c = ragged(rules, {90, 33});
            c.fill(dtypes);
            CachedRun run(c, dtypes);
            Context context(test_device(), 1);
            run.forward(context);
            const std::string expected = run.out.bytes();
            const int64_t row = 6 * dims, wide = row + 3;
            const auto spread = [&](const Values& from) {
                Values to(static_cast<size_t>(2 * wide + 1), std::numeric_limits<double>::quiet_NaN());
                for (int64_t b = 0; b < 2; ++b) std::copy_n(from.begin() + b * row, row, to.begin() + b * wide + 1);
                return to;
            };
            const TestTensor q(dtypes.x, {2 * wide + 1}, spread(c.q)),
                sinks(dtypes.x, {2 * wide + 1}, spread(c.sink_query));
            const auto view = [&](const TestTensor& all) {
                Tensor x = run.q;
                x.data = static_cast<char*>(all.tensor().data) + size_of(dtypes.x);
                x.stride[0] = wide;
                return x;
            };
            run.out.poison();
            ops::cached_attention_forward(context, run.out, view(q), view(sinks), run.cache(), run.rows(),
                                          run.query_position, run.work(), run.params());
            INFO(name_of(dtypes.x) << ", dims " << dims);
            CHECK(run.out.bytes() == expected);
        }
}

TEST_CASE("cached attention: padding rows give 0 and read nothing") {
    for (Normaliser normaliser : {Normaliser::softmax, Normaliser::off_by_one})
        for (const CacheDtypes& dtypes : cache_dtypes()) {
            CachedCase c = ragged({.H = 4, .G = 2, .D = 32, .normaliser = normaliser}, {70, 300});
            c.query_position[0] = -1;
            check_cached(c, dtypes);
            c.fill(dtypes);
            CachedRun run(c, dtypes);
            Context context(test_device(), 1);
            run.forward(context);
            const Values out = run.out.get();
            for (int64_t i = 0; i < 4 * 32; ++i) REQUIRE(out[static_cast<size_t>(i)] == 0);
        }
}

TEST_CASE("cached attention: a sequence's bits are the same alone, with mates and for any number of threads") {
    const std::vector<int64_t> lengths{700, 1, 257, 64, 0};
    for (const CacheDtypes& dtypes : cache_dtypes()) {
        AttentionCase rules{.H = 6, .G = 2, .D = 64, .normaliser = Normaliser::sink_logit};
        rules.span = {-1, 100, 30, 400, 5, -1};
        CachedCase c = ragged(rules, lengths);
        c.fill(dtypes);
        std::string together;
        check_thread_counts([&](Context& context) {
            CachedRun run(c, dtypes, 5);
            run.forward(context, true);
            together = run.out.bytes();
            return together + run.mass.bytes();
        });
        const size_t row = together.size() / lengths.size();
        for (size_t b = 0; b < lengths.size(); ++b) {
            CachedCase alone = c;
            const auto at = static_cast<int64_t>(b);
            alone.query_position = {c.query_position[b]};
            const auto part = [&](const auto& all, int64_t size) {
                return std::decay_t<decltype(all)>(all.begin() + at * size, all.begin() + (at + 1) * size);
            };
            alone.kept = part(c.kept, 2);
            alone.k = part(c.k, 2);
            alone.v = part(c.v, 2);
            alone.q = part(c.q, 6 * 64);
            alone.sink_query = part(c.sink_query, 6 * 64);
            CachedRun run(alone, dtypes);
            Context context(test_device(), 1);
            run.forward(context);
            INFO("sequence " << b << " in " << name_of(dtypes.x));
            CHECK(run.out.bytes() == together.substr(b * row, row));
        }
    }
}

TEST_CASE("cached attention: queries of one text add to the mass as one call each would, to the bit") {
    // Four queries are of one text, then two of another. Mass is wanted in the first five blocks of a table; the two
    // after them come in another order for every other query.
    constexpr int64_t B = 6, H = 4, G = 2, D = 32, W = 7, mass_blocks = 5, blocks = 2 * G * W;
    for (const CacheDtypes& dtypes : cache_dtypes()) {
        std::vector<int32_t> table, places, at, lengths;
        for (int64_t b = 0; b < B; ++b) {
            at.push_back(static_cast<int32_t>(b < 4 ? 440 + b : 260 + b));
            for (int64_t g = 0; g < G; ++g) {
                lengths.push_back(static_cast<int32_t>(W * 64 - 7 + b));
                for (int64_t w = 0; w < W; ++w) {
                    const int64_t swapped = w >= mass_blocks && b % 2 == 1 ? 2 * mass_blocks + 1 - w : w;
                    table.push_back(static_cast<int32_t>(((b < 4 ? 0 : G) + g) * W + swapped));
                }
            }
        }
        for (int64_t i = 0; i < blocks * 64; ++i) places.push_back(static_cast<int32_t>(i % (W * 64)));
        const Dtype acc = accumulation_dtype(dtypes.x);
        const Values kept = rounded(dtypes.stored, normal(blocks * 64 * D, "k")), q_values = normal(B * H * D, "q");
        const TestTensor keys(dtypes.stored, {blocks, 64, D}, kept), positions({blocks, 64}, places);
        const TestTensor q(dtypes.x, {B, H, D}, rounded(dtypes.x, q_values));
        ops::AttentionParams params;
        params.scale = 0.2;
        const auto run = [&](Context& context, const std::vector<int64_t>& calls) {
            const TestTensor mass(acc, {blocks, 64}, Values(static_cast<size_t>(blocks * 64), 0.5));
            const TestTensor out(dtypes.x, {B, H, D});
            int64_t first = 0;
            for (const int64_t count : calls) {
                const auto part = [&](const auto& all, int64_t size) {
                    return std::vector<int32_t>(all.begin() + first * size, all.begin() + (first + count) * size);
                };
                const auto plan = ops::plan_cached_attention(part(lengths, G), G);
                const TestTensor items({std::ssize(plan.items_N3) / 3, 3}, plan.items_N3);
                const TestTensor firsts({count * G + 1}, plan.first_BG1), length({count, G}, part(lengths, G));
                const TestTensor rows({count, G, W}, part(table, G * W)), position({count}, part(at, 1));
                ops::cached_attention_forward(context, out.tensor().slice(0, first, first + count),
                                              q.tensor().slice(0, first, first + count), {}, {keys, keys, positions},
                                              {rows, length}, position, {items, firsts}, params,
                                              {.mass_PR = mass, .blocks = mass_blocks});
                first += count;
            }
            for (int64_t i = 0; i < blocks * 64; ++i) {
                const bool wanted = i / 64 % W < mass_blocks && i % (W * 64) <= (i / (W * 64) < G ? 443 : 265);
                REQUIRE((mass.at(i) != 0.5) == wanted);
            }
            return out.bytes() + mass.bytes();
        };
        Context context(test_device(), 1);
        const std::string expected = run(context, {1, 1, 1, 1, 1, 1});
        check_thread_counts([&](Context& threads) { return run(threads, {B}); });
        CHECK(run(context, {B}) == expected);
        CHECK(run(context, {3, 3}) == expected);
    }
}

TEST_CASE("cached attention: a recorded step goes on while sequences grow") {
    const int64_t B = 2, H = 4, G = 2, D = 32, W = 5, capacity = 8;
    const Dtype f32 = Dtype::f32;
    Context context(test_device(), 1);
    const std::vector<int64_t> shape{B * G * W, ops::kCacheBlockRows, D};
    const TestTensor keys(f32, shape, normal(B * G * W * ops::kCacheBlockRows * D, "keys"));
    const TestTensor values(f32, shape, normal(B * G * W * ops::kCacheBlockRows * D, "values"));
    std::vector<int32_t> places, blocks(static_cast<size_t>(B * G * W));
    for (int64_t i = 0; i < B * G * W * ops::kCacheBlockRows; ++i)
        places.push_back(static_cast<int32_t>(i % (W * ops::kCacheBlockRows)));
    std::iota(blocks.begin(), blocks.end(), 0);
    const TestTensor positions({B * G * W, ops::kCacheBlockRows}, places), table({B, G, W}, blocks);
    const TestTensor k(f32, {B, G, D}, normal(B * G * D, "k")), v(f32, {B, G, D}, normal(B * G * D, "v"));
    const TestTensor q(f32, {B, H, D}, normal(B * H * D, "q")), out(f32, {B, H, D}), expected(f32, {B, H, D});
    const ops::PagedCache cache{keys, values, positions};
    ops::AttentionParams params;
    params.normaliser = Normaliser::off_by_one;

    // What changes from step to step, on the host and on the device.
    struct Numbers {
        HostBuffer host;
        TestTensor device;
        static size_t count_of(const std::vector<int64_t>& dims) {
            return static_cast<size_t>(std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>()));
        }
        explicit Numbers(const std::vector<int64_t>& dims)
            : host(test_device(), sizeof(int32_t) * count_of(dims)),
              device(dims, std::vector<int32_t>(count_of(dims))) {}
        void set(const std::vector<int32_t>& x) { std::ranges::copy(x, host.as<int32_t>().begin()); }
    };
    Numbers slots({B, G}), position({B}), length({B, G}), items({capacity, 3}), first({B * G + 1});
    Recording step(context, [&] {
        for (const Numbers* n : {&slots, &position, &length, &items, &first})
            context.queue_copy_from_host(n->device, n->host.as<int32_t>());
        ops::cache_write(context, cache, k, v, slots.device, position.device);
        ops::cached_attention_forward(context, out, q, {}, cache, {table, length.device}, position.device,
                                      {items.device, first.device}, params);
    });
    for (int32_t run = 0; run < 5; ++run) {
        const std::vector<int32_t> at{254 + run, 62 + run};  // beyond a split, and beyond a block
        std::vector<int32_t> lengths, where;
        for (int64_t bg = 0; bg < B * G; ++bg) {
            lengths.push_back(at[static_cast<size_t>(bg / G)] + 1);
            where.push_back(static_cast<int32_t>(bg * W * ops::kCacheBlockRows) + lengths.back() - 1);
        }
        const auto plan = ops::plan_cached_attention(lengths, G, capacity);
        slots.set(where), position.set(at), length.set(lengths), items.set(plan.items_N3), first.set(plan.first_BG1);
        step.run();
        context.synchronise();
        for (size_t bg = 0; bg < where.size(); ++bg)
            for (int64_t d = 0; d < D; ++d)
                REQUIRE(keys.at(where[bg] * D + d) == k.at(static_cast<int64_t>(bg) * D + d));
        const auto exact = ops::plan_cached_attention(lengths, G);
        const TestTensor new_items({static_cast<int64_t>(exact.items_N3.size()) / 3, 3}, exact.items_N3);
        const TestTensor new_first({B * G + 1}, exact.first_BG1), new_length({B, G}, lengths), new_position({B}, at);
        ops::cached_attention_forward(context, expected, q, {}, cache, {table, new_length}, new_position,
                                      {new_items, new_first}, params);
        INFO("step " << run);
        CHECK(out.bytes() == expected.bytes());
    }
}

TEST_CASE("cached attention: work is planned longest first, and padded", "[cpu]") {
    const std::vector<int32_t> lengths{0, 300, 256, 10};
    const auto plan = ops::plan_cached_attention(lengths, 2, 6);
    CHECK(plan.first_BG1 == std::vector<int32_t>{0, 0, 2, 3, 4});
    CHECK(plan.items_N3 == std::vector<int32_t>{0, 1, 0, 1, 0, 0, 0, 1, 1, 1, 1, 0, -1, -1, -1, -1, -1, -1});
    CHECK_THROWS_AS(ops::plan_cached_attention(lengths, 2, 3), InternalError);
    CHECK_THROWS_AS(ops::plan_cached_attention(std::vector<int32_t>{-1}, 1), InternalError);
}

TEST_CASE("cached attention: work of too few splits and blocks beyond the cache are refused", "[cpu]") {
    const CacheDtypes f32{Dtype::f32, Dtype::f32};
    CachedCase c = ragged({.H = 1, .G = 1, .D = 8}, {300});
    c.fill(f32);
    CachedRun run(c, f32);
    Context context(Device::cpu, 1);
    run.forward(context);
    const TestTensor items({1, 3}, {0, 0, 0}), first({2}, {0, 1});
    CHECK_THROWS_AS(ops::cached_attention_forward(context, run.out, run.q, {}, run.cache(), run.rows(),
                                                  run.query_position, {items, first}, run.params()),
                    InternalError);
    run.table.put(0, 99);
    CHECK_THROWS_AS(run.forward(context), InternalError);
}

TEST_CASE("cached attention: on a GPU work of too few splits and blocks beyond the cache make NaN") {
    if (on_cpu()) return;
    for (const CacheDtypes& dtypes : cache_dtypes())
        for (int64_t heads : {1, 3, 20}) {
            CachedCase c = ragged({.H = heads, .G = 1, .D = 8}, {300});
            c.fill(dtypes);
            CachedRun run(c, dtypes);
            Context context(test_device(), 1);
            const TestTensor items({1, 3}, {0, 0, 0}), first({2}, {0, 1});
            const auto all_nan = [&] {
                for (double x : run.out.get())
                    if (!std::isnan(x)) return false;
                return true;
            };
            INFO(heads << " heads in " << name_of(dtypes.x));
            ops::cached_attention_forward(context, run.out, run.q, {}, run.cache(), run.rows(), run.query_position,
                                          {items, first}, run.params());
            CHECK(all_nan());
            for (int64_t block : {0, 4}) {  // one of several in a split, and the only one
                run.out.set(Values(static_cast<size_t>(heads * 8), 0));
                const double right = run.table.at(block);
                run.table.put(block, 99);
                run.forward(context);
                CHECK(all_nan());
                run.table.put(block, right);
            }
        }
}
