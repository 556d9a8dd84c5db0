// The measurements of `ballast eval` that have a file of their own.
#pragma once

#include "cli/command.h"

namespace ballast {

void add_eval_sinks(Command parent);
void add_eval_outliers(Command parent);
void add_eval_plot(Command parent);

/// The text, and where the results go.
template <class Options>
Option add_text_options(Command command, Options& options) {
    command.add_option("--json", options.json, "write the results to this file");
    return options.text.add_to(command);
}

}  // namespace ballast
