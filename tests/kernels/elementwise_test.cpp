#include <array>

#include "tests/kernels/support.h"

using namespace ballast;
using namespace ballast::test;

TEST_CASE("embedding: rows by id, gradients added in order") {
    const int64_t V = 13, N = 129;
    const auto ids = integers(N, static_cast<int32_t>(V), "ids");
    for (Dtype dtype : compute_dtypes())
        for (int64_t C : {1, 63, 65, 200}) {
            const Dtype acc = accumulation_dtype(dtype);
            TestTensor weight(dtype, {V, C}, normal(V * C, "weight")), id({N}, ids), out(dtype, {N, C}),
                d_out(dtype, {N, C}, normal(N * C, "d_out")), d_weight(acc, {V, C}, normal(V * C, "d_weight"));
            Values expected, d_expected = d_weight.get();
            for (int64_t i = 0; i < N * C; ++i) {
                const int64_t at = ids[static_cast<size_t>(i / C)] * C + i % C;
                expected.push_back(weight.at(at));
                d_expected[static_cast<size_t>(at)] += d_out.at(i);
            }
            Context context(test_device(), 2);
            ops::embedding_forward(context, out, weight, id);
            ops::embedding_backward(context, d_weight, d_out, id);
            check_error("out", out, expected, 0);
            check_error("d_weight", d_weight, d_expected, acc == Dtype::f64 ? 1e-14 : 1e-6);
        }
    check_thread_counts([&](Context& context) {
        TestTensor id({N}, ids), d_out(Dtype::f32, {N, 200}, normal(N * 200, "d_out")),
            d_weight(Dtype::f32, {V, 200}, normal(V * 200, "d_weight"));
        ops::embedding_backward(context, d_weight, d_out, id);
        return d_weight.bytes();
    });
}

TEST_CASE("embedding: rows in whole and in broken packs, over several blocks of threads") {
    const int64_t V = 37;
    for (Dtype dtype : compute_dtypes())
        for (const auto& [N, C] : {std::pair<int64_t, int64_t>{1, 8}, {515, 16}, {7, 1000}, {300, 24}, {1030, 1}}) {
            CAPTURE(name_of(dtype), N, C);
            const auto ids = integers(N, static_cast<int32_t>(V), "ids");
            TestTensor weight(dtype, {V, C}, normal(V * C, "weight")), id({N}, ids), out(dtype, {N, C});
            const Values rows = weight.get();
            Values expected;
            for (const int32_t row : ids)
                expected.insert(expected.end(), rows.begin() + row * C, rows.begin() + (row + 1) * C);
            Context context(test_device(), 2);
            ops::embedding_forward(context, out, weight, id);
            CHECK(out.get() == expected);
        }
}

TEST_CASE("embedding: a weight narrower than out is widened, times the scales of its rows") {
    const int64_t V = 19;
    for (const auto& [dtype, stored] : {std::pair{Dtype::f32, Dtype::i8},
                                        {Dtype::bf16, Dtype::i8},
                                        {Dtype::f16, Dtype::i8},
                                        {Dtype::f32, Dtype::bf16}}) {
        if (computable({dtype}).empty()) continue;
        for (const auto& [N, C] : {std::pair<int64_t, int64_t>{1, 8}, {5, 63}, {130, 40}, {3, 1}}) {
            CAPTURE(name_of(dtype), name_of(stored), N, C);
            const bool scaled = stored == Dtype::i8;
            auto ids = integers(N, static_cast<int32_t>(V), "ids");
            const auto whole = integers(V * C, 255, "weight");
            Values values, scales = normal(V, "scale");
            for (const int32_t value : whole) values.push_back(value - 127);
            TestTensor weight(stored, {V, C}, values), scale(Dtype::f32, {V}, scales), id({N}, ids), out(dtype, {N, C});
            scales = scale.get();
            Values expected;
            for (int64_t i = 0; i < N * C; ++i) {
                const auto row = static_cast<size_t>(ids[static_cast<size_t>(i / C)]);
                const double value = values[row * static_cast<size_t>(C) + static_cast<size_t>(i % C)];
                expected.push_back(rounded(dtype, rounded(Dtype::f32, scaled ? value * scales[row] : value)));
            }
            Context context(test_device(), 2);
            const Tensor no_scale;
            ops::embedding_forward(context, out, weight, id, scaled ? scale.tensor() : no_scale);
            CHECK(out.get() == expected);
            if (context.device() == Device::cpu) continue;
            ids[0] = static_cast<int32_t>(V);
            const TestTensor bad_id({N}, ids);
            ops::embedding_forward(context, out, weight, bad_id, scaled ? scale.tensor() : no_scale);
            for (int64_t c = 0; c < C; ++c) CHECK(std::isnan(out.at(c)));
        }
    }
}

