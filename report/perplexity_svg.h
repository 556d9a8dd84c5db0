// Perplexity along a text as one picture that stands in a README, and as Markdown.
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

/// What a cell is called in pictures and tables: "dense", "0+512", "recompute 512".
std::string cell_label(const eval::StreamingResult& cell);

/// An SVG file with a curve for each cell, in colours as on the report's page: position in the text against the
/// perplexity of the bucket there, which has a logarithmic scale. What is not finite is a gap. UserError when no point
/// is finite.
std::string perplexity_svg(const std::vector<eval::StreamingResult>& cells, const PerplexityPlot& plot);

/// Total cache down, positions kept at the start across, then recompute and dense, with notes below: cells scored on a
/// part of the tokens (*), and losses that are not finite.
std::string perplexity_markdown(const std::vector<eval::StreamingResult>& cells);

}  // namespace ballast::report
