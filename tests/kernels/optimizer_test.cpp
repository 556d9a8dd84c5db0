#include "tests/kernels/support.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// Parameters of awkward sizes, some longer than a task's piece.
const std::vector<ops::ParameterSpan> kParameters{{0, 1, false}, {1, 63, true}, {64, 40000, true}, {40064, 5, false}, {40069, 33001, true}};
constexpr int64_t kCount = 40069 + 33001;

struct OptimizerRun {
    explicit OptimizerRun(Dtype dtype, double gradient_scale = 1.0)
        : acc(accumulation_dtype(dtype)),
          master(acc, {kCount}, normal(kCount, "master")),
          compute(dtype, {kCount}),
          m(acc, {kCount}, normal(kCount, "m", 0.1)),
          v(acc, {kCount}),
          gradients(acc, {kCount}, normal(kCount, "gradients", gradient_scale)),
          losses(Dtype::f64, {2}, {2.5, 2.25}),
          sums(Dtype::f64, {static_cast<int64_t>(kParameters.size())}) {
        Values squares = normal(kCount, "v", 0.1);
        for (double& x : squares) x = x * x;
        v.set(squares);
    }
    void norm(Context& context, double clip) {
        on_device.set(scalars);
        ops::sums_of_squares(context, sums, gradients, ops::ParameterSet(context, kParameters));
        ops::global_norm(context, on_device.tensor(Dtype::u8), sums, losses, clip);
        scalars = on_device.get();
    }
    void step(Context& context) {
        const Tensor narrow = compute.tensor().dtype == acc ? Tensor() : compute.tensor();
        on_device.set(scalars);
        ops::adamw(context, master, narrow, m, v, gradients, ops::ParameterSet(context, kParameters), on_device.tensor(Dtype::u8), {});
    }

    Dtype acc;
    TestTensor master, compute, m, v, gradients, losses, sums;
    ops::StepScalars scalars{.learning_rate = 1e-3, .step = 7};  // before norm() and step(), and after norm()
    OnDevice<ops::StepScalars> on_device{scalars};
};

}  // namespace

TEST_CASE("global_norm: per-parameter sums, norm and DeepSpeed's clip factor") {
    for (Dtype dtype : compute_dtypes())
        for (double clip : {0.0, 1.0, 1e6}) {
            OptimizerRun run(dtype);
            Context context(test_device(), 2);
            run.norm(context, clip);
            const Values gradients = run.gradients.get(), sums = run.sums.get();
            double total = 0;
            for (size_t p = 0; p < kParameters.size(); ++p) {
                double sum = 0;
                for (int64_t i = 0; i < kParameters[p].count; ++i)
                    sum += std::pow(gradients[static_cast<size_t>(kParameters[p].offset + i)], 2);
                CHECK(std::abs(sums[p] - sum) <= 1e-12 * sum);
                total += sum;
            }
            CHECK(std::abs(run.scalars.grad_norm - std::sqrt(total)) <= 1e-12 * std::sqrt(total));
            const double factor = clip > 0 ? 1 / std::max(1.0, (std::sqrt(total) + 1e-6) / clip) : 1;
            CHECK(std::abs(run.scalars.clip_factor - factor) <= 1e-12);
            CHECK(run.scalars.non_finite == 0);
            CHECK(run.scalars.learning_rate == 1e-3);
            CHECK(run.scalars.step == 7);
        }
}

TEST_CASE("global_norm: NaN or infinity in any gradient or the loss is flagged, and cleared again") {
    Context context(test_device(), 2);
    for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
        for (int64_t where : {int64_t{0}, int64_t{20000}, kCount - 1, int64_t{-1}}) {
            OptimizerRun run(Dtype::f32);
            (where < 0 ? run.losses : run.gradients).put(where < 0 ? 1 : where, bad);
            run.norm(context, 1.0);
            CHECK(run.scalars.non_finite == 1);
            (where < 0 ? run.losses : run.gradients).put(where < 0 ? 1 : where, 1.0);
            run.norm(context, 1.0);
            CHECK(run.scalars.non_finite == 0);
        }
}