TEST_CASE("embedding: ids as common as in text, whose rows many blocks add up") {
    // Runs of equal ids of every length around the GPU's blocks of 16 rows, the commonest through many of them.
    const int64_t V = 300, N = 1000, C = 72;
    std::vector<int32_t> ids = integers(N, static_cast<int32_t>(V), "ids");
    for (size_t n = 0; n < ids.size(); ++n)
        if (n % 5 < 2) ids[n] = n % 50 < 20 ? 7 : static_cast<int32_t>(n % 4) + 100;
    for (Dtype dtype : compute_dtypes()) {
        const Dtype acc = accumulation_dtype(dtype);
        TestTensor id({N}, ids), d_out(dtype, {N, C}, normal(N * C, "d_out")),
            d_weight(acc, {V, C}, normal(V * C, "d_weight"));
        Values expected = d_weight.get();
        const Values gradient = d_out.get();
        for (size_t i = 0; i < gradient.size(); ++i)
            expected[static_cast<size_t>(ids[i / C]) * C + i % C] += gradient[i];
        Context context(test_device(), 2);
        ops::embedding_backward(context, d_weight, d_out, id);
        check_error("d_weight", d_weight, expected, acc == Dtype::f64 ? 1e-14 : 1e-6);
    }
}

TEST_CASE("embedding: finite differences of the weight", "[not_cuda]") {
    TestTensor id({4}, {2, 0, 2, 1}), weight(Dtype::f64, {3, 5}, normal(15, "weight")), out(Dtype::f64, {4, 5}),
        d_out(Dtype::f64, {4, 5}, normal(20, "d_out")), d_weight(Dtype::f64, {3, 5}, Values(15, 0.0));
    Context context(test_device(), 1);
    ops::embedding_backward(context, d_weight, d_out, id);
    check_gradient("weight", weight, d_weight.get(), [&] {
        ops::embedding_forward(context, out, weight, id);
        return dot(out.get(), d_out.get());
    });
}

TEST_CASE("embedding: an id outside the vocabulary is an InternalError, or NaN on a GPU") {
    TestTensor weight(Dtype::f32, {3, 5}, normal(15, "weight")), out(Dtype::f32, {2, 5});
    Context context(test_device(), 1);
    for (int32_t bad : {-1, 3}) {
        TestTensor id({2}, {0, bad});
        if (context.device() == Device::cpu) {
            CHECK_THROWS_AS(ops::embedding_forward(context, out, weight, id), InternalError);
        } else {
            ops::embedding_forward(context, out, weight, id);
            for (int64_t i = 0; i < 10; ++i) CHECK(std::isnan(out.at(i)) == (i >= 5));
        }
    }
}

