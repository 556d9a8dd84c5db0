// ballast data info, and its sister commands
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/columns.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/data_commands.h"

namespace ballast {
namespace {

struct InfoArguments {
    std::string path, tokenizer;
    bool verify = false;
};

/// Published sets are said to have end-of-text tokens and do not all (EleutherAI/pythia #123, #175).
void print_end_of_text(const data::TokenStore& store, const data::Tokenizer& tokenizer) {
    const auto id = tokenizer.end_of_text_id();
    if (!id) return;
    constexpr int64_t kBlock = 1 << 16;
    std::vector<int32_t> block(kBlock);
    int64_t found = 0;
    for (int64_t first = 0; first < store.num_tokens(); first += kBlock) {
        const int64_t count = std::min(kBlock, store.num_tokens() - first);
        store.read(first, count, block.data());
        found += std::count(block.begin(), block.begin() + count, static_cast<int32_t>(*id));
    }
    fmt::print("end of text     id {} occurs {} times\n", *id, found);
    if (found == 0)
        log_warning(
            fmt::format("{} has no end-of-text token, so nothing tells a model where documents end", store.path()));
}

void info(const InfoArguments& arguments) {
    data::TokenStore store(arguments.path);
    const bool is_megatron = store.tokenizer_hash().empty();  // which does not say what made it
    fmt::print("tokens          {} ({})\n", store.num_tokens(), name_of(store.dtype()));
    fmt::print("documents       {}\n", store.num_documents());
    if (store.documents_left_out() > 0)
        fmt::print("left out        {} documents in the parts, as duplicates\n", store.documents_left_out());
    if (!arguments.tokenizer.empty()) print_end_of_text(store, open_tokenizer(arguments.tokenizer, store));
    if (is_megatron) {
        if (arguments.verify) store.verify();
        if (arguments.verify) fmt::print("verified        every token is below {}\n", store.vocab_size());
        return;
    }
    fmt::print("vocabulary      {} ids\n", store.vocab_size());
    fmt::print("tokenizer hash  {}\n", store.tokenizer_hash());
    const int64_t end_of_text = store.info().end_of_text_id;
    fmt::print("end of text     {}\n",
               end_of_text < 0 ? "not appended" : fmt::format("id {} after each document", end_of_text));
    if (const int64_t begin = store.info().begin_of_text_id; begin >= 0 && begin != end_of_text)
        fmt::print("begin of text   id {}, for data.first_token\n", begin);
    std::string_view label = "sources";
    for (std::string_view rest = store.info().sources; !rest.empty(); label = "") {
        const size_t end = std::min(rest.find('\n'), rest.size());
        fmt::print("{:<15} {}\n", label, rest.substr(0, end));
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    print_groups(store);
    if (!arguments.verify) return;
    store.verify();
    fmt::print("verified        checksums match, every token is in the vocabulary\n");
}

void add_store_info_command(Command parent) {
    auto arguments = std::make_shared<InfoArguments>();
    Command command = parent.add_subcommand("info", "Say what is in a token store");
    command.add_option("file", arguments->path, "Token store: .h5, parts' .json, or Megatron's and GPT-NeoX's .idx")
        .required();
    command.add_option("-t,--tokenizer", arguments->tokenizer, "tokenizer.json: also counts its end-of-text tokens");
    command.add_flag("--verify", arguments->verify, "Read everything and check it");
    command.footer("Example: ballast data info train.h5 --verify");
    command.callback([arguments] { info(*arguments); });
}

}  // namespace

void print_groups(const data::TokenStore& store) {
    const data::GroupCounts& groups = store.info().groups;
    if (groups.empty()) return;
    std::vector<std::vector<std::string>> lines{{"group", "documents", "tokens", "share"}};
    data::GroupCount rest{store.num_documents(), store.num_tokens()};
    const auto add = [&](const std::string& name, const data::GroupCount& count) {
        const double share = static_cast<double>(count.tokens) / static_cast<double>(store.num_tokens());
        lines.push_back(
            {name, fmt::format("{}", count.documents), fmt::format("{}", count.tokens), fmt::format("{:.4f}", share)});
        rest.documents -= count.documents;
        rest.tokens -= count.tokens;
    };
    for (const auto& [name, count] : groups) add(name, count);
    if (rest.documents > 0) add("(none)", data::GroupCount(rest));
    fmt::print("{}", align_columns(lines));
}

data::Tokenizer open_tokenizer(const std::string& path, data::TokenStore& store) {
    auto tokenizer = data::Tokenizer::load(path);
    if (store.tokenizer_hash().empty())
        store.assume_tokenizer(tokenizer);
    else if (tokenizer.hash() != store.tokenizer_hash())
        throw UserError(fmt::format("{} was made with another tokenizer than {} (hashes {} and {})", store.path(), path,
                                    store.tokenizer_hash(), tokenizer.hash()));
    return tokenizer;
}

void add_data_command(Command app) {
    Command data = app.add_subcommand("data", "Make, inspect and show token stores");
    data.require_subcommand();
    add_prepare_command(data);
    add_store_info_command(data);
    add_show_command(data);
    data.footer("Example: ballast data prepare -t tokenizer.json -o train.h5 books/");
}

}  // namespace ballast
