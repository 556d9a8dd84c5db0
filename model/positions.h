// Positions and visible ranges: rotary tables, ALiBi slopes and windows on the device.
#pragma once

#include <vector>

#include "kernels/context.h"
#include "model/config.h"

namespace ballast::model {

class PositionTables {
  public:
    /// Tables for positions [0, positions). Tables that the model's kind of position does not need are absent.
    PositionTables(Context& context, const ModelConfig& config, Dtype compute_dtype, int64_t positions);

    /// Makes rows for positions [0, positions) available. The table may move; recorded work is then recorded again.
    void ensure(Context& context, int64_t positions);
    /// Gives all rows the angles for a sequence of this length; no effect unless rope_depends_on_length().
    void set_sequence_length(Context& context, int64_t length);
    Tensor rope() const { return rope_; }
    Tensor alibi_slopes() const { return alibi_slopes_; }
    /// i32 [H]: AttentionMask::span_H of a layer; absent when queries see every earlier position.
    Tensor span(int64_t layer) const { return spans_[static_cast<size_t>(layer) % spans_.size()]; }

    /// Press et al. 2022, "Train short, test long": 2^(-bias_max i / n) for the largest power of two n <= heads; the
    /// remaining heads take every second slope of 2n heads, as in BLOOM and MPT.
    static double alibi_slope(int64_t head, int64_t num_heads, double bias_max = 8.0);

  private:
    void upload_slopes(Context& context);
    void upload_spans(Context& context);

    ModelConfig config_;
    Dtype dtype_;
    int64_t sequence_length_;  // the length that the angles are for, when they depend on it
    DeviceBuffer rope_buffer_, alibi_buffer_, span_buffer_;
    Tensor rope_, alibi_slopes_;
    std::vector<Tensor> spans_;  // in the order of the config's list
};

}  // namespace ballast::model
