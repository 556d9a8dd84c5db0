// What came out of a sweep: one row a variant, mean and sample standard deviation over its seeds.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sweep/cells.h"

namespace ballast::sweep {

enum class Better { lower, neither };

struct Column {
    std::string group;  // columns of one group make one printed table: "loss", "perplexity", "attention"
    std::string name;
    Better better = Better::lower;
};

/// One trained cell's figures, by column. Only those that are known.
struct CellFigures {
    std::string cell, folder, variant;
    std::vector<std::pair<std::string, std::string>> varied;  // seeds included
    std::vector<std::pair<Column, double>> values;
    std::vector<std::string> notes;
};

/// Reads the run's folder: the last losses of its metrics, the cache table with `cache` positions (0: any), how much
/// attention its first positions get.
CellFigures read_figures(const Cell& cell, const std::string& folder, int64_t cache);

struct Statistic {
    double mean = 0;
    std::optional<double> std;  // sample (n - 1); none for n = 1
    int64_t n = 0;              // seeds with a value
};

Statistic statistic(const std::vector<double>& values);

struct SummaryRow {
    std::string variant;
    std::vector<std::pair<std::string, std::string>> fields;  // without seeds
    std::vector<std::string> cells;
    std::vector<std::optional<Statistic>> values;  // of each column
};

struct Summary {
    std::vector<Column> columns;
    std::vector<SummaryRow> rows;  // variants in the cells' order
    std::vector<std::string> notes;
    int64_t cells = 0, trained = 0;
};

/// `cells`: how many the sweep has, trained or not.
Summary summarise(const std::vector<CellFigures>& figures, int64_t cells);

/// Row of the best mean of a column; none when there is nothing to choose.
std::optional<size_t> best_row(const Summary& summary, size_t column);

/// Of `trained` cells (numbers into `cells`) those a page of at most `most` runs shows: all, or else the first seed of
/// each variant.
std::vector<size_t> runs_to_show(const std::vector<Cell>& cells, const std::vector<size_t>& trained, size_t most);

/// Markdown that reads well in a terminal: a table a group, the best of a column bold.
std::string to_markdown(const Summary& summary);
nlohmann::ordered_json to_json(const Summary& summary);

}  // namespace ballast::sweep
