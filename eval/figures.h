// The numbers of a measurement for tables over several models.
#pragma once

#include <string>
#include <vector>

#include "eval/measurement.h"

namespace ballast::eval {

struct Figure {
    std::string group, name;  // figures of one group make one table: "perplexity", "4+60"
    double value = 0;
    bool lower_is_better = false;
};

struct Figures {
    std::vector<Figure> values;
    std::vector<std::string> notes;  // remarks that a reader needs with the figures
};

Figures figures(const StreamingResult& result);
/// Means over the layers.
Figures figures(const SinkResult& result);
Figures figures(const LastQueryResult& result);
/// The values of the layer where they are largest, and the perplexity after rounding.
Figures figures(const OutlierResult& result);
/// Means over layers and heads.
Figures figures(const EncoderSinkResult& result);
/// Under other weights than the model computes with, these are part of the name: "4+60, int8".
Figures figures(const Measurement& measurement);

}  // namespace ballast::eval
