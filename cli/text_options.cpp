#include "cli/text_options.h"

#include <fmt/format.h>

#include "base/atomic_file.h"
#include "cli/commands.h"
#include "data/corpus.h"
#include "data/tokenizer.h"
#include "kernels/backend.h"

namespace ballast {

CLI::Option* TextOptions::add_to(CLI::App* command) {
    CLI::Option* files = command->add_option("--text", text, "text files (UTF-8), read as one stream");
    command->add_option("--tokenizer", tokenizer, "tokenizer.json or tokenizer.model; default: the one beside the model");
    command->add_option("--max-tokens", max_tokens, "use only the first tokens of the text; 0: all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    add_dtype_option(command, dtype, kComputeDtypeHelp);
    command->add_option("--gemm", gemm, "reference: our fixed-order matrix products, the same bits on every processor")
        ->check(CLI::IsMember({"auto", "reference"}))
        ->capture_default_str();
    add_backend_option(command, backend);
    command->add_option("--threads", threads, "0: every core")->check(CLI::NonNegativeNumber);
    return files;
}

Context TextOptions::make_context() const {
    return Context(device_of_backend(backend), static_cast<int>(threads),
                   gemm == "reference" ? Gemm::reference : Gemm::automatic);
}

void TextOptions::require_output(const std::string& output, std::span<const std::string> models) const {
    if (output.empty()) return;
    std::vector<std::string> inputs = text;
    inputs.push_back(tokenizer);
    inputs.insert(inputs.end(), models.begin(), models.end());
    require_not_an_input(output, inputs);
    require_writable(output);
}

std::vector<uint32_t> TextOptions::read(const train::ModelSource& model) const {
    const std::string path = !tokenizer.empty() ? tokenizer : model.tokenizer_path;
    if (path.empty())
        throw UserError(fmt::format("{} has no tokenizer.json beside it; name one with --tokenizer", model.source));
    const data::Tokenizer encoding = data::Tokenizer::load(path);
    if (!model.tokenizer_hash.empty() && model.tokenizer_hash != encoding.hash())
        throw UserError(fmt::format("{} was trained with another tokenizer than {}; name its own with --tokenizer",
                                    model.source, path));
    data::Corpus corpus(text, {.last_cut = [&](std::string_view piece) { return encoding.last_safe_cut(piece); }});
    data::Encoder encoder(encoding);
    std::vector<uint32_t> tokens;
    const auto enough = [&] { return max_tokens > 0 && static_cast<int64_t>(tokens.size()) >= max_tokens; };
    for (data::TextPiece piece; !enough() && corpus.next(piece);) {
        try {
            encoder.encode(piece.text, tokens, {.continues = !piece.begins_document, .first_offset = piece.offset});
        } catch (const UserError& error) {
            throw UserError(fmt::format("{}: {}", piece.source, error.what()));
        }
    }
    if (enough()) tokens.resize(static_cast<size_t>(max_tokens));
    if (tokens.empty())
        throw UserError(fmt::format("{} is empty; there is nothing to evaluate", fmt::join(text, ", ")));
    return tokens;
}

}  // namespace ballast
