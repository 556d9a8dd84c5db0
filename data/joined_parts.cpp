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

constexpr const char* kFormat = "ballast-token-parts";
constexpr int64_t kFormatVersion = 1;

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

std::vector<Listed> read_index(const std::string& path, std::string& sources) {
    const nlohmann::json index = read_json_file(path);
    std::vector<Listed> listed;
    try {
        if (index.at("format") != kFormat || index.at("format_version") != kFormatVersion)
            throw UserError(fmt::format("another format than {} {}", kFormat, kFormatVersion));
        sources = index.at("sources").get<std::string>();
        for (const auto& part : index.at("parts"))
            listed.push_back({part.at("file").get<std::string>(), part.at("checksums").get<std::string>(),
                              part.at("tokens").get<int64_t>(), part.at("documents").get<int64_t>()});
        if (listed.empty()) throw UserError("no parts");
    } catch (const std::exception& error) {
        throw UserError(fmt::format("{}: not an index of token stores ({}); prepare it again", path, error.what()));
    }
    return listed;
}

}  // namespace

bool JoinedParts::is_name(const std::string& path) { return path.ends_with(".json"); }

JoinedParts::JoinedParts(const std::string& path) {
    std::string sources;
    GroupCounts groups;
    for (const Listed& listed : read_index(path, sources)) {
        const std::string file = (fs::path(path).parent_path() / listed.file).string();
        Part part{file, std::make_unique<Hdf5Tokens>(file), num_tokens_, num_documents_};
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
        for (const auto& [name, count] : part.file->info().groups) {
            groups[name].documents += count.documents;
            groups[name].tokens += count.tokens;
        }
        num_tokens_ += listed.tokens;
        num_documents_ += listed.documents;
        parts_.push_back(std::move(part));
    }
    info_.sources = sources;
    info_.groups = groups;
}

int64_t JoinedParts::document_offset(int64_t d) const {
    if (d == num_documents_) return num_tokens_;
    const auto part = std::upper_bound(parts_.begin(), parts_.end(), d,
                                       [](int64_t document, const Part& p) { return document < p.first_document; }) -
                      1;
    return part->first_token + part->file->document_offset(d - part->first_document);
}

void JoinedParts::read(int64_t first, int64_t count, int32_t* out) const {
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
    return files;
}

void JoinedParts::verify() const {
    for (const Part& part : parts_) part.file->verify();
}

void join_parts(const std::string& path, const std::vector<std::string>& parts, const std::string& sources) {
    auto list = nlohmann::ordered_json::array();
    for (const std::string& part : parts) {
        const Hdf5Tokens file(part);
        list.push_back({{"file", fs::path(part).lexically_relative(fs::path(path).parent_path()).generic_string()},
                        {"tokens", file.num_tokens()},
                        {"documents", file.num_documents()},
                        {"checksums", file.checksums()}});
    }
    write_json_file(
        path, nlohmann::ordered_json{
                  {"format", kFormat}, {"format_version", kFormatVersion}, {"sources", sources}, {"parts", list}});
}

}  // namespace ballast::data
