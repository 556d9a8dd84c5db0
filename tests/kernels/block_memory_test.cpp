// InfLLM's memory of blocks against its definition over plain lists: representatives of what leaves the ring, which
// blocks a query reads.
#include "tests/kernels/cached_attention_fixture.h"

#include <map>

using namespace ballast;
using namespace ballast::test;

namespace {

constexpr int64_t kB = 3, kG = 2, kH = 4, kD = 20, kFar = 6;  // of the text: 384 positions

/// A table of shuffled blocks for each head of three sequences, and what the pool holds, as random numbers.
struct Memory {
    ops::BlockMemory shape;
    std::vector<int32_t> position, table;
    Values keys, mass, positions, representatives, q;
    int64_t width, blocks;
    CacheDtypes dtypes;

    Memory(const CacheDtypes& types, ops::BlockMemory memory, std::vector<int32_t> at)
        : shape(memory), position(std::move(at)), width(memory.ring_blocks() + kFar), dtypes(types) {
        const Dtype acc = accumulation_dtype(types.x);
        blocks = kB * kG * width + 2;
        for (const int64_t block : permutation(blocks, "blocks")) table.push_back(static_cast<int32_t>(block));
        table.resize(static_cast<size_t>(kB * kG * width));
        keys = rounded(types.stored, normal(blocks * 64 * kD, "keys"));
        mass = rounded(acc, normal(blocks * 64, "mass"));
        for (size_t i = 0; i < mass.size(); i += 5) mass[i] = 5;  // ties of the highest
        positions.assign(static_cast<size_t>(blocks * 64), 7);
        representatives = rounded(acc, normal(blocks * kD, "representatives"));
        q = rounded(types.x, normal(kB * kH * kD, "q"));
    }
    int64_t block(int64_t bg, int64_t w) const { return table[static_cast<size_t>(bg * width + w)]; }
    int64_t left(int64_t b) const { return position[static_cast<size_t>(b)] - shape.local; }

    /// memory_store by its own words.
    void store() {
        for (int64_t bg = 0; bg < kB * kG; ++bg) {
            const int64_t p = position[static_cast<size_t>(bg / kG)], m = p / 64, ring = shape.ring_blocks();
            if (p < 0 || p % 64 != 0) continue;
            const auto emptied = static_cast<size_t>(block(bg, m % ring) * 64);
            std::multimap<double, int64_t, std::greater<>> rows;  // equal ones stay in their order
            for (size_t i = 0; i < 64; ++i) {
                rows.emplace(mass[emptied + i], static_cast<int64_t>(i));
                mass[emptied + i] = 0;
                positions[emptied + i] = -1;
            }
            if (m - ring < shape.initial_blocks()) continue;
            const int64_t whole = block(bg, m);  // at place ring + (m - ring)
            for (int64_t d = 0; d < kD; ++d) {
                double sum = 0;
                auto it = rows.begin();
                for (int64_t i = 0; i < shape.representatives; ++i, ++it)
                    sum += keys[static_cast<size_t>((whole * 64 + it->second) * kD + d)];
                representatives[static_cast<size_t>(whole * kD + d)] = sum / static_cast<double>(shape.representatives);
            }
        }
    }
    double relevance(int64_t b, int64_t n) const {
        double sum = 0;
        for (int64_t h = 0; h < kH; ++h)
            for (int64_t d = 0; d < kD; ++d) {
                const int64_t of = block(b * kG + h / (kH / kG), shape.ring_blocks() + n);
                sum +=
                    q[static_cast<size_t>((b * kH + h) * kD + d)] * representatives[static_cast<size_t>(of * kD + d)];
            }
        return sum;
    }
    /// The places in its table that sequence b reads.
    std::vector<int64_t> places(int64_t b) const {
        std::vector<int64_t> out(static_cast<size_t>(shape.ring_blocks()));
        std::iota(out.begin(), out.end(), 0);
        if (left(b) < 0) return out;
        const int64_t whole = left(b) / 64;
        std::vector<int64_t> others, read;
        for (int64_t n = 0; n < whole; ++n) (n < shape.initial_blocks() ? read : others).push_back(n);
        std::stable_sort(others.begin(), others.end(),
                         [&](int64_t x, int64_t y) { return relevance(b, x) > relevance(b, y); });
        others.resize(std::min(others.size(), static_cast<size_t>(shape.chosen)));
        std::sort(others.begin(), others.end());
        read.insert(read.end(), others.begin(), others.end());
        read.push_back(whole);
        for (const int64_t n : read) out.push_back(shape.ring_blocks() + n);
        return out;
    }
};

void check(Memory x) {
    const Dtype acc = accumulation_dtype(x.dtypes.x);
    Context context(test_device(), 2);
    const TestTensor keys(x.dtypes.stored, {x.blocks, 64, kD}, x.keys), mass(acc, {x.blocks, 64}, x.mass);
    const TestTensor positions({x.blocks, 64}, std::vector<int32_t>(x.positions.begin(), x.positions.end()));
    const TestTensor representatives(acc, {x.blocks, kD}, x.representatives), q(x.dtypes.x, {kB, kH, kD}, x.q);
    const TestTensor table({kB, kG, x.width}, x.table), position({kB}, x.position);
    const int64_t V = x.shape.read_blocks() + 1;
    const TestTensor read({kB, kG, V}, std::vector<int32_t>(static_cast<size_t>(kB * kG * V), -5));
    const TestTensor relevance(acc, {kB, kFar + 1});
    ops::memory_store(context, representatives, mass, {keys, keys, positions}, table, position, x.shape);
    x.store();
    CHECK(mass.get() == x.mass);
    CHECK(positions.get() == x.positions);
    check_close("representatives", representatives, x.representatives, 1e-6);
    ops::memory_lookup(context, read, relevance, q, representatives, table, position, x.shape);
    const Values got = read.get();
    for (int64_t b = 0; b < kB; ++b) {
        const auto places = x.places(b);
        const int64_t used = (x.shape.slots(x.position[static_cast<size_t>(b)]) + 63) / 64;
        if (x.left(b) >= 0) CHECK(used == std::ssize(places));
        for (int64_t g = 0; g < kG; ++g)
            for (int64_t i = 0; i < V; ++i) {
                INFO("sequence " << b << " head " << g << " place " << i << " in " << name_of(x.dtypes.x));
                const double expected = i < std::ssize(places)
                                            ? static_cast<double>(x.block(b * kG + g, places[static_cast<size_t>(i)]))
                                            : -5;
                CHECK(got[static_cast<size_t>((b * kG + g) * V + i)] == expected);
            }
    }
}

}  // namespace

