// A small profile, made here.
#pragma once

#include <cmath>
#include <cstdint>

#include "moa/profile_file.h"

namespace ballast::test {

inline constexpr int64_t kProfileBlock = 4;

/// A head whose influence falls with the distance in blocks by the factor `reach`.
inline double influence(double size, double reach, int64_t distance) {
    return size * std::pow(reach, static_cast<double>(distance));
}

/// 2 layers of 4 heads on 2 key-value heads. Those of layer 1, head 2 and 3 reach far.
inline moa::Profile made_profile() {
    moa::Profile profile;
    profile.model = "made";
    profile.shape = {2, 4, 2};
    profile.max_positions = 128;
    profile.block = kProfileBlock;
    profile.calibration = moa::checksum_of("items");
    profile.settings = {.dtype = "f32", .gemm = "auto", .tokenizer = "0123456789abcdef"};
    for (const int64_t length : {32, 64}) {
        moa::LengthProfile& at = profile.lengths.emplace_back();
        at.length = length;
        at.sequences = 3;
        at.answer_tokens = 30;
        at.loss = 6.5;
        const int64_t blocks = profile.blocks(at);
        for (int64_t head = 0; head < 8; ++head)
            for (int64_t i = 0; i < blocks; ++i)
                for (int64_t j = 0; j < blocks; ++j) {
                    const double value =
                        j > i ? 0 : influence(1 + 0.1 * static_cast<double>(head), head >= 6 ? 0.95 : 0.3, i - j);
                    at.absolute.push_back(value);
                    at.signed_sum.push_back(j % 2 == 0 ? value : -value);
                }
    }
    return profile;
}

/// The same with second-order losses of 6 draws: they fall with the span, of layer 0, head 0 and 1 but slowly.
inline moa::Profile with_second_order(moa::Profile profile) {
    profile.draws = 2;
    for (moa::LengthProfile& at : profile.lengths) {
        at.draws = 6;
        for (int64_t head = 0; head < 8; ++head)
            for (int64_t m = 1; m <= profile.spans(at); ++m)
                at.second_order_heads.push_back(6 * influence(0.1, head < 2 ? 0.95 : 0.3, m));
        for (int64_t group = 0; group < 4; ++group)
            for (int64_t m = 1; m <= profile.spans(at); ++m)
                at.second_order_groups.push_back(6 * influence(0.2, group < 1 ? 0.95 : 0.3, m));
    }
    return profile;
}

}  // namespace ballast::test
