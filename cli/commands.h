// Every sub-command: each function adds one, with its options, help and example.
#pragma once

#include <optional>
#include <string>

#include "base/dtype.h"
#include "cli/command.h"

namespace ballast {

/// --backend, with its check and help; `name` starts as its default. device_of_backend() (kernels/backend.h) reads it.
void add_backend_option(Command command, std::string& name);
/// --dtype, in the same way; dtype_of_option() reads it.
void add_dtype_option(Command command, std::string& name, const std::string& help);
Dtype dtype_of_option(const std::string& name);
/// --weights, in the same way; weights_of_option() reads it: none for `same`.
void add_weights_option(Command command, std::string& name);
std::optional<Dtype> weights_of_option(const std::string& name);

void add_tokenizer_command(Command app);
void add_data_command(Command app);
void add_train_command(Command app);
void add_eval_command(Command app);
void add_report_command(Command app);
void add_watch_command(Command app);
void add_sweep_command(Command app);
void add_export_command(Command app);
void add_generate_command(Command app);
void add_info_command(Command app);
void add_moa_command(Command app);

}  // namespace ballast
