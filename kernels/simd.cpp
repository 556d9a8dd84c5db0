#include "kernels/simd.h"

#include "kernels/cpu/targets.h"

#include <hwy/targets.h>

#include <atomic>

namespace ballast {
namespace {

std::atomic<bool> baseline_only = false;

}  // namespace

void use_baseline_simd() {
    baseline_only = true;
    hwy::DisableTargets(~static_cast<int64_t>(HWY_STATIC_TARGET));
}

bool uses_baseline_simd() { return baseline_only; }

std::string simd_target_name() {
    const int64_t usable = HWY_TARGETS & hwy::SupportedTargets();
    return hwy::TargetName(usable & -usable);  // the lowest bit is the best target
}

}  // namespace ballast
