// Predicts the time of a run on other machines: a roofline of the op shapes, and the bytes sent over the network.
//
// An op takes the larger of two times: its FLOPs at the machine's attainable rate, and its bytes at the attainable
// bandwidth (Williams et al. 2009). Ops run one after another. Not counted: launch gaps, reading data, checkpoints,
// validation, and the wait for a slower rank.
#pragma once

#include <vector>

#include "train/distribution.h"
#include "train/machine.h"

namespace ballast::train {

/// Seconds of one pass. The backward pass is listed by part, in the order in which gradients are finished: the head
/// with the loss, the layers from last to first, the embedding.
struct PassCost {
    double forward = 0;
    std::vector<double> backward;

    double total() const;
};
PassCost cost_of_pass(const Machine& machine, const RunConfig& config);

/// Seconds of an update on the rank with the most passes.
struct StepCost {
    double passes = 0;           // forward and backward
    double adding = 0;           // sums over the rank's own lanes, and with nodes received from others
    double optimizer = 0;        // norm and AdamW
    double communication = 0;    // all exchanges, without overlap
    double hidden = 0;           // the part of it that overlaps with the last backward pass
    double overlap_ceiling = 0;  // share of the gradients that are complete before the backward pass ends

    double total() const { return passes + adding + optimizer + communication - hidden; }
};
StepCost cost_of_step(const Machine& machine, const Network& network, const RunConfig& config,
                      const Distribution& distribution);

/// The bytes of gradients and weights that a rank receives in an update, on average.
double received_bytes(const RunConfig& config, const Distribution& distribution);

/// The model FLOPs of an update as a share of the peak of all ranks in `seconds`; with full attention (PaLM).
double model_flops_utilisation(const Machine& machine, const RunConfig& config, int ranks, double seconds);

}  // namespace ballast::train
