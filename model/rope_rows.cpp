#include "model/rope_rows.h"

#include <cmath>
#include <vector>

namespace ballast::model {
namespace {

template <class Real>
void fill(Context& context, const Tensor& table, const RopeFrequencies& frequencies,
          std::span<const int32_t> positions) {
    const size_t half = frequencies.inverse.size();
    std::vector<Real> values(positions.size() * 2 * half);
    for (size_t n = 0; n < positions.size(); ++n)
        for (size_t i = 0; i < half; ++i) {
            const double angle = static_cast<double>(positions[n]) * frequencies.inverse[i];
            Real* row = values.data() + n * 2 * half;
            row[i] = static_cast<Real>(frequencies.attention_factor * std::cos(angle));
            row[half + i] = static_cast<Real>(frequencies.attention_factor * std::sin(angle));
        }
    context.copy_from_host(table, values.data());
}

}  // namespace

void fill_rope_rows(Context& context, const Tensor& table, const RopeFrequencies& frequencies,
                    std::span<const int32_t> positions) {
    require(
        table.rank == 2 && table.dim(0) == std::ssize(positions) && table.dim(1) == 2 * std::ssize(frequencies.inverse),
        "a table with another number of rows or dims");
    if (table.dtype == Dtype::f64)
        fill<double>(context, table, frequencies, positions);
    else
        fill<float>(context, table, frequencies, positions);
}

}  // namespace ballast::model
