#include "data/joined_parts.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_file.h"

namespace ballast::data {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndexFormat = "ballast-token-parts";
constexpr int64_t kIndexVersion = 1;
constexpr int64_t kWithLeftOut = 2;  // so that a program that does not know of it refuses the index

/// What has to be the same in every part.
std::string kind_of(const TokenStoreInfo& info) {
    return fmt::format("tokenizer {} of {} ids, {} after documents", info.tokenizer_hash, info.vocab_size,
                       info.end_of_text_id);
}

/// The parts' list in the index.
struct Listed {
    std::string file, checksums;
    int64_t tokens, documents;
};

struct Index {
    std::string sources;
    std::vector<Listed> parts;
    std::string left_out, left_out_checksums;  // empty: nothing is left out
};

Index read_index(const std::string& path) {
    const nlohmann::json json = read_json_file(path);
    Index index;
    try {
        const bool leaves_out = json.contains("left_out");
        if (json.at("format") != kIndexFormat ||
            json.at("format_version") != (leaves_out ? kWithLeftOut : kIndexVersion))
            throw UserError(fmt::format("another format than {} {}", kIndexFormat, kIndexVersion));
        index.sources = json.at("sources").get<std::string>();
        for (const auto& part : json.at("parts"))
            index.parts.push_back({part.at("file").get<std::string>(), part.at("checksums").get<std::string>(),
                                   part.at("tokens").get<int64_t>(), part.at("documents").get<int64_t>()});
        if (index.parts.empty()) throw UserError("no parts");
        if (leaves_out) {
            index.left_out = json["left_out"].at("file").get<std::string>();
            index.left_out_checksums = json["left_out"].at("checksums").get<std::string>();
        }
    } catch (const std::exception& error) {
        throw UserError(fmt::format("{}: not an index of token stores ({}); prepare it again", path, error.what()));
    }
    return index;
}

void add(GroupCounts& sum, const GroupCounts& more) {
    for (const auto& [name, count] : more) {
        sum[name].documents += count.documents;
        sum[name].tokens += count.tokens;
    }
}

void subtract(GroupCounts& sum, const GroupCounts& less) {
    for (const auto& [name, count] : less) {
        sum[name].documents -= count.documents;
        sum[name].tokens -= count.tokens;
    }
    std::erase_if(sum, [](const auto& entry) { return entry.second.documents == 0; });
}

std::string relative_to(const std::string& path, const std::string& file) {
    return fs::path(file).lexically_relative(fs::path(path).parent_path()).generic_string();
}

}  // namespace

bool JoinedParts::is_name(const std::string& path) { return path.ends_with(".json"); }

JoinedParts::JoinedParts(const std::string& path) {
    const Index index = read_index(path);
    const auto in_folder = [&](const std::string& file) { return (fs::path(path).parent_path() / file).string(); };
    GroupCounts groups;
    for (const Listed& listed : index.parts) {
        const std::string file = in_folder(listed.file);
        Part part{file, std::make_unique<Hdf5Tokens>(file), part_tokens_, part_documents_};
        if (parts_.empty()) info_ = part.file->info();
        if (kind_of(part.file->info()) != kind_of(info_))
            throw UserError(fmt::format("{} ({}) does not belong to {} ({}); prepare it again", file,
                                        kind_of(part.file->info()), path, kind_of(info_)));
        if (part.file->num_tokens() != listed.tokens || part.file->num_documents() != listed.documents ||
            part.file->checksums() != listed.checksums)
            throw UserError(
                fmt::format("{} is not the part that {} was made of: {} tokens in {} documents, {}, where {} in {}, {} "
                            "was expected; remove both and prepare them again",
                            file, path, part.file->num_tokens(), part.file->num_documents(), part.file->checksums(),
                            listed.tokens, listed.documents, listed.checksums));
        add(groups, part.file->info().groups);
        part_tokens_ += listed.tokens;
        part_documents_ += listed.documents;
        parts_.push_back(std::move(part));
    }
    if (!index.left_out.empty()) {
        left_out_ = std::make_unique<LeftOut>(in_folder(index.left_out), part_documents_,
                                              [this](int64_t d) { return part_offset(d); });
        if (left_out_->checksums() != index.left_out_checksums)
            throw UserError(
                fmt::format("{} is not the list that {} was made with ({}, where {} was expected); prepare "
                            "it again",
                            left_out_->path(), path, left_out_->checksums(), index.left_out_checksums));
        subtract(groups, left_out_->groups());
    }
    info_.sources = index.sources;
    info_.groups = groups;
}

