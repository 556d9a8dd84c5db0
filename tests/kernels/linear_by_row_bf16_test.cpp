// Products of bf16 by rows of the weight on the CPU: in f32 (Gemm::reference), and as dot products of bf16 where the
// processor has fast ones (kernels/cpu/linear_by_row_bf16.cpp).
#include "base/cpu_features.h"
#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

namespace {

constexpr auto kProducts = ops::Products::by_row;
constexpr double kUnbounded = std::numeric_limits<double>::infinity(), kNaN = std::numeric_limits<double>::quiet_NaN();

bool has_dot_products() {
    if (cpu_features().has_fast_bf16_dot_products()) return true;
    WARN("skipped: this processor has no fast dot products of bf16");
    return false;
}

/// The ways to multiply that this processor has.
std::vector<Gemm> paths() {
    if (has_dot_products()) return {Gemm::automatic, Gemm::reference};
    return {Gemm::reference};
}

/// The first rows and outputs of larger tensors, whose rest is NaN.
struct Bf16Run {
    Bf16Run(int64_t N, int64_t I, int64_t O)
        : rows(N),
          inputs(I),
          outputs(O),
          x(Dtype::bf16, {N + 1, I}),
          weight(Dtype::bf16, {O + 1, I}),
          bias(Dtype::bf16, {O + 1}) {
        set_first(x, normal(N * I, "x"));
        set_first(weight, normal(O * I, "weight"));
        set_first(bias, normal(O, "bias"));
    }
    static void set_first(TestTensor& tensor, Values values) {
        values.resize(static_cast<size_t>(tensor.tensor().numel()), kNaN);
        tensor.set(values);
    }
    Tensor rows_of_x(int64_t first, int64_t count) const { return x.tensor().slice(0, first, first + count); }
    ops::LinearWeight linear(int64_t first, int64_t count) const {
        return {weight.tensor().slice(0, first, first + count), bias.tensor().slice(0, first, first + count)};
    }
    void forward(Context& context, const TestTensor& out) const {
        ops::linear_forward(context, out, rows_of_x(0, rows), linear(0, outputs), kProducts);
    }
    static Values first(const TestTensor& tensor, int64_t count) {
        Values values = tensor.get();
        values.resize(static_cast<size_t>(count));
        return values;
    }
    /// `Real` double: the oracle; float: the naive computation, whose products of two bf16 are exact.
    template <class Real>
    Values expected() const {
        const Values a = first(x, rows * inputs), b = first(weight, outputs * inputs), c = first(bias, outputs);
        Values out;
        for (int64_t n = 0; n < rows; ++n)
            for (int64_t o = 0; o < outputs; ++o) {
                Real sum = 0;
                for (int64_t i = 0; i < inputs; ++i)
                    sum += static_cast<Real>(a[static_cast<size_t>(n * inputs + i)] *
                                             b[static_cast<size_t>(o * inputs + i)]);
                out.push_back(sum + static_cast<Real>(c[static_cast<size_t>(o)]));
            }
        return out;
    }

    int64_t rows, inputs, outputs;
    TestTensor x, weight, bias;
};

/// Scratch memory full of NaN, that what is read of it without having been written shows.
void poison_scratch(Context& context) {
    const Bf16Run run(33, 1024, 1);
    const TestTensor x(Dtype::bf16, {33, 1024}), out(Dtype::f32, {33, 1});  // NaN from the start
    ops::linear_forward(context, out, x, run.linear(0, 1), kProducts);
}

const std::vector<int64_t>& odd_inputs() {
    static const std::vector<int64_t> inputs{1, 31, 33, 63, 65, 1000};
    return inputs;
}

}  // namespace

TEST_CASE("linear by row in bf16: against the oracle, odd inputs, 1 to 33 rows, 1 to 9 outputs", "[cpu]") {
    for (const Gemm gemm : paths())
        for (const int64_t I : odd_inputs())
            for (const int64_t N : {1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 31, 32, 33})
                for (int64_t O = 1; O <= 9; ++O) {
                    INFO(N << " rows, " << I << " inputs, " << O << " outputs");
                    Context context(Device::cpu, 2, gemm);
                    const Bf16Run run(N, I, O);
                    TestTensor wide(Dtype::f32, {N, O}), narrow(Dtype::bf16, {N, O});
                    poison_scratch(context);
                    run.forward(context, wide);
                    run.forward(context, narrow);
                    const Values expected = run.expected<double>();
                    check_close("f32 out", wide, expected);
                    check_close("bf16 out", narrow, expected);
                    if (N * O < 64) continue;  // so few may be right by chance in the naive computation
                    const double naive = error(run.expected<float>(), expected), rounding = 0x1p-24;
                    check_error("f32 out beside the naive", wide, expected, 2 * std::max(naive, rounding));
                }
}