TEST_CASE("embedding: gradients of ids outside the vocabulary go nowhere") {
    // 3 and 259 are equal in their last eight bits, by which the GPU sorts first.
    const std::vector<int32_t> ids{2, -1, 3, 2, 259, 0, 1 << 30, 2, std::numeric_limits<int32_t>::min()};
    const auto N = static_cast<int64_t>(ids.size());
    TestTensor id({N}, ids), d_out(Dtype::f32, {N, 5}, Values(static_cast<size_t>(N) * 5, 1.0)),
        d_weight(Dtype::f32, {3, 5}, Values(15, 0.0));
    Context context(test_device(), 1);
    if (context.device() == Device::cpu) {
        CHECK_THROWS_AS(ops::embedding_backward(context, d_weight, d_out, id), InternalError);
    } else {
        ops::embedding_backward(context, d_weight, d_out, id);
        Values expected;
        for (double rows : {1, 0, 3}) expected.insert(expected.end(), 5, rows);
        check_error("d_weight", d_weight, expected, 0);
    }
}

TEST_CASE("add: two or three tensors, also in place") {
    for (Dtype dtype : compute_dtypes())
        for (int64_t n : {1, 7, 63, 65, 40000}) {
            TestTensor a(dtype, {n}, normal(n, "a")), b(dtype, {n}, normal(n, "b")), c(dtype, {n}, normal(n, "c")),
                out(dtype, {n});
            Values two = a.get(), three;
            for (size_t i = 0; i < two.size(); ++i) two[i] += b.at(static_cast<int64_t>(i));
            three = two;
            for (size_t i = 0; i < three.size(); ++i) three[i] += c.at(static_cast<int64_t>(i));
            Context context(test_device(), 2);
            ops::add(context, out, a, b);
            check_close("a + b", out, two);
            ops::add(context, a, a, b, c);
            check_close("a + b + c", a, three);
        }
}

TEST_CASE("cast: between all compute dtypes, rounding to nearest even") {
    for (Dtype from : compute_dtypes())
        for (Dtype to : compute_dtypes())
            for (int64_t n : {1, 65, 20000}) {
                TestTensor in(from, {n}, normal(n, "in", 100.0)), out(to, {n});
                Context context(test_device(), 2);
                ops::cast(context, out, in);
                check_error("cast", out, rounded(to, in.get()), 0);
            }
}

TEST_CASE("cast: bf16 ties, infinities and NaN") {
    const float infinity = std::numeric_limits<float>::infinity();
    std::vector<float> values{0.0f, -0.0f, 1.00390625f, 1.01171875f, 3.4e38f, infinity, -infinity, 1e-40f, -1e-45f};
    const auto count = static_cast<int64_t>(values.size());
    TestTensor in(Dtype::f32, {count}, Values(values.begin(), values.end())), out(Dtype::bf16, {count});
    Context context(test_device(), 1);
    ops::cast(context, out, in);
    std::string expected;
    for (const float x : values) {
        const bf16 narrow(x);
        expected.append(reinterpret_cast<const char*>(&narrow), sizeof narrow);
    }
    CHECK(out.bytes() == expected);
    in.poison();
    ops::cast(context, out, in);
    CHECK(std::isnan(out.at(0)));
    CHECK(std::isnan(out.at(count - 1)));
}

TEST_CASE("copy: any strides with a contiguous last dimension") {
    const int64_t A = 3, B = 5, C = 7;
    for (Dtype dtype : computable({Dtype::f32, Dtype::bf16, Dtype::f64, Dtype::i32})) {
        TestTensor in(dtype, {A, B, C}, normal(A * B * C, "in", 100.0)), out(dtype, {B, A, C + 2});
        Tensor swapped = in.tensor();  // [B,A,C] view of [A,B,C]
        std::swap(swapped.shape[0], swapped.shape[1]);
        std::swap(swapped.stride[0], swapped.stride[1]);
        const double untouched = out.at(C);
        Context context(test_device(), 2);
        ops::copy(context, out.tensor().slice(2, 0, C), swapped);
        for (int64_t a = 0; a < A; ++a)
            for (int64_t b = 0; b < B; ++b)
                for (int64_t c = 0; c < C + 2; ++c) {
                    const double value = out.at((b * A + a) * (C + 2) + c);
                    if (c < C)
                        CHECK(value == in.at((a * B + b) * C + c));
                    else
                        CHECK((value == untouched || std::isnan(value)));
                }
    }
}

