// Folders of input files for tests of shared preparation and of joined parts.
#pragma once

#include "data/shared_prepare.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <functional>
#include <map>
#include <random>

#include "base/error.h"
#include "base/file_lock.h"
#include "base/thread_pool.h"
#include "data/joined_parts.h"
#include "data/sampler.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/data/fixtures.h"
#include "tests/data/offsets_of.h"
#include "tests/data/stores.h"

namespace ballast::data {

namespace fs = std::filesystem;
using Catch::Matchers::ContainsSubstring;
using test::all_tokens, test::bytes_of, test::put_bytes;

inline std::string json_lines(uint32_t seed, int documents) {
    std::mt19937 random(seed);
    std::string text;
    for (int d = 0; d < documents; ++d) {
        text += "{\"text\": \"";
        for (size_t words = random() % 40; words > 0; --words) text += "whale " + std::to_string(random() % 100) + " ";
        text += "\"}\n";
    }
    return text;
}

/// Files of different sizes, two of them without text, and an empty folder for the output.
struct Workplace {
    test::TemporaryFolder input, output;
    Tokenizer tokenizer = Tokenizer::load(test::fixture_path("tokenizer.json"));
    PrepareOptions options;

    Workplace() {
        for (int i = 0; i < 6; ++i)
            put_bytes(input.file(std::to_string(i) + ".jsonl"),
                      json_lines(static_cast<uint32_t>(i), i == 2 ? 0 : 9 * i));
        options.inputs = {input.path()};
        options.output = output.file("pile.json");
    }
    std::string part(int i) const { return output.file("pile.parts/0000" + std::to_string(i) + ".h5"); }
    PrepareResult shared(int threads = 1) const {
        ThreadPool pool(threads);
        return prepare_shared(tokenizer, options, pool);
    }
    TokenStore alone() const {
        ThreadPool pool(1);
        PrepareOptions one = options;
        one.output = output.file("pile.h5");
        prepare(tokenizer, one, pool);
        return TokenStore(one.output);
    }
    std::string message() const {
        return test::message_of([&] { TokenStore(options.output).verify(); });
    }
};

/// A process of its own that prepares, and ends as `_exit` says.
template <class Work>
inline pid_t start(const Work& work) {
    const pid_t child = ::fork();
    if (child == 0) {
        try {
            work();
        } catch (...) {
            ::_exit(3);
        }
        ::_exit(0);
    }
    return child;
}

inline int wait_for(pid_t child) {
    int status = 0;
    ::waitpid(child, &status, 0);
    return status;
}

/// Files whose documents come again in themselves and in the others, of groups, some of them held out.
struct Repeats {
    static constexpr int kFiles = 4;
    test::TemporaryFolder input, output;
    Tokenizer tokenizer = Tokenizer::load(test::fixture_path("tokenizer.json"));
    PrepareOptions options;

    Repeats() {
        std::mt19937 random(11);
        for (const std::string& path : inputs()) {
            std::string lines;
            for (int left = 30 + 20 * static_cast<int>(options.inputs.size()); left > 0; --left) {
                const unsigned text = random() % 90;
                lines += "{\"text\": \"whale" + std::string(text % 7, 'x') + " " + std::to_string(text) +
                         "\", \"meta\": {\"pile_set_name\": \"" + std::string(1, "ABC"[random() % 3]) + "\"}}\n";
            }
            put_bytes(path, lines);
            options.inputs.push_back(path);
        }
        options.output = output.file("pile.json");
        options.validation_output = output.file("val.json");
        options.validation_fraction = 0.3;
        options.validation_by = ValidationBy::hash;
        options.drop_duplicates = true;
    }
    std::vector<std::string> inputs() const {
        std::vector<std::string> paths;
        for (int i = 0; i < kFiles; ++i) paths.push_back(input.file(std::to_string(i) + ".jsonl"));
        return paths;
    }
    std::string part(int i) const { return output.file("pile.parts/0000" + std::to_string(i) + ".h5"); }
    /// Duplicates, and the documents among which they were looked for.
    std::pair<int64_t, int64_t> shared(const PrepareOptions& how) const {
        ThreadPool pool(1);
        const PrepareResult result = prepare_shared(tokenizer, how, pool);
        return {result.num_duplicates, result.num_searched};
    }
    PrepareResult alone() const {
        ThreadPool pool(1);
        PrepareOptions one = options;
        one.output = output.file("train.h5");
        one.validation_output = output.file("val.h5");
        return prepare(tokenizer, one, pool);
    }
    /// The joined stores hold what one process put into train.h5 and val.h5.
    void compare() const {
        for (const auto& [json, h5] : {std::pair{options.output, "train.h5"}, {options.validation_output, "val.h5"}}) {
            const TokenStore joined(json), whole(output.file(h5));
            joined.verify();
            CHECK(joined.num_documents() > 10);
            CHECK(all_tokens(joined) == all_tokens(whole));
            CHECK(test::offsets_of(joined) == test::offsets_of(whole));
            CHECK(joined.info().groups == whole.info().groups);
            CHECK(whole.info().groups.size() == 3);
        }
    }
    /// Every file of the result.
    std::map<std::string, std::string> bytes() const {
        std::map<std::string, std::string> all;
        for (const auto& entry : fs::recursive_directory_iterator(output.path()))
            if (entry.is_regular_file() && entry.path().extension() != ".lock")
                all[entry.path().string()] = bytes_of(entry.path().string());
        return all;
    }
};

}  // namespace ballast::data
