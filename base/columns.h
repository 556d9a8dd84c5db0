// Text in columns.
#pragma once

#include <string>
#include <vector>

namespace ballast {

/// Characters of UTF-8 text, which is what a terminal's columns hold of ours.
size_t display_columns(const std::string& text);

/// Lines of cells, the first the head: the first column left-aligned, the others right-aligned, two spaces between.
std::string align_columns(const std::vector<std::vector<std::string>>& lines);

/// The same as a Markdown table, which reads well as it stands.
std::string markdown_table(const std::vector<std::vector<std::string>>& lines);

}  // namespace ballast
