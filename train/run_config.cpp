#include "train/run_config.h"

#include <array>
#include <filesystem>
#include <fmt/format.h>

#include "base/error.h"
#include "data/sampler.h"
#include "data/utf8.h"

namespace ballast::train {
namespace {

constexpr std::array<std::string_view, 3> kScheduleNames{"pythia", "corrected", "neox"};
constexpr std::array<std::string_view, 2> kGemmNames{"auto", "reference"};
constexpr std::array<std::string_view, 2> kReductionDtypeNames{name_of(Dtype::f32), name_of(Dtype::bf16)};
constexpr std::array<std::string_view, 3> kRecomputeNames{"none", "attention", "full"};
constexpr double kLargestCount = 1e15;

/// What is no UTF-8 could be written into config.toml and checkpoints, but never be read again.
class Utf8Check : public FieldVisitor {
  public:
    void section(std::string_view name, std::string_view) override { section_ = name; }

  protected:
    void on_field(const Field& field) override {
        const auto* text = std::get_if<std::string*>(&field.value);
        if (text == nullptr) return;
        if (const size_t good = data::valid_utf8_prefix(**text); good < (*text)->size())
            throw UserError(fmt::format("{}.{} is not valid UTF-8 from byte {} on (\"{}…\"), and a run's files are; {}",
                                        section_, field.name, good, (*text)->substr(0, good),
                                        section_ == "data" ? "rename the file or its folder" : "write it in UTF-8"));
    }

