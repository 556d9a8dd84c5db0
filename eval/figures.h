// The numbers of a measurement that a table over several models shows.
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
    std::vector<std::string> notes;  // what a reader must know of them
};

Figures figures(const StreamingResult& result);
/// Means over the layers.
Figures figures(const SinkResult& result);
Figures figures(const LastQueryResult& result);
/// Of the layer where it is largest, and the perplexity after rounding.
Figures figures(const OutlierResult& result);
/// Means over layers and heads.
Figures figures(const EncoderSinkResult& result);
Figures figures(const Measurement& measurement);

}  // namespace ballast::eval
