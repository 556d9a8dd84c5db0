#include "model/weights.h"

#include <algorithm>
#include <vector>

#include "base/philox.h"

namespace ballast::model {

FlatArray::FlatArray(const Context& context, const ParameterTable& table, Dtype dtype)
    : buffer_(context.allocate(static_cast<size_t>(table.flat_size()) * size_of(dtype))),
      flat_(buffer_.data(), dtype, {table.flat_size()}) {}

Tensor FlatArray::of(const ParameterRow& row) const {
    const Tensor range = flat_.slice(0, row.offset, row.offset + row.count);
    return row.shape.size() == 1 ? range : range.view({row.shape[0], row.shape[1]});
}

Weights::Weights(const Context& context, const ModelConfig& config, Dtype compute_dtype)
    : table_(config), compute_dtype_(compute_dtype), master_(context, table_, accumulation_dtype(compute_dtype)) {
    if (has_copy()) compute_ = FlatArray(context, table_, compute_dtype);
}

void Weights::initialise(Context& context, uint64_t seed) {
    constexpr int64_t kBlock = 1 << 16;
    for (const auto& row : table_.rows()) {
        std::vector<float> values(static_cast<size_t>(row.count), row.init == Init::one ? 1.0f : 0.0f);
        if (const double std = table_.init_std(row); std > 0) {
            const Philox random(seed, row.name);
            context.pool().parallel_for((row.count + kBlock - 1) / kBlock, [&](int64_t block) {
                const int64_t end = std::min(row.count, (block + 1) * kBlock);
                for (int64_t i = block * kBlock; i < end; ++i)
                    values[static_cast<size_t>(i)] = static_cast<float>(std * random.normal(static_cast<uint64_t>(i)));
            });
        }
        write(context, row, values.data());
    }
    refresh_compute(context);
}

void Weights::refresh_compute(Context& context) {
    if (has_copy()) ops::cast(context, compute_.flat(), master_.flat());
}

void Weights::write(const Context& context, const ParameterRow& row, const float* values) {
    if (master_dtype() == Dtype::f32) return context.copy_from_host(master(row), values);
    const std::vector<double> wide(values, values + row.count);
    context.copy_from_host(master(row), wide.data());
}

}  // namespace ballast::model
