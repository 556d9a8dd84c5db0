// Times streaming evaluation as one masked pass, and in the same run plain prefill of the same tokens and the literal
// cache. Memory: the stream's buffers have the same size for any length; the process needs 4 bytes per token for its id
// and 4 for its loss.
//
//   bench_streaming --shape pythia-160m --dtype f32 --sinks 4 --window 1020 --threads 2 --json OUT.json
#include <chrono>
#include <fmt/format.h>
#include <functional>
#include <nlohmann/json.hpp>

#include "bench/measure.h"
#include "bench/program.h"
#include "infer/decoder.h"
#include "infer/masked_stream.h"
#include "kernels/backend.h"

namespace {

using namespace ballast;

struct Settings : bench::ModelSettings {
    int64_t sinks = 4, window = 1020, tokens = 8192, literal_tokens = 128;
};

double seconds_of(const std::function<void()>& run) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Losses of sequences of `length` tokens, one pass each: what a plain evaluation does.
double prefill_rate(Context& context, model::Transformer& model, std::span<const int32_t> tokens, int64_t length) {
    model::Pass pass(context, model, model::PassKind::forward, 1, length);
    const auto size = static_cast<size_t>(length);
    int64_t done = 0;
    const auto run = [&](size_t at) {
        pass.set_tokens(tokens.subspan(at, size), tokens.subspan(at + 1, size));
        pass.forward();
        context.read_floats(pass.losses());
    };
    run(0);
    const double seconds = seconds_of([&] {
        for (size_t at = 0; at + size < tokens.size(); at += size, done += length) run(at);
    });
    return static_cast<double>(done) / seconds;
}

struct MaskedRun {
    double rate;          // tokens a second once the cache is full
    size_t stream_bytes;  // its buffers, which do not grow
};

MaskedRun masked_run(Context& context, model::Transformer& model, const std::vector<int32_t>& tokens,
                     const infer::CachePolicy& policy, int64_t chunk) {
    infer::MaskedStream stream(context, model, policy, chunk);
    std::vector<float> losses;
    const std::span<const int32_t> all(tokens);
    const auto full = static_cast<size_t>(2 * chunk);
    stream.feed(all.first(full), all.subspan(1, full), losses);
    const size_t rest = (all.size() - 1 - full) / static_cast<size_t>(chunk) * static_cast<size_t>(chunk);
    const double seconds =
        seconds_of([&] { stream.feed(all.subspan(full, rest), all.subspan(full + 1, rest), losses); });
    return {static_cast<double>(rest) / seconds, stream.memory_bytes()};
}

/// Tokens a second of the literal cache, one token at a time, once it is full.
double literal_rate(Context& context, model::Transformer& model, const std::vector<int32_t>& tokens,
                    const infer::CachePolicy& policy, int64_t count) {
    infer::Decoder decoder(context, model, policy, static_cast<int64_t>(tokens.size()));
    const auto full = static_cast<size_t>(policy.capacity());
    decoder.feed(std::span(tokens).first(full));
    const double seconds = seconds_of([&] {
        for (size_t i = full; i < full + static_cast<size_t>(count); ++i) {
            decoder.feed({&tokens[i], 1});
            decoder.loss(tokens[i + 1]);
        }
    });
    return static_cast<double>(count) / seconds;
}

nlohmann::ordered_json measure(const Settings& s) {
    Context context(device_of_backend(s.backend), s.threads);
    train::RunConfig config = bench::config_of(s);
    const infer::CachePolicy policy = infer::CachePolicy::sink(s.sinks, s.window);
    const int64_t length = policy.capacity();
    config.model.max_position_embeddings = std::max(config.model.max_position_embeddings, length);
    const auto loaded = bench::make_model(context, s, config.model);
    model::Transformer& model = *loaded;
    const auto tokens = bench::random_tokens(std::max(s.tokens, 4 * length) + 1, config.model.vocab_size);

    const size_t beginning = std::min(tokens.size(), static_cast<size_t>(8 * length) + 1);
    const double prefill = prefill_rate(context, model, std::span(tokens).first(beginning), length);
    const auto [masked, stream_bytes] = masked_run(context, model, tokens, policy, length);
    const double literal = literal_rate(context, model, tokens, policy, s.literal_tokens);
    return {{"shape", s.name()},
            {"dtype", s.dtype},
            {"device", bench::device_description(context)},
            {"threads", context.pool().num_threads()},
            {"tokens", tokens.size() - 1},
            {"cache", fmt::format("{}+{}", s.sinks, s.window)},
            {"prefill_tokens_per_s", prefill},
            {"masked_tokens_per_s", masked},
            {"literal_tokens_per_s", literal},
            {"masked_share_of_prefill", masked / prefill},
            {"masked_over_literal", masked / literal},
            {"stream_bytes", stream_bytes},
            {"peak_bytes", bench::peak_host_bytes()}};
}

}  // namespace

int main(int argc, char** argv) {
    Settings s;
    CLI::App app("Times streaming evaluation beside plain prefill", "bench_streaming");
    s.add_to(app);
    app.add_option("--sinks", s.sinks, "positions always kept")->check(CLI::NonNegativeNumber);
    app.add_option("--window", s.window, "recent positions kept")->check(CLI::PositiveNumber);
    app.add_option("--tokens", s.tokens, "length of the stream, at least four caches");
    app.add_option("--literal-tokens", s.literal_tokens, "tokens the literal cache is timed over");
    return bench::run_benchmark(app, argc, argv, [&] { return bench::report(s.json, [&] { return measure(s); }); });
}
