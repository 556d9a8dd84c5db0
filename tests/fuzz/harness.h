// One input of one format, read as the program reads it. libFuzzer and the tests feed the same harness.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tests/base/temporary_folder.h"
#include "tests/fuzz/formats.h"

namespace ballast::fuzz {

class Harness {
  public:
    explicit Harness(const Format& format) : format_(format), input_(folder_.file(std::string(format.file))) {
        std::filesystem::create_directories(std::filesystem::path(input_).parent_path());
        seeds_ = format.seeds(folder_.path());
    }

    const std::vector<std::string>& seeds() const { return seeds_; }

    /// The message of the UserError that refuses the input; empty when it is read. Whatever else is thrown is a fault of
    /// the reader.
    std::string refusal(const std::string& input) const {
        test::put_bytes(input_, input);
        try {
            format_.read(input_);
            return "";
        } catch (const UserError& error) {
            return error.what();
        }
    }

  private:
    Format format_;
    test::TemporaryFolder folder_;
    std::string input_;
    std::vector<std::string> seeds_;
};

}  // namespace ballast::fuzz
