#include "model/narrow_matrices.h"

#include <cmath>
#include <limits>

namespace ballast::model {
namespace {

RowPlaces weight_places(const ParameterTable& table) {
    return {table, [](const ParameterRow& row) { return row.may_narrow ? ParameterTable::padded(row.count) : 0; }};
}

RowPlaces scale_places(const ParameterTable& table, Dtype dtype) {
    return {table, [&](const ParameterRow& row) { return row.may_narrow && dtype == Dtype::i8 ? row.shape[0] : 0; }};
}

size_t bytes_of(const RowPlaces& places, Dtype dtype) { return static_cast<size_t>(places.size()) * size_of(dtype); }

Tensor part(const DeviceBuffer& buffer, Dtype dtype, int64_t begin, int64_t count) {
    return Tensor(static_cast<char*>(buffer.data()) + static_cast<size_t>(begin) * size_of(dtype), dtype, {count});
}

}  // namespace

NarrowMatrices::NarrowMatrices(const Context& context, const ParameterTable& table, Dtype dtype)
    : dtype_(dtype),
      places_(weight_places(table)),
      scale_places_(scale_places(table, dtype)),
      weights_(context.allocate(bytes_of(places_, dtype))),
      scales_(context.allocate(bytes_of(scale_places_, Dtype::f32))) {
    require(dtype == Dtype::bf16 || dtype == Dtype::i8, "narrow matrices are bf16 or i8");
}

size_t NarrowMatrices::bytes(const ParameterTable& table, Dtype dtype) {
    return bytes_of(weight_places(table), dtype) + bytes_of(scale_places(table, dtype), Dtype::f32);
}

ops::LinearWeight NarrowMatrices::of(const ParameterRow& row) const {
    const int64_t outputs = row.shape[0];
    const Tensor weight = part(weights_, dtype_, places_.of(row), row.count).view({outputs, row.shape[1]});
    if (dtype_ != Dtype::i8) return {weight, {}};
    return {weight, {}, part(scales_, Dtype::f32, scale_places_.of(row), outputs)};
}

void NarrowMatrices::write(const Context& context, const ParameterRow& row, const float* values) {
    const ops::LinearWeight to = of(row);
    const int64_t outputs = row.shape[0], inputs = row.shape[1];
    if (dtype_ == Dtype::bf16) {
        std::vector<bf16> rounded;
        rounded.reserve(static_cast<size_t>(row.count));
        for (int64_t i = 0; i < row.count; ++i) rounded.push_back(bf16(values[i]));
        return context.copy_from_host(to.weight, rounded.data());
    }
    std::vector<int8_t> weights(static_cast<size_t>(row.count));
    std::vector<float> scales(static_cast<size_t>(outputs));
    for (int64_t o = 0; o < outputs; ++o)
        scales[static_cast<size_t>(o)] = quantise_row(values + o * inputs, inputs, weights.data() + o * inputs);
    context.copy_from_host(to.weight, weights.data());
    context.copy_from_host(to.scale, scales.data());
}

std::vector<float> NarrowMatrices::read(const Context& context, const ParameterRow& row) const {
    const ops::LinearWeight from = of(row);
    std::vector<float> out(static_cast<size_t>(row.count));
    if (dtype_ == Dtype::bf16) {
        std::vector<bf16> stored(out.size());
        context.copy_to_host(stored.data(), from.weight);
        for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(stored[i]);
        return out;
    }
    std::vector<int8_t> stored(out.size());
    context.copy_to_host(stored.data(), from.weight);
    const std::vector<float> scales = context.read_floats(from.scale);
    const auto inputs = static_cast<size_t>(row.shape[1]);
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(stored[i]) * scales[i / inputs];
    return out;
}

float quantise_row(const float* values, int64_t count, int8_t* out) {
    float largest = 0;
    for (int64_t i = 0; i < count; ++i) {
        const float magnitude = std::abs(values[i]);
        if (magnitude > largest || std::isnan(magnitude)) largest = magnitude;  // nothing is greater than a NaN
    }
    const float scale = largest / 127;
    const bool usable = scale > 0 && std::isfinite(scale);
    for (int64_t i = 0; i < count; ++i) out[i] = usable ? static_cast<int8_t>(std::nearbyint(values[i] / scale)) : 0;
    return usable ? scale : std::isfinite(largest) ? 0 : std::numeric_limits<float>::quiet_NaN();
}

}  // namespace ballast::model
