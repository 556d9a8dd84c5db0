#include "kernels/recording.h"
#include "model/positions.h"
#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

TEST_CASE("positions: recorded work goes on with the table that replaced its own") {
    Context context(test_device(), 1);
    const model::ModelConfig config{.hidden_size = 16, .num_heads = 1, .rotary_pct = 1.0};
    const int64_t D = config.head_dim();
    model::PositionTables tables(context, config, Dtype::f32, 8);
    TestTensor x(Dtype::f32, {1, 1, 1, D}, normal(D, "x")), out(Dtype::f32, {1, 1, 1, D}),
        position({1, 1}, std::vector<int32_t>{0});
    Recording recording(context, [&] { ops::rope_forward(context, out, x, tables.rope(), {.rows = position}); });
    for (int32_t at : {3, 5, 7, 20, 70}) {
        tables.ensure(context, at + 1);
        context.copy_from_host(position, &at);
        recording.run();
        check_close("out", out, reference_rope(x.get(), D, at, config.rotary_base));
    }
}
