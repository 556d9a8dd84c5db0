#include "model/weights.h"

#include <algorithm>
#include <vector>

#include "base/philox.h"

namespace ballast::model {

FlatArray::FlatArray(const Context& context, const ParameterTable& table, Dtype dtype)
    : buffer_(context.allocate(static_cast<size_t>(table.flat_size()) * size_of(dtype))),
      flat_(buffer_.data(), dtype, {table.flat_size()}) {}

FlatArray::FlatArray(const Context& context, RowPlaces places, Dtype dtype)
    : places_(std::move(places)),
      buffer_(context.allocate(static_cast<size_t>(places_->size()) * size_of(dtype))),
      flat_(buffer_.data(), dtype, {places_->size()}) {}

Tensor FlatArray::of(const ParameterRow& row) const {
    const int64_t begin = places_ ? places_->of(row) : row.offset;
    const Tensor range = flat_.slice(0, begin, begin + row.count);
    return row.shape.size() == 1 ? range : range.view({row.shape[0], row.shape[1]});
}

namespace {

int64_t num_sink_logits(const ParameterTable& table) { return table.num_parameters(Role::attention_sinks); }

/// Of weights whose matrices are elsewhere.
RowPlaces places_of_others(const ParameterTable& table) {
    return {table, [](const ParameterRow& row) { return row.may_narrow ? 0 : ParameterTable::padded(row.count); }};
}

template <class T>
std::vector<T> converted(const float* values, int64_t count) {
    std::vector<T> out;
    out.reserve(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<T>(values[i]));
    return out;
}

/// Copies values to a tensor of any dtype, rounded.
void copy_rounded(const Context& context, const Tensor& to, const float* values) {
    switch (to.dtype) {
        case Dtype::f32: return context.copy_from_host(to, values);
        case Dtype::f64: return context.copy_from_host(to, converted<double>(values, to.numel()).data());
        case Dtype::bf16: return context.copy_from_host(to, converted<bf16>(values, to.numel()).data());
        case Dtype::f16: return context.copy_from_host(to, converted<f16>(values, to.numel()).data());
        default: require(false, "weights of integers");
    }
}

}  // namespace

size_t Weights::bytes(const ParameterTable& table, Dtype compute_dtype, WeightUse use, std::optional<Dtype> matrices) {
    const Dtype acc = accumulation_dtype(compute_dtype);
    if (matrices.value_or(compute_dtype) != compute_dtype)
        return NarrowMatrices::bytes(table, *matrices) +
               static_cast<size_t>(places_of_others(table).size()) * size_of(compute_dtype) +
               static_cast<size_t>(num_sink_logits(table)) * size_of(acc);
    const auto flat = static_cast<size_t>(table.flat_size());
    if (compute_dtype == acc) return flat * size_of(acc);
    const size_t wide = use == WeightUse::training ? flat : static_cast<size_t>(num_sink_logits(table));
    return flat * size_of(compute_dtype) + wide * size_of(acc);
}

Weights::Weights(const Context& context, const ModelConfig& config, Dtype compute_dtype, WeightUse use,
                 std::optional<Dtype> matrices)
    : table_(config), compute_dtype_(compute_dtype), use_(use) {
    if (matrices.value_or(compute_dtype) != compute_dtype) {
        require(use == WeightUse::inference, "narrow matrices are for reading");
        matrices_.emplace(context, table_, *matrices);
        compute_ = FlatArray(context, places_of_others(table_), compute_dtype);
    } else if (is_narrow()) {
        compute_ = FlatArray(context, table_, compute_dtype);
    }
    if (has_master()) master_ = FlatArray(context, table_, master_dtype());
    const int64_t logits = num_sink_logits(table_);
    if (has_master() || logits == 0) return;
    sink_buffer_ = context.allocate(static_cast<size_t>(logits) * size_of(master_dtype()));
    sinks_LH_ = Tensor(sink_buffer_.data(), master_dtype(), {config.num_layers, config.num_heads});
}

Tensor Weights::accumulated(const ParameterRow& row) const {
    if (has_master()) return master(row);
    require(row.role == Role::attention_sinks, "a parameter that no op reads in the accumulation dtype");
    return sinks_LH_.slice(0, row.layer, row.layer + 1).view({row.count});
}

std::vector<float> Weights::read(const Context& context, const ParameterRow& row) const {
    if (is_matrix(row)) return matrices_->read(context, row);
    return context.read_floats(has_master() || row.role == Role::attention_sinks ? accumulated(row) : compute(row));
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
    if (is_narrow() && has_master()) ops::cast(context, compute_.flat(), master_.flat());
}

void Weights::write(const Context& context, const ParameterRow& row, const float* values) {
    if (has_master()) return copy_rounded(context, master(row), values);
    if (is_matrix(row)) return matrices_->write(context, row, values);
    copy_rounded(context, compute(row), values);
    if (row.role == Role::attention_sinks) copy_rounded(context, accumulated(row), values);
}

}  // namespace ballast::model
