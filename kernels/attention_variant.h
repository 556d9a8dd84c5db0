// The one place that knows the attention normalisers.
//
// Every normaliser here is a softmax with one more logit z_h per head in the denominator (in the scaled logit domain):
//   LSE' = logaddexp(LSE, z_h),  P' = exp(s - LSE'),  O = P' V.
// z = -inf is softmax, z = 0 is SoftMax-off-by-one (Miller 2023, "Attention is off by one"; an all-zero key and value),
// z learned is gpt-oss's sink logit. The backward pass is the usual one fed LSE', plus
//   dz_h = -sum_i exp(z_h - LSE'_i) D_i,  D = rowsum(dO * O).
//
// To add a normaliser of this family: a name here, its z below, a row of the parameter table if z is learned (model/
// parameter_table.cpp asks has_learned_sink_logit), a config, and a row in the tests (CONTRIBUTING.md shows the diffs).
#pragma once

#include <array>
#include <limits>
#include <string_view>

namespace ballast {

enum class Normaliser { softmax, off_by_one, sink_logit };

/// The names used in config files, in the order of the enumerators.
inline constexpr std::array<std::string_view, 3> kNormaliserNames{"softmax", "off_by_one", "sink_logit"};

/// True when z is a parameter: one fp32 value a head, stored as `attention.sinks`, initially 0, without weight decay.
constexpr bool has_learned_sink_logit(Normaliser normaliser) { return normaliser == Normaliser::sink_logit; }

/// z_h. `learned` is the head's parameter and is read only when the normaliser has one.
template <class Real>
constexpr Real sink_logit_value(Normaliser normaliser, const Real* learned, int head) {
    switch (normaliser) {
        case Normaliser::softmax: return -std::numeric_limits<Real>::infinity();
        case Normaliser::off_by_one: return Real(0);
        case Normaliser::sink_logit: return learned[head];
    }
    return -std::numeric_limits<Real>::infinity();
}

}  // namespace ballast
