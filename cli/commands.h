// Every sub-command: each function adds one, with its options, help and example.
#pragma once

namespace CLI {
class App;
}

namespace ballast {

void add_tokenizer_command(CLI::App& app);
void add_data_command(CLI::App& app);
void add_train_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_export_command(CLI::App& app);
void add_info_command(CLI::App& app);

}  // namespace ballast
