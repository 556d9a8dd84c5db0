// The measurements of `ballast eval` that have a file of their own.
#pragma once

#include <CLI/CLI.hpp>

namespace ballast {

void add_eval_sinks(CLI::App* parent);
void add_eval_outliers(CLI::App* parent);
void add_eval_plot(CLI::App* parent);

/// The text, and where the results go.
template <class Command>
CLI::Option* add_text_options(CLI::App* app, Command& command) {
    app->add_option("--json", command.json, "write the results to this file");
    return command.text.add_to(app);
}

}  // namespace ballast
