// Sub-commands of `ballast data`, and what they share.
#pragma once

#include <string>

#include "cli/command.h"
#include "data/token_store.h"
#include "data/tokenizer.h"

namespace ballast {

void add_prepare_command(Command parent);
void add_show_command(Command parent);

/// Documents, tokens and share of the tokens of each group, and of what is in none; nothing without groups.
void print_groups(const data::TokenStore& store);

/// The tokenizer at `path`, if the store was made with it, or does not say.
data::Tokenizer open_tokenizer(const std::string& path, data::TokenStore& store);

}  // namespace ballast
