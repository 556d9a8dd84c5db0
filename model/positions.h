// Where tokens stand: rotary tables and ALiBi slopes on the device.
#pragma once

#include <vector>

#include "kernels/context.h"
#include "model/config.h"

namespace ballast::model {

class PositionTables {
  public:
    /// Tables for positions [0, positions); absent ones for the position kinds that need none.
    PositionTables(Context& context, const ModelConfig& config, Dtype compute_dtype, int64_t positions);

    /// Makes rows for positions [0, positions) available; the table may move, and recorded work is then recorded anew.
    void ensure(Context& context, int64_t positions);
    Tensor rope() const { return rope_; }
    Tensor alibi_slopes() const { return alibi_slopes_; }

    /// Press et al. 2022, "Train short, test long": 2^(-8 i / n) for the largest power of two n <= heads; the remaining
    /// heads take every second slope of 2n heads, as in BLOOM and MPT.
    static double alibi_slope(int64_t head, int64_t num_heads);

  private:
    Dtype dtype_;
    int64_t rotary_dims_;
    std::vector<double> inv_freq_;
    DeviceBuffer rope_buffer_, alibi_buffer_;
    Tensor rope_, alibi_slopes_;
};

}  // namespace ballast::model
