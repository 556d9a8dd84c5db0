// Plots curves as text: takes data and returns lines.
#pragma once

#include <string>
#include <vector>

namespace ballast::report {

struct PlotSeries {
    std::vector<double> x, y;              // x ascends; a y that is not finite breaks the curve
    std::vector<double> marks_x, marks_y;  // single points, drawn as o on top of the curves
    size_t colour = 0;                     // index in the palette
};

struct PlotOptions {
    int width = 80, height = 12;  // columns and lines, axes and title included; at least kLeastWidth and kLeastHeight
    bool colour = false;          // use escape codes; without them several curves are distinguished by letters
};

inline constexpr int kLeastWidth = 24, kLeastHeight = 5;

/// At most `height` lines of at most `width` columns. Curves are braille dots, two by four per character; each dot is
/// the mean of the values in its column. Where curves meet, the later one is drawn. Without a finite value the plot
/// says so.
std::vector<std::string> draw_plot(const std::string& title, const std::vector<PlotSeries>& series,
                                   const PlotOptions& options);

/// `text` in the palette's colour, with escape codes, when `colour` is true.
std::string coloured(const std::string& text, size_t which, bool colour);

/// "a" for the first curve: the name of a curve when there are no colours.
std::string letter_of(size_t which);

}  // namespace ballast::report