TEST_CASE("global_norm: a norm or a sum of losses above its limit is a spike, one at it is none, and adamw leaves all alone") {
    constexpr double kNone = ops::StepScalars::kNoLimit;
    Context context(test_device(), 2);
    OptimizerRun measured(Dtype::f32);
    measured.norm(context, 1.0);
    const double norm = measured.scalars.grad_norm, loss = 2.5 + 2.25;
    CHECK(measured.scalars.spike == 0);
    for (const auto& [loss_limit, norm_limit, spike] :
         {std::tuple{kNone, norm, 0}, {kNone, std::nextafter(norm, 0.0), 1}, {loss, kNone, 0}, {std::nextafter(loss, 0.0), kNone, 1}, {0.0, 0.0, 1}}) {
        OptimizerRun run(Dtype::f32);
        run.scalars.loss_limit = loss_limit;
        run.scalars.norm_limit = norm_limit;
        const Values master = run.master.get(), m = run.m.get(), v = run.v.get();
        run.norm(context, 1.0);
        CHECK(run.scalars.spike == spike);
        CHECK(run.scalars.non_finite == 0);
        CHECK(run.scalars.norm_limit == norm_limit);
        run.step(context);
        CHECK((run.master.get() == master) == (spike == 1));
        CHECK((run.m.get() == m) == (spike == 1));
        CHECK((run.v.get() == v) == (spike == 1));
    }
    OptimizerRun run(Dtype::f32);  // NaN is above nothing: it has a flag of its own
    run.scalars.loss_limit = run.scalars.norm_limit = 1;
    run.gradients.put(3, std::numeric_limits<double>::quiet_NaN());
    run.losses.put(0, std::numeric_limits<double>::quiet_NaN());
    run.norm(context, 1.0);
    CHECK(run.scalars.non_finite == 1);
    CHECK(run.scalars.spike == 0);
}

TEST_CASE("adamw: against a scalar version in double, clipping and decay included") {
    for (Dtype dtype : compute_dtypes()) {
        OptimizerRun run(dtype, 0.3);
        Context context(test_device(), 2);
        run.norm(context, 1.0);
        const ops::AdamW o;
        Values p = run.master.get(), m = run.m.get(), v = run.v.get();
        const Values gradients = run.gradients.get();
        for (const auto& span : kParameters)
            for (int64_t i = span.offset; i < span.offset + span.count; ++i) {
                const auto at = static_cast<size_t>(i);
                const double g = run.scalars.clip_factor * gradients[at];
                m[at] = o.beta1 * m[at] + (1 - o.beta1) * g;
                v[at] = o.beta2 * v[at] + (1 - o.beta2) * g * g;
                const double ratio = m[at] / (1 - std::pow(o.beta1, 7)) / (std::sqrt(v[at] / (1 - std::pow(o.beta2, 7))) + o.eps);
                p[at] -= 1e-3 * (ratio + (span.decay ? o.weight_decay * p[at] : 0));
            }
        run.step(context);
        const double tol = run.acc == Dtype::f64 ? 1e-14 : 3e-7;
        check_error("master", run.master, p, tol);
        check_error("m", run.m, m, tol);
        check_error("v", run.v, v, tol);
        if (is_narrow(dtype)) check_error("compute", run.compute, rounded(dtype, run.master.get()), 0);
    }
}

TEST_CASE("adamw: changes nothing when the step is not finite") {
    OptimizerRun run(Dtype::bf16), untouched(Dtype::bf16);
    Context context(test_device(), 2);
    run.gradients.put(3, std::numeric_limits<double>::quiet_NaN());
    run.norm(context, 1.0);
    run.step(context);
    CHECK(run.master.bytes() == untouched.master.bytes());
    CHECK(run.compute.bytes() == untouched.compute.bytes());
    CHECK(run.m.bytes() == untouched.m.bytes());
    CHECK(run.v.bytes() == untouched.v.bytes());
}

TEST_CASE("optimizer: a loss scale of a power of two changes neither norm nor update by a bit") {
    for (Dtype dtype : compute_dtypes())
        for (double clip : {0.0, 1.0, 1e6})
            for (double scale : {4096.0, 1099511627776.0}) {
                OptimizerRun plain(dtype, 0.3), scaled(dtype, 0.3 * scale);
                Context context(test_device(), 2);
                scaled.scalars.loss_scale = scale;
                for (OptimizerRun* run : {&plain, &scaled}) {
                    run->norm(context, clip);
                    run->step(context);
                }
                CHECK(scaled.scalars.grad_norm == plain.scalars.grad_norm);
                CHECK(scaled.scalars.clip_factor * scale == plain.scalars.clip_factor);
                CHECK(scaled.scalars.loss_scale == scale);
                CHECK(scaled.master.bytes() == plain.master.bytes());
                CHECK(scaled.m.bytes() == plain.m.bytes());
                CHECK(scaled.v.bytes() == plain.v.bytes());
            }
}

TEST_CASE("optimizer: the same bits for any number of threads") {
    for (Dtype dtype : compute_dtypes())
        check_thread_counts([&](Context& context) {
            OptimizerRun run(dtype);
            run.norm(context, 1.0);
            run.step(context);
            return run.sums.bytes() + run.master.bytes() + run.m.bytes() + run.v.bytes() +
                   std::string(reinterpret_cast<const char*>(&run.scalars), sizeof run.scalars);
        });
}
