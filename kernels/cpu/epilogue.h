// Epilogues of products, applied to each block of C by the task that made it, while the block is in the cache.
#pragma once

#include "kernels/gemm.h"

namespace ballast::cpu {

/// The product that comes before g's epilogue. A narrow C is rounded when its product is stored, so its bias joins
/// there.
GemmArguments before_epilogue(const GemmArguments& g);

/// Ends the block of C at (row, column); nothing to do without an epilogue. C holds what before_epilogue() asks for.
void apply_epilogue(const GemmArguments& g, int64_t row, int64_t column, int64_t rows, int64_t columns);

}  // namespace ballast::cpu
