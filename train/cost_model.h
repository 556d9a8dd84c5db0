// How long a run will take on machines that are not here: a roofline of the shapes, and bytes over a network.
//
// An op takes the longer of its FLOPs at the machine's attainable rate and its bytes at the attainable bandwidth
// (Williams et al. 2009). Ops follow one another. Not counted: launch gaps, reading data, checkpoints, validation,
// ranks that wait for a slower one.
#pragma once

#include <vector>

#include "train/distribution.h"
#include "train/machine.h"

namespace ballast::train {

/// Seconds of one pass. Backward by part, in the order in which their gradients are finished: the head with the loss,
/// the layers from last to first, the embedding.
struct PassCost {
    double forward = 0;
    std::vector<double> backward;

    double total() const;
};
PassCost cost_of_pass(const Machine& machine, const RunConfig& config);

/// Seconds of an update on the rank with the most passes.
struct StepCost {
    double passes = 0;           // forward and backward
    double adding = 0;           // the rank's own lanes, and what came from others
    double optimizer = 0;        // norm and AdamW
    double communication = 0;    // all exchanges, were nothing else done meanwhile
    double hidden = 0;           // of them beside the last backward pass
    double overlap_ceiling = 0;  // share of the gradients that are known before the backward pass ends

    double total() const { return passes + adding + optimizer + communication - hidden; }
};
StepCost cost_of_step(const Machine& machine, const Network& network, const RunConfig& config,
                      const Distribution& distribution);

/// Bytes that a rank gets of gradients and of weights in an update, on average.
double received_bytes(const RunConfig& config, const Distribution& distribution);

/// Model FLOPs of an update as a share of what all ranks could do in `seconds`; attention counted in full (PaLM).
double model_flops_utilisation(const Machine& machine, const RunConfig& config, int ranks, double seconds);

}  // namespace ballast::train