TEST_CASE("block memory: scores, representatives and the blocks that are read") {
    for (const CacheDtypes& dtypes : cache_dtypes())
        for (const auto& [local, initial, chosen] :
             {std::array<int64_t, 3>{64, 64, 2}, {128, 0, 1}, {64, 128, 0}, {64, 0, 9}}) {
            const ops::BlockMemory shape{.local = local, .initial = initial, .chosen = chosen};
            const auto from = static_cast<int32_t>(local);
            check(Memory(dtypes, shape, {from + 383, from + 320, from + 256}));  // blocks begin to leave, or go on
            check(Memory(dtypes, shape, {0, from - 1, from}));
            check(Memory(dtypes, shape, {from + 63, from + 64, -1}));
        }
}

TEST_CASE("block memory: one table for positions of one text = the same table for each") {
    for (const CacheDtypes& dtypes : cache_dtypes()) {
        Memory x(dtypes, {.local = 64, .initial = 64, .chosen = 2}, {64 + 320, 64 + 325, 64 + 383});
        x.table.resize(static_cast<size_t>(kG * x.width));
        const auto repeated = [&](int64_t count) {
            std::vector<int32_t> out;
            for (int64_t i = 0; i < count; ++i) out.insert(out.end(), x.table.begin(), x.table.end());
            return out;
        };
        const auto results = [&](int64_t tables) {
            const Dtype acc = accumulation_dtype(dtypes.x);
            Context context(test_device(), 2);
            const TestTensor keys(dtypes.stored, {x.blocks, 64, kD}, x.keys), mass(acc, {x.blocks, 64}, x.mass);
            const TestTensor positions(Dtype::i32, {x.blocks, 64}), q(dtypes.x, {kB, kH, kD}, x.q);
            const TestTensor representatives(acc, {x.blocks, kD}, x.representatives);
            const TestTensor table({tables, kG, x.width}, repeated(tables)), position({kB}, x.position);
            const TestTensor read({kB, kG, 6}, std::vector<int32_t>(static_cast<size_t>(kB * kG * 6), -5));
            const TestTensor relevance(acc, {kB, kFar});
            ops::memory_store(context, representatives, mass, {keys, keys, positions}, table, position, x.shape);
            ops::memory_lookup(context, read, relevance, q, representatives, table, position, x.shape);
            return mass.bytes() + representatives.bytes() + read.bytes();
        };
        CHECK(results(1) == results(kB));
    }
}

