#include "kernels/recording.h"
#include "tests/kernels/reference/qkv.h"

using namespace ballast;
using namespace ballast::test;

TEST_CASE("rope: table and rotation against the oracle, in place and back") {
    for (Dtype dtype : compute_dtypes())
        for (auto [D, R] :
             {std::pair<int64_t, int64_t>{1, 0}, {3, 2}, {32, 8}, {64, 16}, {80, 20}, {33, 32}, {128, 128}})
            for (ops::Positions positions : {ops::Positions{}, ops::Positions{100}, ops::Positions{95, 99}}) {
                const int64_t B = 2, T = 7, H = 3;
                Context context(test_device(), 2);
                TestTensor x(dtype, {B, T, H, D}, normal(B * T * H * D, "x")), out(dtype, {B, T, H, D});
                TestTensor table(accumulation_dtype(dtype), {128, std::max<int64_t>(R, 2)});
                fill_table(context, table);
                const Tensor used = R == 0 ? Tensor() : table.tensor();
                const Values expected = rotated(x.get(), T, H, D, R, positions);
                ops::rope_forward(context, out, x, used, positions);
                check_close("out", out, expected);
                const Values before = x.get();
                ops::rope_forward(context, x, x, used, positions);
                CHECK(x.bytes() == out.bytes());
                ops::rope_backward(context, x, x, used, positions);
                check_error("rotated back", x, before, dtype == Dtype::f64 ? 1e-14 : dtype == Dtype::f32 ? 1e-6 : 5e-3);
            }
}