TEST_CASE("copy: five dims in another order, in packs and in elements") {
    const std::vector<int64_t> extent{2, 3, 5, 7};
    for (Dtype dtype : computable({Dtype::f32, Dtype::bf16, Dtype::i8}))
        for (const int64_t D : {1, 16, 33}) {
            CAPTURE(name_of(dtype), D);
            const std::vector<int64_t> shape{extent[0], extent[1], extent[2], extent[3], D};
            const int64_t count = 2 * 3 * 5 * 7 * D;
            Values values;
            for (const int32_t value : integers(count, 100, "in")) values.push_back(value);
            const TestTensor in(dtype, shape, values), out(dtype, {extent[3], extent[1], extent[0], extent[2], D});
            Tensor view = in.tensor();  // [7,3,2,5,D]
            for (size_t d = 0; d < 4; ++d) {
                const size_t from = std::array<size_t, 4>{3, 1, 0, 2}[d];
                view.shape[d] = in.tensor().shape[from];
                view.stride[d] = in.tensor().stride[from];
            }
            Context context(test_device(), 2);
            ops::copy(context, out, view);
            Values expected;
            for (int64_t a = 0; a < extent[3]; ++a)
                for (int64_t b = 0; b < extent[1]; ++b)
                    for (int64_t c = 0; c < extent[0]; ++c)
                        for (int64_t d = 0; d < extent[2]; ++d)
                            for (int64_t e = 0; e < D; ++e)
                                expected.push_back(values[static_cast<size_t>(
                                    (((c * extent[1] + b) * extent[2] + d) * extent[3] + a) * D + e)]);
            CHECK(out.get() == expected);
        }
}

TEST_CASE("sum: in double over fixed blocks") {
    for (Dtype dtype : computable({Dtype::f32, Dtype::f64}))
        for (int64_t n : {0, 1, 7, 65, 100001}) {
            TestTensor x(dtype, {n}, normal(n, "x")), out(Dtype::f64, {1});
            const Values values = x.get();
            Context context(test_device(), 2);
            ops::sum(context, out, x);
            const double expected = std::accumulate(values.begin(), values.end(), 0.0);
            CHECK(std::abs(out.at(0) - expected) <= 1e-10);
        }
    check_thread_counts([](Context& context) {
        TestTensor x(Dtype::f32, {100001}, normal(100001, "x")), out(Dtype::f64, {1});
        ops::sum(context, out, x);
        return out.bytes();
    });
}

TEST_CASE("ops: wrong shapes and dtypes are InternalErrors") {
    Context context(test_device(), 1);
    TestTensor a(Dtype::f32, {4, 4}, Values(16, 1.0)), b(Dtype::f64, {4, 4}, Values(16, 1.0)),
        c(Dtype::f32, {4, 5}, Values(20, 1.0)), row(Dtype::f32, {4}, Values(4, 1.0));
    CHECK_THROWS_AS(ops::add(context, a, a, b), InternalError);
    CHECK_THROWS_AS(ops::linear_forward(context, a, c, {a, {}}), InternalError);
    CHECK_THROWS_AS(ops::linear_forward(context, a, a, {a, c}), InternalError);
    const std::vector<ops::NormOutput> norms(3, {a, row, row});
    const auto norm = [&](const Tensor& y, const Tensor& x, const Tensor& added, size_t count) {
        ops::residual_norm_forward(context, y, std::span(norms).first(count), row, row, x, added, {}, 1e-5);
    };
    CHECK_THROWS_AS(norm({}, c, {}, 1), InternalError);  // shape
    CHECK_THROWS_AS(norm({}, a, a, 1), InternalError);   // a sum that goes nowhere
    CHECK_THROWS_AS(norm(a, a, {}, 1), InternalError);   // nothing to add
    CHECK_THROWS_AS(norm({}, a, {}, 3), InternalError);
    CHECK_THROWS_AS(ops::linear_gelu_forward(context, a, c, a, {a, row}, ops::Gelu::erf), InternalError);
    CHECK_THROWS_AS(ops::gelu_linear_backward(context, a, a, row, a, a, a.tensor().slice(1, 0, 2), a, ops::Gelu::erf),
                    InternalError);
    const std::vector<ops::NormOutput> bad_bias{{a, row, c}};
    CHECK_THROWS_AS(ops::residual_norm_forward(context, {}, bad_bias, {}, row, a, {}, {}, 1e-5), InternalError);
    CHECK_THROWS_AS(ops::swiglu_forward(context, a, a), InternalError);
    CHECK_THROWS_AS(ops::sum(context, row, a), InternalError);
}

