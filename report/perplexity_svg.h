// Perplexity along a text as a picture for a README, and as Markdown.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eval/measurement.h"

namespace ballast::report {

struct PerplexityPlot {
    std::string title = "";
    int64_t context = 0;    // positions the model was trained on, marked by a line; 0: no line
    std::string note = "";  // below the title
};

/// An SVG file with one curve per cell, in the colours of the report's page: the perplexity of each bucket, on a
/// logarithmic scale, over the position in the text. A value that is not finite is a gap. UserError when no point is
/// finite.
std::string perplexity_svg(const std::vector<eval::StreamingResult>& cells, const PerplexityPlot& plot);

/// One row per total cache, one column per number of positions kept at the start, then recompute and dense. Notes below
/// mark cells that were scored on only a part of the tokens (*), and losses that are not finite.
std::string perplexity_markdown(const std::vector<eval::StreamingResult>& cells);

}  // namespace ballast::report
