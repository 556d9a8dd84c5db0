// Products by rows of the weight, and weights that are narrower than x.
#include <optional>

#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// x's dtype and the weight's.
struct Dtypes {
    Dtype x, weight;
};

std::vector<Dtypes> pairs() {
    std::vector<Dtypes> out;
    for (const auto& [x, weight] : {Dtypes{Dtype::f32, Dtype::f32},
                                    {Dtype::f32, Dtype::bf16},
                                    {Dtype::f32, Dtype::i8},
                                    {Dtype::bf16, Dtype::bf16},
                                    {Dtype::bf16, Dtype::i8},
                                    {Dtype::f16, Dtype::f16},
                                    {Dtype::f16, Dtype::i8},
                                    {Dtype::f64, Dtype::f64}})
        if (!computable({x}).empty()) out.push_back({x, weight});
    return out;
}

/// Pairs by the products that a processor may choose: bf16 may be multiplied as it is, or in f32 (by `reference`).
std::vector<std::pair<Dtypes, Gemm>> pairs_and_paths() {
    std::vector<std::pair<Dtypes, Gemm>> out;
    for (const Dtypes types : pairs()) {
        out.emplace_back(types, Gemm::automatic);
        if (types.x == Dtype::bf16 && types.weight == Dtype::bf16) out.emplace_back(types, Gemm::reference);
    }
    return out;
}
std::string name_of(Gemm gemm) { return gemm == Gemm::automatic ? "automatic" : "reference"; }

/// 8-bit numbers, both ends among them.
Values eight_bits(int64_t count) {
    Values values = normal(count, "weight", 40);
    for (double& v : values) v = std::clamp(std::round(v), -127.0, 127.0);
    return values;
}

struct ByRowRun {
    ByRowRun(Dtypes types, int64_t N, int64_t I, int64_t O, bool wide = false)
        : rows(N),
          inputs(I),
          outputs(O),
          x(types.x, {N, I}, normal(N * I, "x")),
          weight(types.weight, {O, I}, types.weight == Dtype::i8 ? eight_bits(O * I) : normal(O * I, "weight")),
          bias(types.x, {O}, normal(O, "bias")),
          out(wide ? accumulation_dtype(types.x) : types.x, {N, O}),
          pre(types.x, {N, O}) {
        if (types.weight != Dtype::i8) return;
        Values scales = normal(O, "scale");
        for (double& s : scales) s = 0.01 + 0.01 * std::abs(s);
        scale.emplace(Dtype::f32, std::vector<int64_t>{O}, scales);
    }
    ops::LinearWeight linear() const { return {weight, bias, scale ? scale->tensor() : Tensor{}}; }
    /// What the weight stands for.
    Values numbers() const {
        Values values = weight.get();
        if (!scale) return values;
        const Values scales = scale->get();
        for (size_t i = 0; i < values.size(); ++i) values[i] *= scales[i / static_cast<size_t>(inputs)];
        return values;
    }
    Values expected() const {
        Values out_values = reference_matmul(x.get(), false, numbers(), true, rows, outputs, inputs);
        const Values b = bias.get();
        for (size_t i = 0; i < out_values.size(); ++i) out_values[i] += b[i % b.size()];
        return out_values;
    }
    std::string describe() const {
        return x.tensor().describe() + " by " + weight.tensor().describe() + " to " + out.tensor().describe();
    }

    int64_t rows, inputs, outputs;
    TestTensor x, weight, bias, out, pre;
    std::optional<TestTensor> scale;
};

/// What a gemm may add to an error, having rounded a wider weight to x's dtype.
double rounding_of(Dtypes types) { return types.weight == Dtype::i8 && is_narrow(types.x) ? 4e-3 : 0; }

constexpr auto kByRow = ops::Products::by_row;

}  // namespace

TEST_CASE("linear by row: against the oracle, odd shapes, every kind of weight") {
    const int64_t shapes[][3] = {{1, 1, 1},  {1, 575, 7}, {2, 63, 65},  {3, 64, 12},
                                 {5, 16, 1}, {9, 33, 6},  {33, 130, 67}};
    for (const auto& [types, gemm] : pairs_and_paths())
        for (const auto& [N, I, O] : shapes)
            for (const bool wide : {false, true}) {
                if (wide && !is_narrow(types.x)) continue;
                Context context(test_device(), 2, gemm);
                ByRowRun run(types, N, I, O, wide);
                INFO(run.describe() << ", " << name_of(gemm));
                ops::linear_forward(context, run.out, run.x, run.linear(), kByRow);
                check_close("out", run.out, run.expected());
                run.bias.set(Values(static_cast<size_t>(O), 0.0));
                const Values expected = run.expected();
                ops::linear_forward(context, run.out, run.x, {run.weight, {}, run.linear().scale}, kByRow);
                check_close("out without a bias", run.out, expected);
            }
}