TEST_CASE("block memory: relevance for any head dims and groups, where missing blocks count nothing") {
    const int64_t B = 2, local = 64, ring = 2, count = 5;
    for (const auto& [G, share, D] :
         {std::array<int64_t, 3>{1, 1, 1}, {2, 3, 33}, {1, 16, 64}, {3, 1, 128}, {5, 2, 256}})
        for (Dtype dtype : compute_dtypes()) {
            const Dtype acc = accumulation_dtype(dtype);
            const int64_t H = G * share, width = ring + count, blocks = B * G * width;
            std::vector<int32_t> table;
            for (const int64_t block : permutation(blocks, "blocks")) table.push_back(static_cast<int32_t>(block));
            if (test_device() != Device::cpu)  // there an error
                table[3] = -1, table[static_cast<size_t>((B * G - 1) * width + 2)] = static_cast<int32_t>(blocks + 7);
            const Values all = rounded(acc, normal(blocks * D, "representatives"));
            const Values queries = rounded(dtype, normal(B * H * D, "q"));
            // Queries begin at an odd element of a wider row in every other case.
            const int64_t first = G % 2, row = H * D + 2 * first;
            Values wide(static_cast<size_t>(B * row), std::numeric_limits<double>::quiet_NaN());
            for (int64_t b = 0; b < B; ++b)
                std::copy_n(queries.begin() + b * H * D, H * D, wide.begin() + b * row + first);
            const TestTensor q(dtype, {B * row}, wide), representatives(acc, {blocks, D}, all);
            Tensor view = q.tensor().slice(0, first, first + H * D).view({1, H, D});
            view.shape[0] = B, view.stride[0] = row;
            const std::vector<int32_t> at{local + 64 * 4 + 5, local + 64 * 2};  // four and two complete blocks
            const TestTensor tables({B, G, width}, table), position({B}, at), read(Dtype::i32, {B, G, ring + 3});
            const TestTensor relevance(acc, {B, count});
            Context context(test_device(), 2);
            ops::memory_lookup(context, read, relevance, view, representatives, tables, position,
                               {.local = local, .initial = 0, .chosen = 2});
            const Values got = relevance.get();
            Values known, expected;
            for (int64_t b = 0; b < B; ++b)
                for (int64_t n = 0; n < count; ++n) {
                    if (n >= (b == 0 ? 4 : 2)) {
                        CHECK(std::isnan(got[static_cast<size_t>(b * count + n)]));
                        continue;
                    }
                    known.push_back(got[static_cast<size_t>(b * count + n)]), expected.push_back(0);
                    for (int64_t h = 0; h < H; ++h) {
                        const int64_t block = table[static_cast<size_t>((b * G + h / share) * width + ring + n)];
                        for (int64_t d = 0; 0 <= block && block < blocks && d < D; ++d)
                            expected.back() += queries[static_cast<size_t>((b * H + h) * D + d)] *
                                               all[static_cast<size_t>(block * D + d)];
                    }
                }
            const double err = error(known, expected);
            INFO(G << " groups of " << share << ", dims " << D << " in " << name_of(dtype) << ": error " << err);
            if (!(err <= (acc == Dtype::f64 ? 1e-13 : 2e-6))) FAIL();
        }
}

TEST_CASE("block memory: scores that are no numbers come last and break nothing") {
    Memory x({Dtype::f32, Dtype::f32}, {.local = 64, .initial = 0, .chosen = 2}, {64 + 320, 64 + 256, 64 + 70});
    const int64_t first = x.block(0, 2);
    for (int64_t d = 0; d < kD; ++d) x.representatives[static_cast<size_t>(first * kD + d)] = NAN;
    Context context(test_device(), 2);
    const TestTensor representatives(Dtype::f32, {x.blocks, kD}, x.representatives), q(Dtype::f32, {kB, kH, kD}, x.q);
    const TestTensor table({kB, kG, x.width}, x.table), position({kB}, x.position);
    const TestTensor read(Dtype::i32, {kB, kG, 5}), relevance(Dtype::f32, {kB, kFar});
    ops::memory_lookup(context, read, relevance, q, representatives, table, position, x.shape);
    const Values got = read.get();
    CHECK(got[0] == static_cast<double>(x.block(0, 0)));
    CHECK(got[1] == static_cast<double>(x.block(0, 1)));
    CHECK(got[2] != static_cast<double>(first));
    CHECK(got[3] != static_cast<double>(first));
    CHECK(got[4] == static_cast<double>(x.block(0, 7)));
}

TEST_CASE("block memory: the same for any number of threads, and shapes that cannot be are refused") {
    const Memory x({Dtype::f32, Dtype::f32}, {.local = 64, .initial = 0, .chosen = 2}, {64 + 320, 64 + 256, 64 + 70});
    const TestTensor representatives(Dtype::f32, {x.blocks, kD}, x.representatives), q(Dtype::f32, {kB, kH, kD}, x.q);
    const TestTensor table({kB, kG, x.width}, x.table), position({kB}, x.position);
    check_thread_counts([&](Context& context) {
        const TestTensor read(Dtype::i32, {kB, kG, 5}), relevance(Dtype::f32, {kB, kFar});
        ops::memory_lookup(context, read, relevance, q, representatives, table, position, x.shape);
        return read.bytes() + relevance.bytes();
    });
    Context context(test_device(), 1);
    const TestTensor read(Dtype::i32, {kB, kG, 5}), relevance(Dtype::f32, {kB, kFar});
    const auto lookup = [&](const ops::BlockMemory& shape) {
        ops::memory_lookup(context, read, relevance, q, representatives, table, position, shape);
    };
    CHECK_THROWS_AS(lookup({.local = 60, .initial = 0, .chosen = 2}), InternalError);
    CHECK_THROWS_AS(lookup({.local = 64, .initial = 3, .chosen = 2}), InternalError);
    CHECK_THROWS_AS(lookup({.local = 64, .initial = 0, .chosen = 3}), InternalError);  // read has no room
    CHECK_THROWS_AS(lookup({.local = 64, .initial = 0, .chosen = 2, .representatives = 65}), InternalError);
}