TEST_CASE("clamp: between the limits, odd counts, in place, and its gradient") {
    for (Dtype dtype : compute_dtypes())
        for (int64_t count : {1, 7, 64, 65, 1000, 40000})
            for (double given : {0.75, 0.3, 0.0, 100.0}) {  // 0.3 is no number of a narrow type
                const double limit = rounded(dtype, given);
                TestTensor x(dtype, {count}, normal(count, "x")), out(dtype, {count}), d_x(dtype, {count}),
                    d_out(dtype, {count}, normal(count, "d_out"));
                if (count > 4) {  // the ends themselves pass
                    x.put(0, limit);
                    x.put(1, -limit);
                }
                const Values before = x.get(), gradient = d_out.get();
                Values expected, d_expected;
                for (size_t i = 0; i < before.size(); ++i) {
                    expected.push_back(std::min(std::max(before[i], -limit), limit));
                    d_expected.push_back(std::abs(before[i]) <= limit ? gradient[i] : 0.0);
                }
                Context context(test_device(), 2);
                ops::clamp_forward(context, out, x, given);
                ops::clamp_backward(context, d_x, d_out, x, given);
                check_error("out", out, expected, 0);
                check_error("d_x", d_x, d_expected, 0);
                ops::clamp_backward(context, d_out, d_out, x, given);
                ops::clamp_forward(context, x, x, given);
                CHECK(x.bytes() == out.bytes());
                CHECK(d_out.bytes() == d_x.bytes());
            }
}

TEST_CASE("clamp: NaN stays NaN, infinities do not, and a bad limit or shape is refused") {
    const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
    for (Dtype dtype : compute_dtypes())
        for (int64_t count : {3, 32}) {
            Values values(static_cast<size_t>(count), 0.5);
            values[0] = nan;
            values[1] = infinity;
            values[2] = -infinity;
            TestTensor x(dtype, {count}, values), out(dtype, {count});
            Context context(test_device(), 1);
            ops::clamp_forward(context, out, x, 8);
            const Values got = out.get();
            CHECK(std::isnan(got[0]));
            CHECK(got[1] == 8.0);
            CHECK(got[2] == -8.0);
            CHECK_THROWS_AS(ops::clamp_forward(context, out, x, -1), InternalError);
            CHECK_THROWS_AS(ops::clamp_forward(context, out, x, nan), InternalError);
            TestTensor other(dtype, {count + 1});
            CHECK_THROWS_AS(ops::clamp_backward(context, out, other, x, 8), InternalError);
        }
}

TEST_CASE("clamp: finite differences", "[not_cuda]") {
    const int64_t count = 67;
    TestTensor x(Dtype::f64, {count}, normal(count, "x", 2.0)), out(Dtype::f64, {count}),
        d_out(Dtype::f64, {count}, normal(count, "d_out")), d_x(Dtype::f64, {count});
    Context context(test_device(), 1);
    ops::clamp_backward(context, d_x, d_out, x, 1.5);
    check_gradient("x", x, d_x.get(), [&] {
        ops::clamp_forward(context, out, x, 1.5);
        return dot(out.get(), d_out.get());
    });
}
