// Which row of a cache the next one replaces, against a plain list of rows.
#include "tests/kernels/cached_attention_fixture.h"

using namespace ballast;
using namespace ballast::test;

namespace {

constexpr int64_t kSequences = 3, kHeads = 2, kW = 3, kBlocks = kSequences * kHeads * kW + 2,
                  kRows = kBlocks * ops::kCacheBlockRows;

/// Rows of every head in shuffled blocks; of each, the slots in use hold shuffled positions.
struct Replacement {
    int64_t capacity, recent;
    std::vector<int32_t> position, table, positions;
    Values mass;

    Replacement(Dtype acc, int64_t slots, int64_t keep, std::vector<int32_t> next)
        : capacity(slots),
          recent(keep),
          position(std::move(next)),
          positions(static_cast<size_t>(kRows), 5),  // what no slot names may look old and light
          mass(static_cast<size_t>(kRows), -9) {
        const auto blocks = permutation(kBlocks, "blocks");
        table.assign(blocks.begin(), blocks.begin() + kSequences * kHeads * kW);
        for (int64_t bg = 0; bg < kSequences * kHeads; ++bg) {
            const std::string name = std::to_string(bg);
            const int64_t p = position[static_cast<size_t>(bg / kHeads)], used = std::min(p, slots);
            const auto place = permutation(used, "places" + name);
            const Values weights = rounded(acc, normal(used, "mass" + name));
            for (int64_t i = 0; i < used; ++i) {
                const auto at = static_cast<size_t>(row(bg, place[static_cast<size_t>(i)]));
                // the last `recent` positions, before them every third
                const int64_t age = used - i;
                positions[at] = static_cast<int32_t>(age <= keep ? p - age : p - keep - 3 * (age - keep));
                const double weight = std::abs(weights[static_cast<size_t>(i)]);
                mass[at] = rounded(acc, age <= keep ? weight - 7 : weight);  // the recent are light
            }
        }
    }
    int64_t row(int64_t bg, int64_t slot) const {
        return table[static_cast<size_t>(bg * kW + slot / 64)] * int64_t{64} + slot % 64;
    }
    /// By the op's own words.
    int64_t expected(int64_t bg) const {
        const int64_t p = position[static_cast<size_t>(bg / kHeads)];
        if (p < capacity) return row(bg, p);
        std::vector<std::tuple<double, int32_t, int64_t>> rows;
        for (int64_t slot = 0; slot < capacity; ++slot) {
            const auto at = static_cast<size_t>(row(bg, slot));
            if (positions[at] < p - recent)
                rows.emplace_back(std::isnan(mass[at]) ? -INFINITY : mass[at], positions[at], row(bg, slot));
        }
        return std::get<2>(*std::min_element(rows.begin(), rows.end()));
    }
    /// Slots, then the masses afterwards.
    std::pair<Values, Values> run(Context& context, Dtype acc) const {
        const TestTensor masses(acc, {kBlocks, 64}, mass), of_rows({kBlocks, 64}, positions);
        const TestTensor blocks({kSequences, kHeads, kW}, table), next({kSequences}, position),
            slots(Dtype::i32, {kSequences, kHeads});
        ops::lightest_slots(context, slots, masses, of_rows, blocks, next, capacity, recent);
        return {slots.get(), masses.get()};
    }
};

void check(const Replacement& x, Dtype acc) {
    Context context(test_device(), 2);
    const auto [slots, after] = x.run(context, acc);
    Values expected = x.mass;
    for (int64_t bg = 0; bg < kSequences * kHeads; ++bg) {
        INFO("head " << bg << " capacity " << x.capacity << " recent " << x.recent << " in " << name_of(acc));
        if (x.position[static_cast<size_t>(bg / kHeads)] < 0) {
            CHECK(slots[static_cast<size_t>(bg)] == -1);
            continue;
        }
        CHECK(slots[static_cast<size_t>(bg)] == static_cast<double>(x.expected(bg)));
        expected[static_cast<size_t>(x.expected(bg))] = 0;
    }
    for (size_t i = 0; i < expected.size(); ++i)
        CHECK((after[i] == expected[i] || (std::isnan(after[i]) && std::isnan(expected[i]))));
}

}  // namespace

TEST_CASE("cache replacement: the lightest row that is not recent goes, free slots come first") {
    for (Dtype acc : computable({Dtype::f32, Dtype::f64}))
        for (const auto& [capacity, recent] : {std::pair<int64_t, int64_t>{1, 0}, {2, 1}, {64, 63}, {65, 20}, {190, 3}})
            for (const int32_t beyond : {0, 700}) {
                const auto c = static_cast<int32_t>(capacity);
                check(Replacement(acc, capacity, recent, {c + beyond, c - 1, 0}), acc);
            }
}

TEST_CASE("cache replacement: of equal masses the earliest goes, and what is no number before all others") {
    for (Dtype acc : computable({Dtype::f32, Dtype::f64})) {
        Replacement x(acc, 150, 10, {400, 150, 151});
        for (double& mass : x.mass) mass = mass < 0 ? mass : 0.25;
        check(x, acc);
        x.mass[static_cast<size_t>(x.row(0, 77))] = x.mass[static_cast<size_t>(x.row(0, 149))] = NAN;
        check(x, acc);
    }
}

TEST_CASE("cache replacement: padding takes no slot, and no row loses its mass for it") {
    for (Dtype acc : computable({Dtype::f32, Dtype::f64})) {
        Replacement x(acc, 64, 10, {70, 64, 3});
        x.position[1] = -1;
        check(x, acc);
    }
}

TEST_CASE("cache replacement: the same slots for any number of threads, and with no head at all") {
    const Replacement x(Dtype::f32, 190, 30, {400, 300, 191});
    check_thread_counts([&](Context& context) {
        std::string out;
        for (const double slot : x.run(context, Dtype::f32).first) out += std::to_string(slot);
        return out;
    });
    Context context(test_device(), 1);
    const TestTensor mass(Dtype::f32, {1, 64}), positions(Dtype::i32, {1, 64}), none(Dtype::i32, {0, 2, 1});
    const TestTensor slots(Dtype::i32, {0, 2}), next(Dtype::i32, {0});
    CHECK_NOTHROW(ops::lightest_slots(context, slots, mass, positions, none, next, 64, 63));
    CHECK_THROWS_AS(ops::lightest_slots(context, slots, mass, positions, none, next, 65, 63), InternalError);
    CHECK_THROWS_AS(ops::lightest_slots(context, slots, mass, positions, none, next, 64, 64), InternalError);
}
