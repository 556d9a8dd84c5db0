// A conversation with a model on the terminal.
#pragma once

#include <string>

#include "cli/generate_options.h"

namespace ballast {

/// How ChatML conversations begin where nobody says so: what the template puts before a first message of the user's;
/// empty: nothing. UserError, naming what it looks like, when `chat_template` is another kind. `source` is for
/// messages.
std::string default_system_of_chatml(const std::string& chat_template, const std::string& source);

/// Reads messages from standard input, a line each, and answers them until it ends. Ctrl-C ends the answer under way.
/// UserError for a model whose folder has no ChatML template.
void chat(const GenerateOptions& options);

}  // namespace ballast
