// simt_conformance runs every wrapper of kernels/simt on fixed inputs; the same sources by g++ (the executor) and by
// nvcc (a GPU) must give the same records.
#pragma once

#include "tests/simt/conformance/records.h"

namespace ballast::test {

void record_types(Records&);   ///< float16 conversions and arithmetic, approximated functions
void record_warps(Records&);   ///< shuffles, votes, reductions, barriers, mma, ldmatrix, cp.async
void record_hopper(Records&);  ///< mbarriers, TMA, wgmma, setmaxnreg
/// Why this device has no sm_90a; empty when it has.
std::string why_not_hopper();

}  // namespace ballast::test
