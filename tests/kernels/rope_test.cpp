#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

namespace {

constexpr double kBase = 10000;

int64_t position_of(ops::Positions positions, int64_t t) { return std::min(positions.first + t, positions.last); }

/// The oracle on a whole [B,T,H,D].
Values rotated(const Values& x, int64_t T, int64_t H, int64_t D, int64_t R, ops::Positions positions) {
    Values out;
    for (size_t row = 0; row * static_cast<size_t>(D) < x.size(); ++row) {
        const auto first = x.begin() + static_cast<int64_t>(row) * D;
        const int64_t t = static_cast<int64_t>(row) / H % T;
        const Values z = reference_rope(Values(first, first + D), R, position_of(positions, t), kBase);
        out.insert(out.end(), z.begin(), z.end());
    }
    return out;
}

}  // namespace

TEST_CASE("rope: table and rotation against the oracle, in place and back") {
    for (Dtype dtype : compute_dtypes())
        for (auto [D, R] : {std::pair<int64_t, int64_t>{1, 0}, {3, 2}, {32, 8}, {64, 16}, {80, 20}, {33, 32}, {128, 128}})
            for (ops::Positions positions : {ops::Positions{}, ops::Positions{100}, ops::Positions{95, 99}}) {
                const int64_t B = 2, T = 7, H = 3;
                Context context(test_device(), 2);
                TestTensor x(dtype, {B, T, H, D}, normal(B * T * H * D, "x")), out(dtype, {B, T, H, D});
                TestTensor table(accumulation_dtype(dtype), {128, std::max<int64_t>(R, 2)});
                ops::rope_table(context, table, kBase);
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
    ops::rope_table(context, table, kBase);
    for (int64_t p : {int64_t{0}, int64_t{65'537}, P - 1}) {
        CHECK(std::abs(table.at(p * 4) - std::cos(static_cast<double>(p))) <= 6e-8);
        CHECK(std::abs(table.at(p * 4 + 3) - std::sin(static_cast<double>(p) * 0.01)) <= 6e-8);
    }
}

TEST_CASE("rope: finite differences of x", "[not_cuda]") {
    Context context(test_device(), 1);
    TestTensor table(Dtype::f64, {32, 4}), x(Dtype::f64, {1, 5, 2, 7}, normal(70, "x")), out(Dtype::f64, {1, 5, 2, 7}),
        d_out(Dtype::f64, {1, 5, 2, 7}, normal(70, "d_out")), d_x(Dtype::f64, {1, 5, 2, 7});
    ops::rope_table(context, table, kBase);
    ops::rope_backward(context, d_x, d_out, table, {3});
    check_gradient("x", x, d_x.get(), [&] {
        ops::rope_forward(context, out, x, table, {3});
        return dot(out.get(), d_out.get());
    });
}

TEST_CASE("qkv_split_rope: head-major split with rotation, and its gradient") {
    const int64_t B = 2, T = 9, H = 3, D = 12, R = 4;
    const ops::Positions positions{5, 11};
    for (Dtype dtype : compute_dtypes())
        for (bool rotate : {false, true}) {
            Context context(test_device(), 2);
            TestTensor table(accumulation_dtype(dtype), {16, R});
            ops::rope_table(context, table, kBase);
            const Tensor used = rotate ? table.tensor() : Tensor();
            TestTensor qkv(dtype, {B, T, 3 * H * D}, normal(B * T * 3 * H * D, "qkv"));
            TestTensor q(dtype, {B, T, H, D}), k(dtype, {B, T, H, D}), v(dtype, {B, T, H, D});
            Values parts[3];
            for (int64_t n = 0; n < B * T; ++n)
                for (int64_t h = 0; h < H; ++h)
                    for (int64_t part = 0; part < 3; ++part)
                        for (int64_t d = 0; d < D; ++d) parts[part].push_back(qkv.at(((n * H + h) * 3 + part) * D + d));
            const int64_t dims = rotate ? R : 0;
            ops::qkv_split_rope_forward(context, q, k, v, qkv, used, positions);
            check_close("q", q, rotated(parts[0], T, H, D, dims, positions));
            check_close("k", k, rotated(parts[1], T, H, D, dims, positions));
            check_error("v", v, parts[2], 0);

            // The gradient of a rotation is the rotation back: joining q, k, v again gives qkv.
            TestTensor back(dtype, {B, T, 3 * H * D});
            ops::qkv_split_rope_backward(context, back, q, k, v, used, positions);
            check_error("d_qkv", back, qkv.get(), dtype == Dtype::f64 ? 1e-14 : dtype == Dtype::f32 ? 1e-6 : 5e-3);
        }
}

TEST_CASE("qkv_split_rope: finite differences", "[not_cuda]") {
    const int64_t T = 3, H = 2, D = 6, n = T * H * D;
    Context context(test_device(), 1);
    TestTensor table(Dtype::f64, {8, 4}), qkv(Dtype::f64, {1, T, 3 * H * D}, normal(3 * n, "qkv")), q(Dtype::f64, {1, T, H, D}),
        k(Dtype::f64, {1, T, H, D}), v(Dtype::f64, {1, T, H, D}), d_q(Dtype::f64, {1, T, H, D}, normal(n, "d_q")),
        d_k(Dtype::f64, {1, T, H, D}, normal(n, "d_k")), d_v(Dtype::f64, {1, T, H, D}, normal(n, "d_v")),
        d_qkv(Dtype::f64, {1, T, 3 * H * D});
    ops::rope_table(context, table, kBase);
    ops::qkv_split_rope_backward(context, d_qkv, d_q, d_k, d_v, table, {2});
    check_gradient("qkv", qkv, d_qkv.get(), [&] {
        ops::qkv_split_rope_forward(context, q, k, v, qkv, table, {2});
        return dot(q.get(), d_q.get()) + dot(k.get(), d_k.get()) + dot(v.get(), d_v.get());
    });
}

TEST_CASE("rope: a position beyond the table is an InternalError") {
    Context context(test_device(), 1);
    TestTensor table(Dtype::f32, {4, 2}), x(Dtype::f32, {1, 5, 1, 4}, Values(20, 1.0));
    ops::rope_table(context, table, kBase);
    CHECK_THROWS_AS(ops::rope_forward(context, x, x, table, {}), InternalError);
    CHECK_NOTHROW(ops::rope_forward(context, x, x, table, {0, 3}));
}
