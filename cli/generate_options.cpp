#include "cli/generate_options.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "cli/commands.h"
#include "infer/span_plan.h"

namespace ballast {
namespace {

void add_sampling_options(Command command, infer::SamplingParams& s) {
    const char* group = "Sampling, in this order";
    const auto number = [&](const char* name, auto& value, const char* help) {
        command.add_option(name, value, help).capture_default_str().group(group);
    };
    number("--repetition-penalty", s.repetition_penalty, "divides positive logits of ids that were there; 1: not");
    number("--frequency-penalty", s.frequency_penalty, "subtracted for every time an id is in the answer");
    number("--presence-penalty", s.presence_penalty, "subtracted once for ids in the answer");
    number("--temperature", s.temperature, "0: always the most likely token");
    number("--top-k", s.top_k, "only the k most likely; 0: all");
    number("--top-p", s.top_p, "only the most likely that together reach p");
    number("--min-p", s.min_p, "only those at least min_p times as likely as the most likely");
    number("--seed", s.seed, "the same seed, model and prompt give the same text");
}

void add_text_arguments(Command command, GenerateOptions& o) {
    command.add_option("model", o.model, "run folder, checkpoint file or Hugging Face folder").required();
    command.add_option("prompt", o.prompt, "text to go on with; -: standard input, as long as it lasts");
    command.add_option("--prompts", o.prompts, "file with one JSON object {\"prompt\": text} a line: all as one batch");
    command.add_flag("--chat", o.chat, "a conversation: a line is a message (models with a ChatML template)");
    command.add_option("--system", o.system, "--chat: what the conversation begins with; default: the model's own");
    command.add_option("--max-tokens", o.max_tokens, "the most that an answer has").positive().capture_default_str();
    command.add_option("--stop", o.stop, "text that ends an answer, and is left out; may be given again")
        .one_value_each();
}

constexpr const char* kCacheGroup = "Cache";

/// --policy and the settings of every policy.
void add_policy_options(Command command, infer::PolicyChoice& policy) {
    command
        .add_option("--policy", policy.policy,
                    "dense: keep all; window: the last C; sink: the first s and the last C - s, for ever; moa: what a "
                    "plan says; h2o: the R last and the H that had most attention; infllm: the first s, the R last and "
                    "the B blocks between them that a query is nearest to. Default: dense, and sink for standard "
                    "input")
        .one_of(infer::policy_names())
        .group(kCacheGroup);
    const auto number = [&](const char* name, int64_t& value, const char* help) {
        return command.add_option(name, value, help).group(kCacheGroup);
    };
    number("--sinks", policy.sinks,
           "sink, infllm: positions kept at the start; default: 4, or the model's sink tokens; of infllm 64")
        .non_negative();
    number("--cache", policy.cache, "window, sink: positions C in all; default: half the trained context").positive();
    command.add_option("--plan", policy.plan, "moa: spans for every layer and head, a JSON file").group(kCacheGroup);
    number("--heavy", policy.heavy, "h2o: positions H kept by score; default: a quarter of the trained context")
        .non_negative();
    number("--recent", policy.recent, "h2o, infllm: the last positions R; default: a quarter of the trained context")
        .positive();
    number("--blocks", policy.blocks,
           "infllm: blocks B of 64 positions a query; default: a quarter of the trained context")
        .non_negative();
}

/// How much the cache holds, in which type.
void add_cache_options(Command command, GenerateOptions& o) {
    const auto number = [&](const char* name, int64_t& value, const char* help) {
        return command.add_option(name, value, help).group(kCacheGroup);
    };
    number("--max-positions", o.max_positions,
           "of the longest text, its answer included: moa's spans follow from it. Default: what the prompts need")
        .in_range(1, infer::CacheSizes::kEndless);
    add_weights_option(command, o.weights);
    command
        .add_option("--cache-dtype", o.cache_dtype,
                    "type of cached keys and values: --dtype (the default), or a narrow one under f32")
        .one_of({"f32", "bf16", "fp16"})
        .group(kCacheGroup);
    number("--max-batch", o.max_batch, "texts that are written at once").in_range(1, 4096).capture_default_str();
    number("--cache-blocks", o.cache_blocks, "64 rows of one key-value head each, all texts together; 0: enough")
        .non_negative();
    number("--prefill-chunk", o.prefill_chunk, "tokens of a prompt that are read at once")
        .in_range(1, 1 << 20)
        .capture_default_str();
}

void add_output_options(Command command, GenerateOptions& o) {
    Option file = command.add_option("--json", o.json,
                                     "file to write: prompt_ids, ids, text and logprobs, a list of them for --prompts");
    command.add_flag("--resume", o.resume,
                     "--prompts and --json: keep the answers that the file has from an earlier run of the same "
                     "command, and write the others");
    command
        .add_option("--logprobs", o.alternatives,
                    "--json: also so many most likely tokens for every one (top_logprobs)")
        .in_range(0, 1000)
        .capture_default_str()
        .needs(file);
}

}  // namespace

void GenerateOptions::add_to(Command command) {
    add_text_arguments(command, *this);
    add_sampling_options(command, sampling);
    add_policy_options(command, policy);
    add_cache_options(command, *this);
    add_output_options(command, *this);
    run.add_model_options(command);
}

void GenerateOptions::note_settings(const Command& command) {
    settings = command.settings({"--prompts", "--json", "--resume", "--max-batch", "--cache-blocks", "--threads"});
}

void GenerateOptions::check() const {
    if (chat && (!prompts.empty() || !json.empty() || is_stream()))
        throw UserError(
            "--chat reads messages from standard input and writes no file; leave out --prompts, --json and -");
    if (!chat && !system.empty()) throw UserError("--system is for --chat");
    if (!prompts.empty() && !prompt.empty())
        throw UserError("give a prompt, or a file of them with --prompts, not both");
    if (!chat && prompts.empty() && prompt.empty())
        throw UserError("there is no prompt; give one, a file of them with --prompts, or --chat");
    if (resume && (prompts.empty() || json.empty()))
        throw UserError(
            "--resume goes on with the answers in a file of --json to those prompts; give --prompts and --json");
    run.require_output(json, std::array{model, prompts, policy.plan});
    sampling.validate();
}

int64_t GenerateOptions::longest_of_plan(const model::ModelConfig& config) const {
    if (policy.plan.empty()) return 0;
    const auto range = infer::read_span_plan(policy.plan).range;
    return range ? std::min(range->longest, config.max_position_embeddings) : 0;
}

infer::CachePlan GenerateOptions::plan(const model::ModelConfig& config, int64_t longest) const {
    infer::PolicyChoice choice = policy;
    if (choice.policy.empty()) choice.policy = !choice.plan.empty() ? "moa" : is_stream() ? "sink" : "dense";
    return infer::make_plan(choice, config, longest);
}

infer::CacheOptions GenerateOptions::cache(const infer::CachePlan& chosen, const model::ModelConfig& config,
                                           int64_t longest, int64_t batch) const {
    const bool endless = chosen.bounded() && chosen.rule() == infer::PositionRule::in_cache;
    // A memory of blocks grows with the text: where its length is known, that is what there is room for.
    const bool remembers = chosen.cache(0, 0).chosen_blocks && longest < infer::CacheSizes::kEndless;
    // A length that was asked for is not cut: CacheSizes refuses one that the model cannot have.
    const bool as_told = max_positions > 0 || endless || remembers;
    infer::CacheOptions out{.max_batch = std::min(max_batch, batch), .prefill_chunk = prefill_chunk};
    out.max_positions = std::min(longest, as_told ? infer::CacheSizes::kEndless : config.max_position_embeddings);
    out.blocks = cache_blocks;
    if (!cache_dtype.empty()) out.dtype = dtype_of_option(cache_dtype);
    return out;
}

}  // namespace ballast
