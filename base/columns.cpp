#include "base/columns.h"

#include <algorithm>

#include "base/utf8_cut.h"

namespace ballast {
namespace {

std::vector<size_t> widths_of(const std::vector<std::vector<std::string>>& lines) {
    std::vector<size_t> widths;
    for (const auto& line : lines) {
        widths.resize(std::max(widths.size(), line.size()), 0);
        for (size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], display_columns(line[c]));
    }
    return widths;
}

/// fmt's width counts some characters twice, as terminals do for scripts we never print.
std::string padded(const std::string& text, size_t width, bool left) {
    const std::string space(width - std::min(width, display_columns(text)), ' ');
    return left ? text + space : space + text;
}

}  // namespace

size_t display_columns(const std::string& text) { return count_characters(text); }

std::string align_columns(const std::vector<std::vector<std::string>>& lines) {
    const std::vector<size_t> widths = widths_of(lines);
    std::string out;
    for (const auto& line : lines) {
        for (size_t c = 0; c < line.size(); ++c) out += (c > 0 ? "  " : "") + padded(line[c], widths[c], c == 0);
        out += '\n';
    }
    return out;
}

std::string markdown_table(const std::vector<std::vector<std::string>>& lines) {
    const std::vector<size_t> widths = widths_of(lines);
    std::string out;
    for (size_t l = 0; l < lines.size(); ++l) {
        for (size_t c = 0; c < lines[l].size(); ++c) out += "| " + padded(lines[l][c], widths[c], c == 0) + " ";
        out += "|\n";
        if (l > 0) continue;
        for (size_t c = 0; c < widths.size(); ++c)
            out += (c == 0 ? "|:" : "|") + std::string(widths[c] + 1, '-') + (c == 0 ? "" : ":");
        out += "|\n";
    }
    return out;
}

}  // namespace ballast
