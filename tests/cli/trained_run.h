// A run that was trained, and texts that it writes.
#pragma once

#include <fmt/format.h>

#include "tests/cli/program.h"

namespace ballast::test {

/// A run of 12 steps, whose model was trained on 32 positions.
struct TrainedRun : TinyRun {
    TrainedRun() { succeed(train("run")); }

    /// `generate RUN MORE --json` and what it wrote.
    nlohmann::json generate(const std::string& more) const {
        succeed(fmt::format("generate {} {} --json {} --threads 2", file("run"), more, file("out.json")));
        return json("out.json");
    }
};

}  // namespace ballast::test