int64_t JoinedParts::document_offset(int64_t d) const {
    if (!left_out_) return part_offset(d);
    if (d == num_documents()) return num_tokens();
    const KeptRun& run = left_out_->run_of_document(d);
    return run.token + part_offset(run.part_document + d - run.document) - run.part_token;
}

void JoinedParts::read(int64_t first, int64_t count, int32_t* out) const {
    if (!left_out_) return read_parts(first, count, out);
    for (const KeptRun* run = &left_out_->run_of_token(first); count > 0; ++run) {
        const int64_t skip = first - run->token, take = std::min(count, run[1].token - first);
        read_parts(run->part_token + skip, take, out);
        out += take;
        first += take;
        count -= take;
    }
}

int64_t JoinedParts::part_offset(int64_t d) const {
    if (d == part_documents_) return part_tokens_;
    const auto part = std::upper_bound(parts_.begin(), parts_.end(), d,
                                       [](int64_t document, const Part& p) { return document < p.first_document; }) -
                      1;
    return part->first_token + part->file->document_offset(d - part->first_document);
}

void JoinedParts::read_parts(int64_t first, int64_t count, int32_t* out) const {
    auto part = std::upper_bound(parts_.begin(), parts_.end(), first,
                                 [](int64_t token, const Part& p) { return token < p.first_token; }) -
                1;
    for (; count > 0; ++part) {
        const int64_t skip = first - part->first_token, take = std::min(count, part->file->num_tokens() - skip);
        part->file->read(skip, take, out);
        out += take;
        first += take;
        count -= take;
    }
}

std::string JoinedParts::checksums() const {
    std::string all;
    for (const Part& part : parts_)
        all += fmt::format("{} {} {}\n", part.file->num_tokens(), part.file->num_documents(), part.file->checksums());
    return fmt::format("xxh3_64 of {} parts {:016x}", parts_.size(), XXH3_64bits(all.data(), all.size()));
}

std::vector<std::string> JoinedParts::other_files() const {
    std::vector<std::string> files;
    for (const Part& part : parts_) files.push_back(part.path);
    if (left_out_) files.push_back(left_out_->path());
    return files;
}

void JoinedParts::verify() const {
    for (const Part& part : parts_) part.file->verify();
    if (left_out_) left_out_->verify();
}

void join_parts(const std::string& path, const std::vector<std::string>& parts, const std::string& sources,
                const std::string& left_out) {
    nlohmann::ordered_json index{{"format", kIndexFormat},
                                 {"format_version", left_out.empty() ? kIndexVersion : kWithLeftOut},
                                 {"sources", sources},
                                 {"parts", nlohmann::ordered_json::array()}};
    int64_t tokens = 0;  // of documents that are left out the first is kept, so it is none for none alone
    for (const std::string& part : parts) {
        const Hdf5Tokens file(part);
        tokens += file.num_tokens();
        index["parts"].push_back({{"file", relative_to(path, part)},
                                  {"tokens", file.num_tokens()},
                                  {"documents", file.num_documents()},
                                  {"checksums", file.checksums()}});
    }
    if (tokens == 0)
        throw UserError(
            fmt::format("the input holds no text for {}; name other files or, where it is what is held out, "
                        "raise --validation-fraction",
                        path));
    if (!left_out.empty())
        index["left_out"] = {{"file", relative_to(path, left_out)}, {"checksums", LeftOut::checksums_of(left_out)}};
    write_json_file(path, index);
}

}  // namespace ballast::data
