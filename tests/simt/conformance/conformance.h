// simt_conformance runs every wrapper of kernels/simt on fixed inputs; the same sources by g++ (the executor) and by
// nvcc (a GPU) must give the same records.
#pragma once

#include "tests/simt/conformance/records.h"

namespace ballast::test {

/// Records that run in a process of their own on a GPU, where a trap ends all that follows in the process.
struct Group {
    const char* name;
    bool hopper;  ///< needs sm_90a
    void (*record)(Recorder&);
};

void record_types(Recorder&);      ///< float16 conversions and arithmetic
void record_functions(Recorder&);  ///< approximated functions
void record_warps(Recorder&);      ///< shuffles, votes, reductions, barriers, atomics
void record_copies(Recorder&);     ///< ldmatrix, cp.async
void record_mma(Recorder&);        ///< mma.sync
void record_tma_loads(Recorder&);
void record_tma_stores(Recorder&);
void record_wgmma_swizzles(Recorder&);  ///< every pair of layouts, 64 columns
void record_wgmma_fp16(Recorder&);
void record_wgmma_columns(Recorder&);  ///< other numbers of columns than 64
void record_wgmma_chains(Recorder&);   ///< products that wait for other products or for TMA
void record_setmaxnreg(Recorder&);

inline constexpr Group kGroups[] = {
    {"types", false, record_types},
    {"functions", false, record_functions},
    {"warps", false, record_warps},
    {"copies", false, record_copies},
    {"mma", false, record_mma},
    {"tma-loads", true, record_tma_loads},
    {"tma-stores", true, record_tma_stores},
    {"wgmma-swizzles", true, record_wgmma_swizzles},
    {"wgmma-fp16", true, record_wgmma_fp16},
    {"wgmma-columns", true, record_wgmma_columns},
    {"wgmma-chains", true, record_wgmma_chains},
    {"setmaxnreg", true, record_setmaxnreg},
};

/// Why this device has no sm_90a; empty when it has.
std::string why_not_hopper();

}  // namespace ballast::test
