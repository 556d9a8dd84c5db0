// A sweep file and its base config in a folder of their own. No data: nothing here trains.
#pragma once

#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/error.h"
#include "sweep/cells.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"

namespace ballast::test {

struct SweepFixture {
    TemporaryFolder folder;

    SweepFixture() {
        write_file(folder / "base.toml",
                   "[model]\nvocab_size = 384\nhidden_size = 32\nnum_layers = 2\nnum_heads = 2\n"
                   "max_position_embeddings = 32\n[data]\ntrain = \"t.h5\"\ntokenizer = \"t.json\"\n"
                   "[train]\nsequence_length = 32\nglobal_batch = 4\nsteps = 12\n");
    }

    /// `text` after the base line, so the first line of it is line 2.
    std::string path(const std::string& text) const {
        write_file(folder / "sweep.toml", "base = \"base.toml\"\n" + text);
        return folder / "sweep.toml";
    }
    std::vector<sweep::Cell> expand(const std::string& text, const std::vector<std::string>& settings = {}) const {
        return sweep::expand(sweep::load_sweep_file(path(text)), settings);
    }
    std::vector<std::string> names(const std::string& text) const {
        std::vector<std::string> out;
        for (const sweep::Cell& cell : expand(text)) out.push_back(cell.name);
        return out;
    }
    /// The complaint about `text`, without the folder; empty when there is none.
    std::string complaint(const std::string& text, const std::vector<std::string>& settings = {}) const {
        try {
            expand(text, settings);
            return "";
        } catch (const UserError& error) {
            return error.what();
        }
    }
};

}  // namespace ballast::test