  private:
    std::string section_;
};

}  // namespace

void RunConfig::visit(FieldVisitor& v) {
    model.visit(v);

    v.section("data", "Where the text is");
    v.field("train", data.train,
            "token store to train on (ballast data prepare, or Megatron's and GPT-NeoX's .bin/.idx)");
    v.field("validation", data.validation, "token store held out from training; empty: no validation");
    v.field("tokenizer", data.tokenizer, "tokenizer.json the stores were made with");
    v.field("document_mask", data.document_mask,
            "attention never reaches from one document into an earlier one of the same sample");
    v.field("order", data.order, data::kOrderNames,
            "of the samples: neox and mcore shuffle documents and windows as GPT-NeoX and Megatron-Core; stable shuffles "
            "windows of the text, sample i the same for any batch and number of steps; npy reads what either wrote "
            "(data.index); preshuffled reads a store of samples in its own order (EleutherAI's pile-*-preshuffled)");
    v.field("index", data.index, "for order = \"npy\": NAME of NAME_doc_idx.npy, NAME_sample_idx.npy, NAME_shuffle_idx.npy");
    v.field(
        "first_token", data.first_token, data::kFirstTokenNames,
        "where the tokenizer's begin-of-text token is put: as first input of every_window, before every_document, or "
        "none (the text as it is)");

    v.section("train", "The loop");
    v.field("sequence_length", train.sequence_length, "positions of a sample, sink tokens included",
            {.min = 2, .max = 1 << 30});
    v.field("global_batch", train.global_batch, "samples an update", {.min = 1, .max = 1 << 30});
    v.field("micro_batch", train.micro_batch,
            "samples a pass, gradients are accumulated over passes; 0: the most that makes at most 8192 positions",
            {.min = 0, .max = 1 << 30});
    v.field("steps", train.steps, "updates", {.min = 1, .max = kLargestCount});
    v.field("seed", train.seed, "of the initial weights", {.min = 0});
    v.field("data_seed", train.data_seed, "of the sample order", {.min = 0, .max = 4294967295.0});
    v.field("dtype", train.dtype, kComputeDtypeNames,
            "compute type; master weights, moments and gradients are f32; fp16 on a GPU only, see [fp16]");
    v.field("gemm", train.gemm, kGemmNames,
            "reference: the same bits on every processor, f32 15 % slower, bf16 in f32");
    v.field(
        "recompute", train.recompute, kRecomputeNames,
        "activations computed again in the backward pass instead of kept, same bits: attention saves a quarter of a "
        "layer's for an eighth more work, full all but its input for a sixth");
    v.field("reduction_lanes", train.reduction_lanes,
            "gradients are added up in so many lanes, and these in a fixed tree: the same bits for any number of ranks "
            "up to "
            "that; 1: one lane a rank",
            {.min = 1, .max = 4096});
    v.field(
        "reduction_dtype", train.reduction_dtype, kReductionDtypeNames,
        "bf16: sums of gradients are rounded to it wherever lanes or ranks are added up, and half as many bytes are "
        "sent; the same bits for any number of ranks too");
    v.field("zero", train.zero, "1: each rank keeps its share of AdamW's moments; same bits (ZeRO stage 1)",
            {.min = 0, .max = 1});
    v.field("overlap", train.overlap,
            "ranks reduce gradients while the backward pass still runs, on a thread of their own; same bits without");
    v.field("reduce_bucket_size", train.reduce_bucket_size,
            "gradients that ranks reduce at once, at least, in elements; same bits with any",
            {.min = 1, .max = kLargestCount});
    v.field("cuda_graph", train.cuda_graph, "on a GPU, launch an update as one graph; same bits without, slower");
    v.field("threads", train.threads, "0: every core available", {.min = 0, .max = 4096});
    v.field("log_every", train.log_every, "steps between printed lines (metrics.jsonl gets every step)", {.min = 1});

    v.field("hang_timeout_seconds", train.hang_timeout_seconds,
            "a run that makes no progress for so long, its start and its end included, is ended, naming the rank that "
            "hangs and where; 3 times as long where it saves, loads or waits for a GPU's update, twice where its start "
            "or end may be waiting for a rank; 0: never",
            {.min = 0, .max = 1e6});

    v.field("spike_action", train.spike_action, kSpikeActionNames,
            "when a batch's loss or gradient norm jumps: skip leaves its update out; rollback goes back to the newest "
            "checkpoint and on with the batch after it; none updates whatever is finite");
    v.field("spike_zscore", train.spike_zscore,
            "a jump is further above the mean of the last updates than so many of their standard deviations",
            {.min = 0.1, .max = 1e6});
    v.field("spike_window", train.spike_window,
            "updates that mean and deviation are taken over; the first half only fills it", {.min = 4, .max = 1 << 20});

    v.section("optimizer", "AdamW and its learning rate");
    v.field("schedule", optimizer.schedule, kScheduleNames,
            "pythia: as published; corrected: gpt-neox since August 2023; neox: today's");
    v.field("learning_rate", optimizer.learning_rate, "largest rate", {.min = 0, .max = 10});
    v.field("min_learning_rate", optimizer.min_learning_rate, "rate at the end", {.min = 0, .max = 10});
    v.field("warmup", optimizer.warmup, "share of the steps with a rising rate", {.min = 0, .max = 1});
    v.field("beta1", optimizer.beta1, "decay of the first moment", {.min = 0, .max = 0.999999});
    v.field("beta2", optimizer.beta2, "decay of the second moment", {.min = 0, .max = 0.999999});
    v.field("eps", optimizer.eps, "added to the root of the second moment", {.min = 0, .max = 1});
    v.field("weight_decay", optimizer.weight_decay, "of matrices and embeddings; norms and biases do not decay",
            {.min = 0, .max = 100});
    v.field("clip_norm", optimizer.clip_norm, "largest L2 norm of all gradients; 0: no clipping", {.min = 0});

    v.section("fp16", "Dynamic loss scaling, for train.dtype = \"fp16\" (GPT-NeoX's names)");
    v.field("initial_scale_power", fp16.initial_scale_power, "the loss is first multiplied by 2 to this power",
            {.min = 0, .max = 100});
    v.field("loss_scale_window", fp16.loss_scale_window, "updates without an overflow until the scale doubles",
            {.min = 1, .max = kLargestCount});
    v.field("hysteresis", fp16.hysteresis, "overflows within a window until the scale halves", {.min = 1, .max = 1e6});
    v.field("min_loss_scale", fp16.min_loss_scale, "smallest scale; an overflow there ends the run",
            {.min = 1e-6, .max = 1e30});

    v.section("checkpoint", "What is kept");
    v.field("every", checkpoint.every, "steps between checkpoints; 0: only the last", {.min = 0});
    v.field("log_spaced", checkpoint.log_spaced, "also steps 0, 1, 2, 4 … 512");
    v.field("keep_last", checkpoint.keep_last, "unprotected checkpoints to keep; 0: all", {.min = 0});
    v.field("protect_every", checkpoint.protect_every,
            "multiples of this are never removed, nor log-spaced ones, also after a resume that changes it; 0: none",
            {.min = 0});
    v.field("background", checkpoint.background,
            "training goes on while a copy of the state is written, which takes 12 bytes a parameter of the host's "
            "memory; false: it waits");

    v.section("validation", "Loss on held-out text");
    v.field("every", validation.every, "steps between validations; 0: only at the end", {.min = 0});
    v.field("batches", validation.batches, "passes of one micro batch each", {.min = 1});

    v.section("sample", "Generated text, to look at");
    v.field("every", sample.every, "steps between samples; 0: none", {.min = 0});
    v.field("tokens", sample.tokens, "tokens to generate", {.min = 1, .max = 1 << 20});
    v.field("prompt", sample.prompt, "text to continue");
    v.field("temperature", sample.temperature, "0: always the most likely token", {.min = 0, .max = 100});
}

RunConfig RunConfig::load(const std::string& path, const std::vector<std::string>& settings) {
    return load_with(path, parse_overrides(settings));
}

RunConfig RunConfig::load_with(const std::string& path, std::span<const ConfigOverride> overrides) {
    RunConfig config;
    load_toml(config, path, overrides);
    for (std::string* file : config.data.paths())
        if (!file->empty()) *file = std::filesystem::absolute(*file).lexically_normal().string();
    return config;
}

void RunConfig::validate() const {
    model.validate();
    Utf8Check utf8;
    RunConfig(*this).visit(utf8);
    data::count_samples(train.steps, train.global_batch, train.sequence_length);
    if (train.micro_batch > 0 && train.global_batch % train.micro_batch != 0)
        throw UserError(fmt::format("train.global_batch = {} is not a multiple of train.micro_batch = {}",
                                    train.global_batch, train.micro_batch));
    if (train.sequence_length > model.max_position_embeddings)
        throw UserError(fmt::format(
            "train.sequence_length = {} is longer than model.max_position_embeddings = {}; raise the latter",
            train.sequence_length, model.max_position_embeddings));
    if (model.num_sink_tokens >= train.sequence_length)
        throw UserError(fmt::format("model.num_sink_tokens = {} leaves no room in train.sequence_length = {}",
                                    model.num_sink_tokens, train.sequence_length));
    if (data.document_mask && data.order == data::OrderKind::preshuffled)
        throw UserError(
            "data.document_mask needs to know where documents begin, and a preshuffled store does not say; set it "
            "to false");
    if ((data.order == data::OrderKind::npy) == data.index.empty())
        throw UserError(
            "data.order = \"npy\" and data.index, the name of the three files, need each other; set both or neither");
    if (model.num_sink_tokens > 0 && data.first_token == data::FirstToken::every_window)
        throw UserError(
            "data.first_token = \"every_window\" and model.num_sink_tokens > 0 both put a token before every sample; "
            "choose "
            "one of them");
    if (optimizer.min_learning_rate > optimizer.learning_rate)
        throw UserError(fmt::format("optimizer.min_learning_rate = {} is above optimizer.learning_rate = {}",
                                    optimizer.min_learning_rate, optimizer.learning_rate));
    if (fp16.min_loss_scale > fp16.initial_scale())
        throw UserError(
            fmt::format("fp16.min_loss_scale = {} is above the first scale, 2 to the fp16.initial_scale_power = {}",
                        fp16.min_loss_scale, fp16.initial_scale_power));
    for (const auto& [name, value] : {std::pair{"data.train", &data.train}, {"data.tokenizer", &data.tokenizer}})
        if (value->empty())
            throw UserError(
                fmt::format("{} is not set; name the file in the config or with --set {}=PATH", name, name));
}

Schedule RunConfig::schedule() const {
    return {optimizer.schedule, optimizer.learning_rate, optimizer.min_learning_rate,
            optimizer.warmup * static_cast<double>(train.steps), train.steps};
}

int64_t RunConfig::samples_per_pass() const {
    constexpr int64_t kPositions = 8192;
    if (train.micro_batch > 0) return train.micro_batch;
    int64_t best = 1;
    for (int64_t b = 1; b * train.reduction_lanes <= train.global_batch && b * train.sequence_length <= kPositions; ++b)
        if (train.global_batch % b == 0) best = b;
    return best;
}

}  // namespace ballast::train
