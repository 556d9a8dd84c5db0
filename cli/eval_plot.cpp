// ballast eval plot
#include <algorithm>
#include <fmt/format.h>
#include <iostream>

#include "base/atomic_file.h"
#include "cli/eval_commands.h"
#include "report/perplexity_svg.h"

namespace ballast {
namespace {

struct PlotCommand {
    std::vector<std::string> files, curves;
    std::string out, table;
    report::PerplexityPlot plot;

    void run() {
        for (const std::string& path : {out, table}) {
            if (path.empty()) continue;
            require_not_an_input(path, files);
            require_writable(path);
        }
        require_different_outputs({{"--out", out}, {"--table", table}});
        std::vector<eval::StreamingResult> cells = read_cells();
        const std::string markdown = report::perplexity_markdown(cells);
        if (!curves.empty()) keep_curves(cells);
        write_file(out, report::perplexity_svg(cells, plot));
        if (!table.empty()) write_file(table, markdown);
        std::cout << markdown;
    }

  private:
    /// Of all files together: of two results for one cell, the later checkpoint's or else the later file's.
    std::vector<eval::StreamingResult> read_cells() {
        std::vector<eval::Measurement> all;
        std::string model;
        for (const std::string& file : files)
            for (eval::MeasuredModel& measured : eval::read_measurements(file)) {
                const std::string subject =
                    measured.model + (measured.weights.empty() ? "" : " in " + measured.weights);
                if (model.empty()) model = subject;
                if (subject != model)
                    throw UserError(
                        fmt::format("{} is about {}, but the files before it are about {}; a picture has one "
                                    "model",
                                    file, subject, model));
                for (eval::Metrics& metrics : measured.metrics) put(all, {std::move(metrics), measured.step, file});
            }
        std::vector<eval::StreamingResult> cells;
        for (eval::Measurement& measurement : all)
            if (auto* cell = std::get_if<eval::StreamingResult>(&measurement.metrics))
                cells.push_back(std::move(*cell));
        if (cells.empty())
            throw UserError(
                fmt::format("{}: no perplexity in it; make one with ballast eval streaming … --json or "
                            "ballast eval table … --json",
                            fmt::join(files, ", ")));
        if (plot.title.empty()) plot.title = fmt::format("Perplexity along the text: {}", model);
        return cells;
    }

    void keep_curves(std::vector<eval::StreamingResult>& cells) const {
        std::vector<eval::StreamingResult> kept;
        for (const std::string& name : curves) {
            const auto found =
                std::find_if(cells.begin(), cells.end(), [&](const auto& cell) { return label_of(cell) == name; });
            if (found == cells.end()) {
                std::vector<std::string> names;
                for (const auto& cell : cells) names.push_back(label_of(cell));
                throw UserError(fmt::format("there is no curve \"{}\"; there are: {}", name, fmt::join(names, ", ")));
            }
            kept.push_back(*found);
        }
        cells = std::move(kept);
    }
};

}  // namespace

void add_eval_plot(Command parent) {
    auto o = std::make_shared<PlotCommand>();
    Command command =
        parent.add_subcommand("plot", "One picture and one table of what streaming and table measured on a model");
    command.add_option("files", o->files, "files of ballast eval streaming --json and ballast eval table --json")
        .required();
    command.add_option("-o,--out", o->out, "SVG file to write: perplexity along the text").required();
    command.add_option("--table", o->table, "Markdown file to write: total cache against positions kept at the start");
    command
        .add_option("--curves", o->curves,
                    "curves of the picture, e.g. dense,0+512,4+508,\"recompute 512\"; default: all")
        .delimiter(',')
        .one_value_each();
    command.add_option("--context", o->plot.context, "mark the positions the model was trained on").positive();
    command.add_option("--title", o->plot.title, "default: the model's name");
    command.add_option("--note", o->plot.note, "a line below the title");
    command.footer(
        "Example:\n  ballast eval plot dense.json window.json sinks.json -o streaming.svg --table streaming.md "
        "--context "
        "8192");
    command.callback([o] { o->run(); });
}

}  // namespace ballast
