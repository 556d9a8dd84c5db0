#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

namespace {

struct CrossEntropyRun {
    CrossEntropyRun(Dtype dtype, int64_t N, int64_t C, int64_t V, double spread = 1.0)
        : acc(accumulation_dtype(dtype)),
          target_values(integers(N, static_cast<int32_t>(V), "targets")),
          x(dtype, {N, C}, normal(N * C, "x", spread)),
          weight(dtype, {V, C}, normal(V * C, "weight", spread)),
          targets({N}, target_values),
          losses(acc, {N}),
          d_x(dtype, {N, C}),
          d_weight(acc, {V, C}, normal(V * C, "d_weight", 0.01)) {
        for (size_t n = 1; n < target_values.size(); n += 5) ignore(n);
    }
    void ignore(size_t n) {
        target_values[n] = -1;
        targets.put(static_cast<int64_t>(n), -1);
    }
    void run(Context& context, double loss_scale) {
        ops::linear_cross_entropy(context, losses, d_x, d_weight, x, {weight, {}}, targets, loss_scale);
    }
    /// What rounding the gradient of the logits for bf16 or fp16 products costs; 0 where products are wider.
    double naive_d_weight_error(const Context& context, int64_t C, double loss_scale) const {
        const Dtype products = ops::product_dtype(context, x.tensor().dtype);
        if (!is_narrow(products)) return 0;
        const auto gradient = [&](Dtype rounding) {
            return reference_cross_entropy(x.get(), weight.get(), target_values, C, loss_scale, rounding).d_weight;
        };
        return error(gradient(products), gradient(Dtype::f64));
    }

    Dtype acc;
    std::vector<int32_t> target_values;
    TestTensor x, weight, targets, losses, d_x, d_weight;
};

}  // namespace

TEST_CASE("linear_cross_entropy: against the oracle, odd shapes, several chunks") {
    const int64_t shapes[][3] = {{1, 1, 1}, {7, 5, 3}, {65, 33, 63}, {300, 8, 65}, {600, 3, 5000}, {3, 2, 34000}};
    for (Gemm gemm : {Gemm::automatic, Gemm::reference})
        for (Dtype dtype : compute_dtypes())
            for (const auto& [N, C, V] : shapes) {
                if (test_device() == Device::simt && N * V > 1'000'000) continue;  // minutes; "any chunks" has chunks
                CrossEntropyRun run(dtype, N, C, V);
                INFO(run.x.tensor().describe() << ", vocabulary " << V);
                const double scale = 0.125;
                const auto expected =
                    reference_cross_entropy(run.x.get(), run.weight.get(), run.target_values, C, scale);
                Values d_weight = run.d_weight.get();
                for (size_t i = 0; i < d_weight.size(); ++i) d_weight[i] += expected.d_weight[i];
                Context context(test_device(), 2, gemm);
                run.run(context, scale);
                check_error("losses", run.losses, expected.losses, run.acc == Dtype::f64 ? 1e-12 : 2e-6);
                check_close("d_x", run.d_x, expected.d_x, 5e-6);
                check_error("d_weight", run.d_weight, d_weight,
                            run.acc == Dtype::f64 ? 1e-12 : 5e-6 + 2 * run.naive_d_weight_error(context, C, scale));
            }
}

TEST_CASE("linear_cross_entropy: any chunks of rows") {
    // On a GPU, of most rows at a time: one, odd, a chunk that ends the rows and one that does not.
    const int64_t N = 65, C = 9, V = 72;
    for (Dtype dtype : compute_dtypes())
        for (int64_t rows : {1, 13, 32, 64}) {
            CrossEntropyRun run(dtype, N, C, V);
            INFO(run.x.tensor().describe() << ", " << rows << " rows at a time");
            const auto expected = reference_cross_entropy(run.x.get(), run.weight.get(), run.target_values, C, 1.0);
            Values d_weight = run.d_weight.get();
            for (size_t i = 0; i < d_weight.size(); ++i) d_weight[i] += expected.d_weight[i];
            Context context(test_device(), 2);
            context.set_loss_rows(rows);
            run.run(context, 1.0);
            check_error("losses", run.losses, expected.losses, run.acc == Dtype::f64 ? 1e-12 : 2e-6);
            check_close("d_x", run.d_x, expected.d_x, 5e-6);
            check_error("d_weight", run.d_weight, d_weight,
                        run.acc == Dtype::f64 ? 1e-12 : 5e-6 + 2 * run.naive_d_weight_error(context, C, 1.0));
        }
}