TEST_CASE("rope: angles are computed in double at far positions") {
    Context context(test_device(), 2);
    const int64_t P = 1'000'000;
    const TestTensor table(Dtype::f32, {P, 4});
    fill_table(context, table);
    for (int64_t p : {int64_t{0}, int64_t{65'537}, P - 1}) {
        CHECK(std::abs(table.at(p * 4) - std::cos(static_cast<double>(p))) <= 6e-8);
        CHECK(std::abs(table.at(p * 4 + 3) - std::sin(static_cast<double>(p) * 0.01)) <= 6e-8);
    }
}

TEST_CASE("rope: frequencies and an attention factor as data") {
    const Values inv_freq{0.75, 1e-3, 0.0, 3.5};
    for (double factor : {1.0, 1.3465735902799727}) {
        Context context(test_device(), 2);
        const int64_t P = 11, half = static_cast<int64_t>(inv_freq.size());
        const TestTensor table(Dtype::f32, {P, 2 * half});
        ops::rope_table(context, table, inv_freq, factor);
        const Values got = table.get();
        for (int64_t p = 0; p < P; ++p)
            for (int64_t i = 0; i < half; ++i) {
                const double angle = static_cast<double>(p) * inv_freq[static_cast<size_t>(i)];
                const auto at = static_cast<size_t>(p * 2 * half + i);
                CHECK(std::abs(got[at] - factor * std::cos(angle)) <= 1e-7);
                CHECK(std::abs(got[at + inv_freq.size()] - factor * std::sin(angle)) <= 1e-7);
            }
        const TestTensor narrow(Dtype::f32, {P, 6});
        CHECK_THROWS_AS(ops::rope_table(context, narrow, inv_freq, factor), InternalError);
    }
}

TEST_CASE("rope: an attention factor makes rotated dims grow, and no others") {
    const int64_t T = 7, H = 3, D = 32, R = 16;
    for (Dtype dtype : compute_dtypes()) {
        Context context(test_device(), 2);
        TestTensor table(accumulation_dtype(dtype), {32, R}), x(dtype, {1, T, H, D}, normal(T * H * D, "x")),
            out(dtype, {1, T, H, D});
        fill_table(context, table, 1.25);
        ops::rope_forward(context, out, x, table, {9});
        check_close("out", out, rotated(x.get(), T, H, D, R, {9}, 1.25));
    }
}

TEST_CASE("rope: finite differences of x", "[not_cuda]") {
    for (double factor : {1.0, 1.25}) {
        Context context(test_device(), 1);
        TestTensor table(Dtype::f64, {32, 4}), x(Dtype::f64, {1, 5, 2, 7}, normal(70, "x")),
            out(Dtype::f64, {1, 5, 2, 7}), d_out(Dtype::f64, {1, 5, 2, 7}, normal(70, "d_out")),
            d_x(Dtype::f64, {1, 5, 2, 7});
        fill_table(context, table, factor);
        ops::rope_backward(context, d_x, d_out, table, {3});
        check_gradient("x", x, d_x.get(), [&] {
            ops::rope_forward(context, out, x, table, {3});
            return dot(out.get(), d_out.get());
        });
    }
}

namespace {

// Widths that move in whole packs of 16 bytes, in pairs (Pythia-2.8B's 80 and 20) and one by one; NeoX, Falcon-40B,
// Falcon-7B; more places than a block has threads.
const QkvCase kQkvCases[] = {{3, 3, 12, 4},
                             {3, 3, 64, 16},
                             {2, 2, 80, 20},
                             {6, 2, 32, 32},
                             {4, 1, 7, 2},
                             {6, 2, 16, 0},
                             {5, 5, 9, 6},
                             {24, 24, 128, 128},
                             {6, 2, 64, 16, kConcatenated},
                             {4, 1, 7, 2, kConcatenated},
                             {3, 3, 12, 4, kConcatenated}};

/// positions.rows, one of them beyond what `last` lets through.
std::vector<int32_t> scattered_positions(int64_t count) {
    std::vector<int32_t> positions = integers(count, 20, "positions");
    positions[0] = 1000;
    return positions;
}

}  // namespace

TEST_CASE("qkv_split_rope: every layout, with rotation, and its gradient") {
    const int64_t B = 2, T = 9;
    const ops::Positions positions{5, 11};
    for (Dtype dtype : compute_dtypes())
        for (const QkvCase& c : kQkvCases)
            for (bool into_cache : {false, true}) {
                INFO("H " << c.H << ", G " << c.G << ", D " << c.D << ", R " << c.R
                          << (c.layout == kConcatenated ? ", concatenated" : ", grouped"));
                Context context(test_device(), 2);
                TestTensor table(accumulation_dtype(dtype), {16, std::max<int64_t>(c.R, 2)});
                fill_table(context, table);
                const Tensor used = c.R > 0 ? table.tensor() : Tensor();
                TestTensor qkv(dtype, {B, T, c.width()}, normal(B * T * c.width(), "qkv"));
                // Keys and values may go to where a longer cache has room for them.
                const int64_t S = into_cache ? T + 3 : T, at = into_cache ? 2 : 0;
                TestTensor q(dtype, {B, T, c.H, c.D}), k(dtype, {B, S, c.G, c.D}), v(dtype, {B, S, c.G, c.D});
                const Tensor k_slots = k.tensor().slice(1, at, at + T), v_slots = v.tensor().slice(1, at, at + T);
                const Values source = qkv.get();
                const auto rotated_part = [&](int part) {
                    return rotated(c.part_of(source, B * T, part), T, part == 0 ? c.H : c.G, c.D, c.R, positions);
                };
                ops::qkv_split_rope_forward(context, q, k_slots, v_slots, qkv, used, positions, c.layout);
                check_close("q", q, rotated_part(0));
                TestTensor keys(dtype, {B, T, c.G, c.D}), values(dtype, {B, T, c.G, c.D});
                ops::copy(context, keys, k_slots);
                ops::copy(context, values, v_slots);
                check_close("k", keys, rotated_part(1));
                check_error("v", values, c.part_of(source, B * T, 2), 0);
                if (into_cache) {  // and nowhere else: what was not written is NaN still
                    size_t written = 0;
                    for (double x : k.get()) written += x == x ? 1 : 0;
                    CHECK(written == static_cast<size_t>(B * T * c.G * c.D));
                }

                // The gradient of a rotation is the rotation back: joining q, k, v again gives qkv.
                TestTensor back(dtype, {B, T, c.width()});
                ops::qkv_split_rope_backward(context, back, q, k_slots, v_slots, used, positions, c.layout);
                check_error("d_qkv", back, source, dtype == Dtype::f64 ? 1e-14 : dtype == Dtype::f32 ? 1e-6 : 5e-3);
            }
}

TEST_CASE("qkv_split_rope: finite differences", "[not_cuda]") {
    for (const QkvCase& c : {QkvCase{2, 2, 6, 4}, QkvCase{4, 2, 6, 4}, QkvCase{4, 2, 6, 4, kConcatenated}}) {
        const int64_t T = 3, n = T * c.D;
        Context context(test_device(), 1);
        TestTensor table(Dtype::f64, {8, 4}), qkv(Dtype::f64, {1, T, c.width()}, normal(T * c.width(), "qkv")),
            q(Dtype::f64, {1, T, c.H, c.D}), k(Dtype::f64, {1, T, c.G, c.D}), v(Dtype::f64, {1, T, c.G, c.D}),
            d_q(Dtype::f64, {1, T, c.H, c.D}, normal(n * c.H, "d_q")),
            d_k(Dtype::f64, {1, T, c.G, c.D}, normal(n * c.G, "d_k")),
            d_v(Dtype::f64, {1, T, c.G, c.D}, normal(n * c.G, "d_v")), d_qkv(Dtype::f64, {1, T, c.width()});
        fill_table(context, table);
        ops::qkv_split_rope_backward(context, d_qkv, d_q, d_k, d_v, table, {2}, c.layout);
        check_gradient("qkv", qkv, d_qkv.get(), [&] {
            ops::qkv_split_rope_forward(context, q, k, v, qkv, table, {2}, c.layout);
            return dot(q.get(), d_q.get()) + dot(k.get(), d_k.get()) + dot(v.get(), d_v.get());
        });
    }
}

TEST_CASE("rope: heads at odd distances, which no pack of 16 bytes may cross") {
    const int64_t B = 2, T = 6, H = 3, D = 64, R = 16;
    for (Dtype dtype : compute_dtypes()) {
        Context context(test_device(), 2);
        TestTensor table(accumulation_dtype(dtype), {16, R});
        fill_table(context, table);
        TestTensor wide(dtype, {B, T, H, D + 1}, normal(B * T * H * (D + 1), "wide")), out(dtype, {B, T, H, D}),
            x(dtype, {B, T, H, D});
        const Tensor odd = wide.tensor().slice(3, 1, D + 1);
        ops::copy(context, x, odd);
        const Values expected = rotated(x.get(), T, H, D, R, {});
        ops::rope_forward(context, out, odd, table, {});
        check_close("out", out, expected);
        ops::rope_forward(context, odd, x, table, {});
        ops::copy(context, x, odd);
        CHECK(x.bytes() == out.bytes());
    }
}

TEST_CASE("rope: positions from the device, one a token") {
    const int64_t B = 3, T = 6, H = 2, P = 24, last = 21;
    const std::vector<int32_t> given = scattered_positions(B * T);
    for (Dtype dtype : compute_dtypes())
        for (const auto& [D, R] : {std::pair<int64_t, int64_t>{64, 16}, {10, 4}}) {
            Context context(test_device(), 2);
            TestTensor table(accumulation_dtype(dtype), {P, R}), rows({B, T}, given);
            fill_table(context, table);
            TestTensor x(dtype, {B, T, H, D}, normal(B * T * H * D, "x")), out(dtype, {B, T, H, D});
            Values expected;
            for (int64_t n = 0; n < B * T; ++n)
                for (int64_t h = 0; h < H; ++h) {
                    const Values all = x.get();
                    const auto first = all.begin() + (n * H + h) * D;
                    const Values z = reference_rope(Values(first, first + D), R,
                                                    std::min<int64_t>(given[static_cast<size_t>(n)], last), kBase);
                    expected.insert(expected.end(), z.begin(), z.end());
                }
            ops::rope_forward(context, out, x, table, {.last = last, .rows = rows});
            check_close("out", out, expected);
            ops::rope_backward(context, out, out, table, {.last = last, .rows = rows});
            check_error("rotated back", out, x.get(), dtype == Dtype::f64 ? 1e-14 : dtype == Dtype::f32 ? 1e-6 : 5e-3);
        }
}

TEST_CASE("rope: a position from the device that is no row of the table") {
    for (int32_t bad : {-1, 4, INT32_MAX, INT32_MIN}) {
        Context context(test_device(), 1);
        TestTensor table(Dtype::f32, {4, 2}), rows({1, 3}, std::vector<int32_t>{0, bad, 3}),
            x(Dtype::f32, {1, 3, 1, 4}, Values(12, 1.0)), out(Dtype::f32, {1, 3, 1, 4});
        fill_table(context, table);
        if (context.device() == Device::cpu) {
            CHECK_THROWS_AS(ops::rope_forward(context, out, x, table, {.rows = rows}), InternalError);
            continue;
        }
        ops::rope_forward(context, out, x, table, {.rows = rows});
        const Values got = out.get();
        for (size_t i = 0; i < got.size(); ++i) CHECK(std::isnan(got[i]) == (i == 4 || i == 5));
    }
}

TEST_CASE("rope: recorded work takes the positions that memory holds when it runs") {
    Context context(test_device(), 1);
    const int64_t B = 2, D = 8;
    TestTensor table(Dtype::f32, {64, D}), rows({B, 1}, std::vector<int32_t>{0, 0}),
        x(Dtype::f32, {B, 1, 1, D}, normal(B * D, "x")), out(Dtype::f32, {B, 1, 1, D});
    fill_table(context, table);
    Recording recording(context, [&] { ops::rope_forward(context, out, x, table, {.rows = rows}); });
    for (int32_t step = 0; step < 5; ++step) {
        const std::vector<int32_t> now{step, 40 + 2 * step};
        context.copy_from_host(rows, now.data());
        recording.run();
        Values expected;
        for (int64_t b = 0; b < B; ++b) {
            const Values all = x.get();
            const Values z = reference_rope(Values(all.begin() + b * D, all.begin() + (b + 1) * D), D,
                                            now[static_cast<size_t>(b)], kBase);
            expected.insert(expected.end(), z.begin(), z.end());
        }
        check_close("out", out, expected);
    }
}

TEST_CASE("qkv_split_rope: heads that are no multiple of key-value heads, or another width, are InternalErrors") {
    Context context(test_device(), 1);
    TestTensor q(Dtype::f32, {1, 2, 3, 4}), k(Dtype::f32, {1, 2, 2, 4}), one(Dtype::f32, {1, 2, 1, 4}),
        qkv(Dtype::f32, {1, 2, 28}), other(Dtype::f32, {1, 2, 24});
    CHECK_THROWS_AS(ops::qkv_split_rope_forward(context, q, k, k, qkv, {}, {}), InternalError);
    CHECK_THROWS_AS(ops::qkv_split_rope_forward(context, q, one, one, other, {}, {}), InternalError);
    CHECK_THROWS_AS(ops::qkv_split_rope_forward(context, q, one, k, qkv, {}, {}), InternalError);
}

TEST_CASE("rope: a position beyond the table is an InternalError") {
    Context context(test_device(), 1);
    TestTensor table(Dtype::f32, {4, 2}), x(Dtype::f32, {1, 5, 1, 4}, Values(20, 1.0));
    fill_table(context, table);
    CHECK_THROWS_AS(ops::rope_forward(context, x, x, table, {}), InternalError);
    CHECK_NOTHROW(ops::rope_forward(context, x, x, table, {0, 3}));
}
