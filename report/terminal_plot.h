// Curves as characters: data in, lines of text out.
#pragma once

#include <string>
#include <vector>

namespace ballast::report {

struct PlotSeries {
    std::vector<double> x, y;              // x ascends; a y that is not finite breaks the curve
    std::vector<double> marks_x, marks_y;  // single points, drawn as o over the curves
    size_t colour = 0;                     // which of the palette's
};

struct PlotOptions {
    int width = 80, height = 12;  // columns and lines, axes and title included; at least kLeastWidth and kLeastHeight
    bool colour = false;          // escape codes; without them several curves are told apart by letters
};

inline constexpr int kLeastWidth = 24, kLeastHeight = 5;

/// `height` lines of `width` columns at most. Curves are braille dots, two by four a character, each the mean of the
/// values in its column; where curves meet the later one shows. Without a finite value the plot says so.
std::vector<std::string> draw_plot(const std::string& title, const std::vector<PlotSeries>& series,
                                   const PlotOptions& options);

/// `text` in the palette's colour, by its escape codes, when `colour` holds.
std::string coloured(const std::string& text, size_t which, bool colour);

/// "a" for the first curve: its name where there are no colours.
std::string letter_of(size_t which);

}  // namespace ballast::report
