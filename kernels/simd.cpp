#include "kernels/simd.h"

#include "kernels/cpu/targets.h"

#include <hwy/targets.h>

namespace ballast {

void use_baseline_simd() { hwy::DisableTargets(~static_cast<int64_t>(HWY_STATIC_TARGET)); }

std::string simd_target_name() {
    const int64_t usable = HWY_TARGETS & hwy::SupportedTargets();
    return hwy::TargetName(usable & -usable);  // the lowest bit is the best target
}

}  // namespace ballast
