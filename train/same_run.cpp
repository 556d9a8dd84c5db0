#include "train/same_run.h"

#include <fmt/format.h>
#include <span>
#include <vector>

#include "base/build_info.h"
#include "base/error.h"
#include "base/process_state.h"
#include "base/utf8_cut.h"

namespace ballast::train {
namespace {

/// Rank 0's text on every rank.
std::string broadcast_text(Communicator& ranks, std::string text) {
    auto size = static_cast<int64_t>(text.size());
    ranks.broadcast(std::as_writable_bytes(std::span(&size, 1)));
    text.resize(static_cast<size_t>(size));
    ranks.broadcast(std::as_writable_bytes(std::span(text)));
    return text;
}

/// Every rank's text on rank 0, cut to kLongest bytes; on other ranks nothing.
std::vector<std::string> gather_texts(Communicator& ranks, const std::string& mine) {
    constexpr size_t kLongest = 1000;
    std::string sent(first_bytes(mine, kLongest));
    sent.resize(kLongest);
    std::vector<std::string> texts;
    std::vector<OutgoingBytes> out;
    std::vector<IncomingBytes> in;
    if (ranks.is_first()) {
        texts.assign(static_cast<size_t>(ranks.size()), sent);
        for (int r = 1; r < ranks.size(); ++r)
            in.push_back({r, std::as_writable_bytes(std::span(texts[static_cast<size_t>(r)]))});
    } else {
        out.push_back({0, std::as_bytes(std::span(sent))});
    }
    ranks.exchange(out, in);
    for (std::string& text : texts) text.erase(text.find_last_not_of('\0') + 1);
    return texts;
}

/// The first of the complaints, and how many more there are.
std::string summary(const std::vector<std::string>& complaints) {
    std::string first;
    int more = -1;
    for (const std::string& complaint : complaints) {
        if (complaint.empty()) continue;
        if (first.empty()) first = complaint;
        ++more;
    }
    return more > 0 ? fmt::format("{} (and {} more {})", first, more, more == 1 ? "rank" : "ranks") : first;
}

/// What ranks may each have for themselves is left out.
std::string common_config(RunConfig config) {
    const RunConfig usual;
    config.train.threads = usual.train.threads;
    config.train.log_every = usual.train.log_every;
    for (std::string* path : config.data.paths()) path->clear();  // of the files the contents count
    return to_toml(config);
}

std::string describe_config(const std::string& first, const std::string& mine) {
    const ConfigDifference line = differing_lines(first, mine).front();
    return fmt::format("has {} {} in its config and rank 0 has {}; start every rank with the same config and settings",
                       line.section, line.right, line.left);
}

}  // namespace

void require_same(Communicator& ranks, const std::string& value, const DescribeDifference& describe) {
    if (ranks.size() == 1) return;
    const std::string first = broadcast_text(ranks, value);
    std::string complaint;
    if (first != value) complaint = fmt::format("rank {} ({}) {}", ranks.rank(), host_name(), describe(first, value));
    if (!ranks.any(!complaint.empty())) return;
    throw UserError(broadcast_text(ranks, summary(gather_texts(ranks, complaint))));
}

void require_same_run(Communicator& ranks, const RunConfig& config, const std::string& tokenizer_hash,
                      const data::TokenStore& store) {
    require_same(ranks, fmt::format("{} ({})", build_info().version, build_info().commit),
                 [](const std::string& first, const std::string& mine) {
                     return fmt::format("runs Ballast {} and rank 0 {}; start the same program on every machine", mine,
                                        first);
                 });
    // Before the config, whose vocabulary follows from it.
    require_same(ranks, tokenizer_hash, [&](const std::string& first, const std::string& mine) {
        return fmt::format("has another tokenizer in {} ({}) than rank 0 ({}); give every machine the same file",
                           config.data.tokenizer, mine, first);
    });
    require_same(ranks, common_config(config), describe_config);
    require_same(ranks, store.fingerprint(), [&](const std::string& first, const std::string& mine) {
        return fmt::format("has another text in {} ({}) than rank 0 ({}); give every machine the same files",
                           store.path(), mine, first);
    });
}

void require_same_order(Communicator& ranks, const DataOrder& order) {
    require_same(ranks, order.identity(), [](const std::string&, const std::string&) {
        return std::string(
            "has another order of samples than rank 0: it found another checkpoint, or other files of data.index; give "
            "every machine the same files and the same run folder");
    });
}

}  // namespace ballast::train
