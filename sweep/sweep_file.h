// A sweep as its TOML file describes it (docs/formats.md):
//
//     base = "../quickstart/common.toml"          # a run's config, relative to this file
//     [set]                                       # for every cell
//     train.steps = 1000
//     [grid]                                      # every combination
//     train.seed = [1, 2]
//     [[variant]]                                 # times each of these, when several fields change together
//     name = "softmax"
//     grid.model.num_sink_tokens = [0, 1, 2, 4]   # a grid of this variant alone
//     [[variant]]
//     name = "zero_sink"
//     set.model.normaliser = "off_by_one"
//     [evaluate]
//     text = ["heldout.txt"]
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/config_toml.h"

namespace ballast::sweep {

/// A field and its values.
struct Axis {
    std::string field;                // "model.num_sink_tokens"
    std::vector<std::string> values;  // as TOML writes them
    std::string place;                // "sweep.toml:7"
};

/// Fields that change together, under a name.
struct Variant {
    std::string name;
    std::vector<ConfigOverride> set;
    std::vector<Axis> grid;
    std::string place;
};

/// The measurements to run on every trained cell.
struct EvaluateConfig {
    std::vector<std::string> text;
    int64_t cache = 0;
    int64_t max_tokens = 20000;

    void visit(FieldVisitor& v);
};

struct SweepFile {
    std::string path, base;  // of this file and of the base config
    std::vector<ConfigOverride> set;
    std::vector<Axis> grid;  // in the file's order
    std::vector<Variant> variants;
    EvaluateConfig evaluate;
};

/// Reads the file as far as is possible without the base config: the names and values of fields are checked when cells
/// are made from it. UserError that names the line.
SweepFile load_sweep_file(const std::string& path);

}  // namespace ballast::sweep
