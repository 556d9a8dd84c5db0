// The program: its sub-commands. What becomes of errors is in base/ending.h.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <fmt/format.h>
#include <span>
#include <string>
#include <vector>

#include "base/build_info.h"
#include "base/edit_distance.h"
#include "base/ending.h"
#include "base/error.h"
#include "base/process_start.h"
#include "cli/commands.h"

namespace ballast {
namespace {

/// "ballast data prepare": as far as `command`'s sub-commands were recognised.
std::string spelled_out(const CLI::App& command) {
    std::string name = command.get_name();
    for (const CLI::App* inner : command.get_subcommands()) return name + " " + spelled_out(*inner);
    return name;
}

/// CLI11 takes an unknown sub-command for a stray argument; this says what was probably meant.
void refuse_unknown_command(const CLI::App& app, std::span<char*> arguments) {
    const CLI::App* command = &app;
    for (const std::string word : arguments) {
        const auto inner = command->get_subcommands([](const CLI::App*) { return true; });
        if (inner.empty() || word.starts_with("-")) return;
        std::vector<std::string> names;
        for (const CLI::App* candidate : inner) names.push_back(candidate->get_name());
        const auto found = std::find(names.begin(), names.end(), word);
        if (found == names.end()) {
            const std::vector<std::string_view> views(names.begin(), names.end());
            throw UserError(fmt::format("unknown command {}{}; the commands are {}", word, did_you_mean(word, views),
                                        fmt::join(names, ", ")));
        }
        command = inner[static_cast<size_t>(found - names.begin())];
    }
}

void add_commands(CLI::App& app) {
    app.set_version_flag("--version", fmt::format("ballast {} ({})", build_info().version, build_info().commit));
    app.require_subcommand(1);
    app.footer(
        "Example:\n  ballast train configs/pythia/14m.toml --set data.train=train.h5 --set data.validation=val.h5 \\\n"
        "    --set data.tokenizer=tokenizer.json\n"
        "Exit codes: 0 done, or a training or sweep that was stopped and can continue; 2 something the user can mend; "
        "1 any\n"
        "other failure; 128 + N ended by signal N (docs/exit-codes.md).");
    app.failure_message([](const CLI::App* failed, const CLI::Error& error) {
        return fmt::format("ballast: error: {}; see {} --help\n", error.what(), spelled_out(*failed));
    });
    const Command commands(app);
    add_tokenizer_command(commands);
    add_data_command(commands);
    add_train_command(commands);
    add_eval_command(commands);
    add_report_command(commands);
    add_watch_command(commands);
    add_sweep_command(commands);
    add_export_command(commands);
    add_generate_command(commands);
    add_moa_command(commands);
    add_info_command(commands);
}

int run(int argc, char** argv) {
    CLI::App app("Pretraining of language models that stream for ever.", "ballast");
    add_commands(app);
    try {
        refuse_unknown_command(app, std::span(argv, static_cast<size_t>(argc)).subspan(1));
        app.parse(argc, argv);
        return exit_code::kDone;
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_code::kDone : exit_code::kUserMistake;
    }
}

}  // namespace
}  // namespace ballast

int main(int argc, char** argv) {
    ballast::prepare_process();
    return ballast::run_program("ballast", [&] { return ballast::run(argc, argv); });
}
