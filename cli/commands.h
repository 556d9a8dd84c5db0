// Every sub-command: each function adds one, with its options, help and example.
#pragma once

#include <optional>
#include <string>

#include "base/dtype.h"

namespace CLI {
class App;
}

namespace ballast {

/// --backend, with its check and help; `name` starts as its default. device_of_backend() (kernels/backend.h) reads it.
void add_backend_option(CLI::App* command, std::string& name);
/// --dtype, in the same way; dtype_of_option() reads it.
void add_dtype_option(CLI::App* command, std::string& name, const std::string& help);
Dtype dtype_of_option(const std::string& name);
/// --weights, in the same way; weights_of_option() reads it: none for `same`.
void add_weights_option(CLI::App* command, std::string& name);
std::optional<Dtype> weights_of_option(const std::string& name);

void add_tokenizer_command(CLI::App& app);
void add_data_command(CLI::App& app);
void add_train_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_report_command(CLI::App& app);
void add_watch_command(CLI::App& app);
void add_sweep_command(CLI::App& app);
void add_export_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_info_command(CLI::App& app);
void add_moa_command(CLI::App& app);

}  // namespace ballast
