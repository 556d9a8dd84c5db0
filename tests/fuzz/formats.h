// The files that Ballast reads, for fuzzing: how valid ones are made, and how the program reads them. One row each.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ballast::fuzz {

struct Format {
    std::string_view name;  // of its target, its corpus and its folder of crashes
    std::string_view file;  // the path of the input below the folder that the harness makes
    /// Writes the files that belong beside the input into `folder`, and returns valid inputs.
    std::vector<std::string> (*seeds)(const std::string& folder);
    /// Reads the input as the program does, and uses what was read. May throw UserError alone.
    void (*read)(const std::string& path);
};

std::vector<Format> data_formats();   // tokenizers, texts, tokens and their orders
std::vector<Format> model_formats();  // weights, configurations of models, MoA's files
std::vector<Format> run_formats();    // configurations, sweeps, and what is in a run's folder

/// All of them.
std::vector<Format> all_formats();

}  // namespace ballast::fuzz