TEST_CASE(
    "linear by row: a row has the same bits alone, among its mates and wherever it lies, for any number of threads") {
    const int64_t I = 191, O = 70, most = 32;
    for (const auto& [types, gemm] : pairs_and_paths()) {
        ByRowRun all(types, most, I, O);
        INFO(all.describe() << ", " << name_of(gemm));
        Context context(test_device(), 1, gemm), threads(test_device(), 3, gemm);
        ops::linear_gelu_forward(context, all.out, all.pre, all.x, all.linear(), ops::Gelu::tanh, kByRow);
        const std::string expected = all.out.bytes(), expected_pre = all.pre.bytes();
        const size_t row_bytes = expected.size() / static_cast<size_t>(most);
        for (const auto& [first, count] :
             {std::pair<int64_t, int64_t>{0, 1}, {31, 1}, {0, 2}, {3, 3}, {1, 31}, {7, 13}, {0, 32}}) {
            ByRowRun some(types, count, I, O);
            const Tensor x = all.x.tensor().slice(0, first, first + count);
            ops::linear_gelu_forward(threads, some.out, some.pre, x, all.linear(), ops::Gelu::tanh, kByRow);
            INFO("rows " << first << " to " << first + count);
            const size_t at = static_cast<size_t>(first) * row_bytes, size = static_cast<size_t>(count) * row_bytes;
            CHECK(some.out.bytes() == expected.substr(at, size));
            CHECK(some.pre.bytes() == expected_pre.substr(at, size));
            ops::linear_forward(threads, some.out, x, all.linear(), kByRow);
            CHECK(some.out.bytes() == expected_pre.substr(at, size));
        }
    }
}

TEST_CASE("linear by row: a NaN stays in its row") {
    for (const auto& [types, gemm] : pairs_and_paths()) {
        ByRowRun run(types, 6, 40, 9);
        Context context(test_device(), 2, gemm);
        run.x.put(2 * 40 + 39, std::numeric_limits<double>::quiet_NaN());
        ops::linear_forward(context, run.out, run.x, run.linear(), kByRow);
        const Values out = run.out.get();
        for (size_t i = 0; i < out.size(); ++i) CHECK(std::isnan(out[i]) == (i / 9 == 2));
    }
}

TEST_CASE("linear_gelu by row: the GELU's ending against the oracle") {
    for (const auto& [types, gemm] : pairs_and_paths())
        for (const auto kind : {ops::Gelu::tanh, ops::Gelu::erf})
            for (const auto products : {ops::Products::gemm, kByRow}) {
                Context context(test_device(), 2, gemm);
                ByRowRun run(types, 5, 48, 21);
                INFO(run.describe() << ", products " << static_cast<int>(products) << ", " << name_of(gemm));
                ops::linear_gelu_forward(context, run.out, run.pre, run.x, run.linear(), kind, products);
                const Values pre = run.expected();
                check_error("pre", run.pre, pre, tolerance(types.x, pre) + rounding_of(types));
                Values out = pre;
                for (double& u : out) u = reference_gelu(u, kind);
                check_error("out", run.out, out, 2 * (tolerance(types.x, out) + rounding_of(types)));
            }
}

TEST_CASE("linear: a gemm takes the narrow weights, too, and so does cross-entropy") {
    for (const Gemm gemm : {Gemm::automatic, Gemm::reference}) {
        Context context(test_device(), 2, gemm);
        for (const Dtypes types : pairs()) {
            ByRowRun run(types, 37, 63, 66);
            INFO(run.describe());
            ops::linear_forward(context, run.out, run.x, run.linear());
            const Values expected = run.expected();
            check_error("out", run.out, expected, tolerance(types.x, expected) + rounding_of(types));

            const std::vector<int32_t> targets = integers(37, 66, "targets");
            TestTensor ids({37}, targets), losses(accumulation_dtype(types.x), {37});
            ops::linear_cross_entropy(context, losses, {}, {}, run.x, {run.weight, {}, run.linear().scale}, ids, 1.0);
            const auto reference = reference_cross_entropy(run.x.get(), run.numbers(), targets, 63, 1.0);
            check_error("losses", losses, reference.losses, 5e-6 + rounding_of(types));
        }
    }
}

TEST_CASE("linear: what weights may not be") {
    Context context(test_device(), 1);
    ByRowRun bytes({Dtype::f32, Dtype::i8}, 2, 8, 4), plain({Dtype::f32, Dtype::f32}, 2, 8, 4);
    for (const auto products : {ops::Products::gemm, kByRow}) {
        CHECK_THROWS_AS(ops::linear_forward(context, bytes.out, bytes.x, {bytes.weight, bytes.bias, {}}, products),
                        InternalError);
        CHECK_THROWS_AS(
            ops::linear_forward(context, plain.out, plain.x, {plain.weight, plain.bias, *bytes.scale}, products),
            InternalError);
        ByRowRun narrow({Dtype::bf16, Dtype::bf16}, 2, 8, 4);
        CHECK_THROWS_AS(ops::linear_forward(context, narrow.out, narrow.x, {plain.weight, narrow.bias}, products),
                        InternalError);
    }
}
