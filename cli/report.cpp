// ballast report RUN…
#include <fmt/format.h>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/memory.h"
#include "cli/text_options.h"
#include "report/measure.h"
#include "report/plans.h"
#include "report/report.h"

namespace ballast {
namespace {

struct ReportOptions {
    std::vector<std::string> runs, tables, plans;
    std::string out = "report.html";
    int64_t cache = 0;
    TextOptions text;
};

void measure_missing(const ReportOptions& o, const std::vector<report::RunData>& runs) {
    const report::MeasureOptions options{o.cache, dtype_of_option(o.text.dtype),
                                         report::text_label(o.text.text, o.text.max_tokens)};
    const report::TextReader text{[&](const train::ModelSource& source) { return o.text.read(source); },
                                  [&](const train::ModelSource& source, int64_t length, int64_t count) {
                                      return o.text.encoder_sequences(source, length, count);
                                  }};
    std::vector<report::MeasurePlan> plans;  // all of them before the first is measured
    for (const report::RunData& run : runs)
        if (const auto missing = report::missing_evaluations(run.folder, run.evaluations, options); missing.any())
            plans.push_back(report::plan_measure(run.folder, missing, options, text));
    if (plans.empty()) return;
    const InterruptGuard guard;
    Context context = o.text.make_context();
    for (const report::MeasurePlan& plan : plans)
        require_memory(report::measure_memory(context, plan, options), context, "to measure " + plan.run,
                       "lower --cache or --max-tokens");
    for (const report::MeasurePlan& plan : plans) report::measure(context, plan, options);
}

/// What the page has no numbers for, and how to get them.
void say_what_is_missing(const std::vector<report::RunData>& runs) {
    for (const report::RunData& run : runs) {
        const report::Missing missing = report::missing_evaluations(run.folder, run.evaluations);
        if (!missing.any()) continue;
        log_info(fmt::format("{}: no {} of its newest checkpoint; add --text HELDOUT.txt to measure", run.label,
                             !missing.attention ? "cache table"
                             : !missing.cells   ? "attention maps"
                                                : "cache table and attention maps"));
    }
}

void report_command(const ReportOptions& o) {
    for (const auto* inputs : {&o.tables, &o.plans}) o.text.require_output(o.out, *inputs);
    report::plans_json(o.plans);  // refuses what is no plan before anything is measured
    std::vector<report::RunData> runs = report::read_runs(o.runs, o.tables);
    if (!o.text.text.empty()) {
        measure_missing(o, runs);
        runs = report::read_runs(o.runs, o.tables);
    }
    const std::string page = report::render(runs, o.plans);
    write_file(o.out, page);
    say_what_is_missing(runs);
    std::cout << fmt::format("{}: {} run{}, {:.0f} kB; open it in a browser\n", o.out, runs.size(),
                             runs.size() == 1 ? "" : "s", static_cast<double>(page.size()) / 1000);
}

}  // namespace

void add_report_command(Command app) {
    auto o = std::make_shared<ReportOptions>();
    o->text.max_tokens = 20000;  // enough to see every policy's course, a few seconds for a small model
    Command command =
        app.add_subcommand("report", "Runs side by side in one HTML file: curves, tables, attention maps");
    command.add_option("runs", o->runs, "run folders, one that is still training is fine; Hugging Face folders")
        .required();
    command.add_option("-o,--out", o->out, "the file to write").capture_default_str();
    command.add_option("--table", o->tables, "results of ballast eval table --json (repeat as needed)")
        .one_value_each();
    command.add_option("--plan", o->plans, "a mixture of attention spans to draw (repeat as needed)").one_value_each();
    Option text = o->text.add_to(command);
    text.description(
        "held-out text (UTF-8): measures what a run's newest checkpoint lacks, on this text, and keeps it in RUN/eval");
    command
        .add_option(
            "--cache", o->cache,
            "total positions C of the cache table, which is measured anew where it is of another; default: half "
            "the trained context, or as it was measured")
        .positive()
        .needs(text);
    command.footer(
        "Example:\n  ballast report runs/vanilla runs/zero_sink runs/sink_token --text heldout.txt -o report.html\n"
        "Shows what is in the run folders, RUN/eval/*.json and RUN/eval/maps.safetensors.");
    command.callback([o] { report_command(*o); });
}

}  // namespace ballast
