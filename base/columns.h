// Text in columns.
#pragma once

#include <string>
#include <vector>

namespace ballast {

/// The width of `text` in terminal columns: its number of UTF-8 characters (our texts have no wide characters).
size_t display_columns(const std::string& text);

/// Formats rows of cells as a table; the first row is the head. The first column is left-aligned, the others are
/// right-aligned, with two spaces between columns.
std::string align_columns(const std::vector<std::vector<std::string>>& lines);

/// The same as a Markdown table, padded so that the source text is aligned too.
std::string markdown_table(const std::vector<std::vector<std::string>>& lines);

}  // namespace ballast
