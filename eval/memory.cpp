#include "eval/memory.h"

#include <algorithm>
#include <utility>

namespace ballast::eval {

MeasurementMemory larger_of(MeasurementMemory a, MeasurementMemory b) {
    return a.total() < b.total() ? std::move(b) : std::move(a);
}

MeasurementMemory pass_memory(const Context& context, const model::ModelConfig& config, Dtype dtype, int64_t batch,
                              int64_t length, std::optional<Dtype> matrices) {
    constexpr auto kKind = model::PassKind::forward;
    return {{{"activations", model::Pass::activation_bytes(config, dtype, kKind, batch, length)},
             {"kernel scratch", model::Pass::scratch_bytes(context, config, dtype, kKind, batch, length, matrices)}},
            {}};
}

size_t map_bytes(int64_t count, int64_t length) {
    const double side = static_cast<double>(length);
    return static_cast<size_t>(std::min(static_cast<double>(count) * side * side * sizeof(float), 0x1p58));
}

}  // namespace ballast::eval
