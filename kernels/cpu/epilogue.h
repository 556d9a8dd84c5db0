// Epilogues of products. The task that computed a block of C applies the epilogue while the block is in the cache.
#pragma once

#include "kernels/gemm.h"

namespace ballast::cpu {

/// The product to compute before g's epilogue. A narrow C is rounded when its product is stored, so its bias is added
/// in the product.
GemmArguments before_epilogue(const GemmArguments& g);

/// Applies the epilogue to the block of C at (row, column); no effect without an epilogue. C must be the result of
/// before_epilogue().
void apply_epilogue(const GemmArguments& g, int64_t row, int64_t column, int64_t rows, int64_t columns);

}  // namespace ballast::cpu
