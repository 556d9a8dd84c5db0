#include "kernels/cpu/gemm.h"

namespace ballast::cpu {

void gemm(Context& context, const GemmArguments& arguments) { gemm_reference(context, arguments); }

}  // namespace ballast::cpu
