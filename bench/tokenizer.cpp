// Times encoding on the same text: one thread, all threads, and everything up to a token store; also prints the rate at
// which this machine reads memory.
//
//   bench_tokenizer --tokenizer tokenizer.json --text books --threads 2 --json OUT.json
//
// scripts/tokenizers_baseline.py times the `tokenizers` package on the same files.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

#include "bench/measure.h"
#include "bench/program.h"
#include "data/prepare.h"
#include "data/tokenizer.h"

namespace {

using namespace ballast;
namespace fs = std::filesystem;

struct Settings {
    std::string tokenizer, text, json;
    int threads = 0, runs = 3;
};

std::vector<std::string> texts_of(const std::string& path) {
    std::vector<fs::path> files;
    if (fs::is_directory(path)) {
        for (const auto& entry : fs::recursive_directory_iterator(path))
            if (entry.path().extension() == ".txt") files.push_back(entry.path());
    } else {
        files.emplace_back(path);
    }
    std::sort(files.begin(), files.end());
    std::vector<std::string> texts;
    for (const fs::path& file : files) {
        std::ifstream in(file, std::ios::binary);
        if (!in) throw UserError(fmt::format("{}: cannot be read", file.string()));
        texts.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    }
    if (texts.empty()) throw UserError(fmt::format("{}: no .txt files there", path));
    return texts;
}

double least_seconds(int runs, const std::function<void()>& run) {
    double least = std::numeric_limits<double>::infinity();
    for (int i = 0; i < runs; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        run();
        least = std::min(least, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    return least;
}

/// Every text by `threads` threads, cut into pieces where that changes no id. A run's encoders begin with empty caches.
int64_t encode_all(const data::Tokenizer& tokenizer, const std::vector<std::string>& texts, ThreadPool& pool) {
    constexpr size_t kPiece = size_t{1} << 20;
    std::vector<std::string_view> pieces;
    for (const std::string& text : texts)
        for (std::string_view rest = text; !rest.empty();) {
            size_t size = rest.size();
            if (size > kPiece)
                if (const size_t cut = tokenizer.last_safe_cut(rest.substr(0, kPiece)); cut > 0) size = cut;
            pieces.push_back(rest.substr(0, size));
            rest.remove_prefix(size);
        }
    std::atomic<int64_t> tokens{0}, next{0};
    pool.parallel_for(pool.num_threads(), [&](int64_t) {
        data::Encoder encoder(tokenizer, data::InvalidUtf8::replace);
        std::vector<uint32_t> ids;
        for (int64_t i = next++; i < static_cast<int64_t>(pieces.size()); i = next++) {
            ids.clear();
            encoder.encode(pieces[static_cast<size_t>(i)], ids);
            tokens += static_cast<int64_t>(ids.size());
        }
    });
    return tokens;
}

nlohmann::ordered_json measure(const Settings& s) {
    const auto tokenizer = data::Tokenizer::load(s.tokenizer);
    const std::vector<std::string> texts = texts_of(s.text);
    double bytes = 0;
    for (const std::string& text : texts) bytes += static_cast<double>(text.size());
    ThreadPool one(1), all(s.threads);
    int64_t tokens = 0;
    const double single = least_seconds(s.runs, [&] { tokens = encode_all(tokenizer, texts, one); });
    const double together = least_seconds(s.runs, [&] { tokens = encode_all(tokenizer, texts, all); });

    const fs::path store = fs::temp_directory_path() / fmt::format("bench_tokenizer.{}.h5", ::getpid());
    data::PrepareOptions options;
    options.inputs = {s.text};
    options.output = store.string();
    options.invalid_utf8 = data::InvalidUtf8::replace;
    const double prepared = least_seconds(s.runs, [&] { data::prepare(tokenizer, options, all); });
    fs::remove(store);

    Context context(Device::cpu, 1);
    const double memory = bench::MemoryLimit(context, false).bytes_per_second();
    return {{"bytes", bytes},
            {"tokens", tokens},
            {"threads", all.num_threads()},
            {"one_thread_mb_per_s", bytes / single * 1e-6},
            {"all_threads_mb_per_s", bytes / together * 1e-6},
            {"speed_up", single / together},
            {"store_mb_per_s", bytes / prepared * 1e-6},
            {"store_share_of_encoding", together / prepared},
            {"memory_mb_per_s", memory * 1e-6}};
}

}  // namespace

int main(int argc, char** argv) {
    Settings s;
    CLI::App app("Times encoding of text on one thread, on all, and into a token store", "bench_tokenizer");
    app.add_option("--tokenizer", s.tokenizer, "tokenizer.json")->required()->check(CLI::ExistingFile);
    app.add_option("--text", s.text, "a file, or a folder of .txt files")->required()->check(CLI::ExistingPath);
    app.add_option("--threads", s.threads, "0: all");
    app.add_option("--runs", s.runs, "the best of so many counts")->check(CLI::Range(1, 1000));
    app.add_option("--json", s.json, "write the figures there");
    return bench::run_benchmark(app, argc, argv, [&] { return bench::report(s.json, [&] { return measure(s); }); });
}
