// The results of a sweep: one row per variant, with mean and sample standard deviation over its seeds.
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

/// The known figures of one trained cell, by column.
struct CellFigures {
    std::string cell, folder, variant;
    std::vector<std::pair<std::string, std::string>> varied;  // seeds included
    std::vector<std::pair<Column, double>> values;
    std::vector<std::string> notes;
};

/// Reads the run's folder: the last losses in its metrics, the cache table with `cache` positions (0: any), and the
/// share of attention on the first positions.
CellFigures read_figures(const Cell& cell, const std::string& folder, int64_t cache);

struct Statistic {
    double mean = 0;
    std::optional<double> std;  // sample standard deviation (n - 1); empty for n = 1
    int64_t n = 0;              // seeds with a value
};

Statistic statistic(const std::vector<double>& values);

struct SummaryRow {
    std::string variant;
    std::vector<std::pair<std::string, std::string>> fields;  // without seeds
    std::vector<std::string> cells;
    std::vector<std::optional<Statistic>> values;  // one per column
};

struct Summary {
    std::vector<Column> columns;
    std::vector<SummaryRow> rows;  // variants in the cells' order
    std::vector<std::string> notes;
    int64_t cells = 0, trained = 0;
};

/// `cells`: the number of cells in the sweep, trained or not.
Summary summarise(const std::vector<CellFigures>& figures, int64_t cells);

/// The row with the best mean of a column; empty when there is nothing to compare.
std::optional<size_t> best_row(const Summary& summary, size_t column);

/// The cells for a page of at most `most` runs, chosen from `trained` (indices into `cells`): all of them, or else the
/// first seed of each variant.
std::vector<size_t> runs_to_show(const std::vector<Cell>& cells, const std::vector<size_t>& trained, size_t most);

/// Markdown that is also readable in a terminal: one table per group, with the best value of a column in bold.
std::string to_markdown(const Summary& summary);
nlohmann::ordered_json to_json(const Summary& summary);

}  // namespace ballast::sweep