TEST_CASE("linear_cross_entropy: the loss scale is the device's when the op runs, whatever the factor") {
    for (Dtype dtype : compute_dtypes()) {
        Context context(test_device(), 2);
        OnDevice<ops::StepScalars> scalars({});
        for (double scale : {1.0, 64.0, 4096.0}) {
            CrossEntropyRun scaled(dtype, 65, 33, 63), plain(dtype, 65, 33, 63);
            scalars.set({.loss_scale = scale});
            ops::linear_cross_entropy(context, scaled.losses, scaled.d_x, scaled.d_weight, scaled.x,
                                      {scaled.weight, {}}, scaled.targets, 0.125, scalars.tensor(Dtype::u8));
            plain.run(context, 0.125 * scale);
            CHECK(scaled.losses.bytes() == plain.losses.bytes());
            CHECK(scaled.d_x.bytes() == plain.d_x.bytes());
            CHECK(scaled.d_weight.bytes() == plain.d_weight.bytes());
        }
    }
}

TEST_CASE("linear_cross_entropy: evaluation gives the same losses without gradients") {
    CrossEntropyRun train(Dtype::f32, 33, 16, 100), evaluation(Dtype::f32, 33, 16, 100);
    Context context(test_device(), 2);
    train.run(context, 1.0);
    ops::linear_cross_entropy(context, evaluation.losses, {}, {}, evaluation.x, {evaluation.weight, {}},
                              evaluation.targets, 1.0);
    CHECK(train.losses.bytes() == evaluation.losses.bytes());
    CHECK(std::isnan(evaluation.d_x.at(0)));
}

TEST_CASE("linear_cross_entropy: logits of several hundred stay finite") {
    CrossEntropyRun run(Dtype::f32, 20, 32, 50, 8.0);
    Context context(test_device(), 1);
    run.run(context, 1.0);
    const auto expected = reference_cross_entropy(run.x.get(), run.weight.get(), run.target_values, 32, 1.0);
    check_error("losses", run.losses, expected.losses, 1e-5);
    for (double v : run.d_x.get())
        if (!std::isfinite(v)) FAIL("not finite");
}

TEST_CASE("linear_cross_entropy: a NaN reaches the loss") {
    CrossEntropyRun run(Dtype::f32, 4, 8, 20);
    run.x.put(0, std::numeric_limits<double>::quiet_NaN());
    Context context(test_device(), 1);
    run.run(context, 1.0);
    CHECK(std::isnan(run.losses.at(0)));
    CHECK(std::isfinite(run.losses.at(2)));
}

TEST_CASE("linear_cross_entropy: a NaN in one row of the weight, no row's target, makes NaN of every loss") {
    for (const int64_t damaged : {0, 37, 1500, 2047})
        for (const bool cancels : {false, true}) {  // NaN itself, or infinities that become one with its sign set
            INFO("row " << damaged << (cancels ? ", infinities" : ""));
            CrossEntropyRun run(Dtype::f32, 4, 8, 2048);
            const double infinity = std::numeric_limits<double>::infinity();
            run.weight.put(damaged * 8, cancels ? infinity : std::numeric_limits<double>::quiet_NaN());
            for (int64_t n = 0; n < 4; ++n) {
                run.targets.put(n, 3);
                run.x.put(n * 8, 1);
                run.x.put(n * 8 + 1, 1);
            }
            if (cancels) run.weight.put(damaged * 8 + 1, -infinity);
            Context context(test_device(), 1);
            ops::linear_cross_entropy(context, run.losses, {}, {}, run.x, {run.weight, {}}, run.targets, 1.0);
            for (const double loss : run.losses.get()) CHECK(std::isnan(loss));
        }
}

TEST_CASE("linear_cross_entropy: finite differences of x and weight", "[not_cuda]") {
    CrossEntropyRun run(Dtype::f64, 6, 5, 11);
    Context context(test_device(), 1);
    run.d_weight.set(Values(55, 0.0));
    run.run(context, 0.5);
    const Values d_x = run.d_x.get(), d_weight = run.d_weight.get();
    const auto loss = [&] {
        ops::linear_cross_entropy(context, run.losses, {}, {}, run.x, {run.weight, {}}, run.targets, 1.0);
        const Values losses = run.losses.get();
        return 0.5 * std::accumulate(losses.begin(), losses.end(), 0.0);
    };
    check_gradient("x", run.x, d_x, loss);
    check_gradient("weight", run.weight, d_weight, loss);
}

TEST_CASE("linear_cross_entropy: the same bits for any number of threads") {
    for (Dtype dtype : compute_dtypes())
        check_thread_counts([&](Context& context) {
            CrossEntropyRun run(dtype, 400, 24, 4200);
            run.run(context, 0.1);
            return run.losses.bytes() + run.d_x.bytes() + run.d_weight.bytes();
        });
}