TEST_CASE("linear by row in bf16: the same bits in every tile and for any number of threads", "[cpu]") {
    const int64_t most_rows = 33, most_outputs = 75;
    for (const Gemm gemm : paths())
        for (const int64_t I : odd_inputs()) {
            Context context(Device::cpu, 1, gemm), threads(Device::cpu, 3, gemm);
            const Bf16Run run(most_rows, I, most_outputs);
            TestTensor all(Dtype::f32, {most_rows, most_outputs});
            run.forward(context, all);
            const Values expected = all.get();
            for (int64_t N = 1; N <= most_rows; ++N)
                for (const int64_t O : {1, 2, 3, 4, 5, 6, 7, 8, 9, 74}) {
                    const int64_t n = (7 * N + O) % (most_rows - N + 1), o = (5 * O + N) % (most_outputs - O + 1);
                    INFO(I << " inputs, rows " << n << " to " << n + N << ", outputs " << o << " to " << o + O);
                    TestTensor some(Dtype::f32, {N, O});
                    ops::linear_forward(threads, some, run.rows_of_x(n, N), run.linear(o, O), kProducts);
                    Values part;
                    for (int64_t r = n; r < n + N; ++r)
                        part.insert(part.end(), expected.begin() + r * most_outputs + o,
                                    expected.begin() + r * most_outputs + o + O);
                    CHECK(some.get() == part);
                }
        }
}

TEST_CASE("linear by row in bf16: NaN and infinity come through, and stay in their row or output", "[cpu]") {
    const int64_t N = 11, I = 71, O = 10;
    for (const Gemm gemm : paths())
        for (const double special : {kNaN, kUnbounded, -kUnbounded})
            for (const int64_t i : {int64_t{0}, int64_t{63}, I - 1}) {
                INFO(special << " at input " << i);
                Context context(Device::cpu, 2, gemm);
                Bf16Run run(N, I, O);
                TestTensor out(Dtype::bf16, {N, O});
                run.x.put(9 * I + i, special);
                run.forward(context, out);
                const Values row = out.get();
                for (int64_t at = 0; at < N * O; ++at) {
                    const double sign = run.weight.at(at % O * I + i) < 0 ? -1 : 1, x = row[static_cast<size_t>(at)];
                    if (at / O != 9)
                        CHECK(std::isfinite(x));
                    else
                        CHECK((std::isnan(special) ? std::isnan(x) : x == sign * special));
                }
                run.x.put(9 * I + i, 0);
                run.weight.put(9 * I + i, special);
                run.forward(context, out);
                const Values column = out.get();  // infinity times the 0 of row 9 is NaN
                for (int64_t at = 0; at < N * O; ++at) {
                    const double x = column[static_cast<size_t>(at)];
                    CHECK(std::isfinite(x) == (at % O != 9));
                    if (at % O == 9) CHECK(std::isnan(x) == (std::isnan(special) || at / O == 9));
                }
            }
}

TEST_CASE("linear by row in bf16: dot products take denormals for zero, products in f32 do not", "[cpu]") {
    if (!has_dot_products()) return;
    Context dots(Device::cpu, 1), plain(Device::cpu, 1, Gemm::reference);
    for (const auto& [x, weight] : {std::pair{0x1p-127, 0x1p100}, {0x1p100, -0x1p-127}, {0x1p-70, 0x1p-60}}) {
        TestTensor a(Dtype::bf16, {1, 1}, {x}), b(Dtype::bf16, {1, 1}, {weight}), out(Dtype::f32, {1, 1});
        ops::linear_forward(plain, out, a, {b, {}}, kProducts);
        CHECK(out.at(0) == x * weight);
        ops::linear_forward(dots, out, a, {b, {}}, kProducts);
        CHECK(out.at(0) == 0);
    }
}

TEST_CASE("linear by row in bf16: no inputs give the bias", "[cpu]") {
    for (const Gemm gemm : paths()) {
        Context context(Device::cpu, 2, gemm);
        const Bf16Run run(9, 0, 5);
        TestTensor out(Dtype::bf16, {9, 5});
        run.forward(context, out);
        CHECK(out.get() == run.expected<double>());
    }
}
