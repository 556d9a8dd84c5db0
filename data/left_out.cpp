#include "data/left_out.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"

namespace ballast::data {
namespace {

constexpr const char* kKeptDataset = "kept";
constexpr const char* kPartsAttribute = "parts";
constexpr const char* kLeftOutFormat = "ballast-left-out";
constexpr int64_t kColumns = 4;
static_assert(sizeof(KeptRun) == kColumns * sizeof(int64_t));

using Parts = std::vector<std::unique_ptr<Hdf5Tokens>>;

/// The same for the same documents.
std::string describe(const Parts& parts) {
    std::string all;
    for (const auto& part : parts)
        all += fmt::format("{} {} {} {}\n", part->num_tokens(), part->num_documents(), part->checksums(),
                           part->hashes_checksum());
    return fmt::format("xxh3_64 of {} parts {:016x}", parts.size(), XXH3_64bits(all.data(), all.size()));
}

void verify_all(const Hdf5Reader& file) {
    for (const std::string& name : file.names()) file.verify(name);
}

bool says_it_of(const std::string& path, const std::string& parts) {
    if (!std::filesystem::exists(path)) return false;
    try {
        const Hdf5Reader file(path);
        if (!file.has_attribute(kPartsAttribute) || file.string_attribute(kPartsAttribute) != parts) return false;
        verify_all(file);
        return true;
    } catch (const UserError&) {  // damaged: make it again
        return false;
    }
}

/// A flipped bit would not be noticed later: it makes a document another one, or one of another group.
void verify_hashes(const std::string& part) {
    const Hdf5Reader file(part);
    for (const char* name : {kHashesDataset, kDocumentGroupsDataset})
        if (file.has(name)) file.verify(name);
}

std::vector<bool> find_duplicates_of(const Parts& parts, const std::function<void()>& look) {
    int64_t count = 0;
    for (const auto& part : parts) count += part->num_documents();
    return find_duplicates(count, [&](const std::function<void(const DocumentHash&)>& visit) {
        for (const auto& part : parts) {
            look();
            for (const DocumentHash& hash : part->hashes()) visit(hash);
        }
    });
}

/// Calls visit(run) for each run of kept documents, and for the end.
void for_each_run(const Parts& parts, const std::vector<bool>& left_out,
                  const std::function<void(const KeptRun&)>& visit) {
    KeptRun at{0, 0, 0, 0};
    bool in_run = false;
    for (const auto& part : parts) {
        for (int64_t d = 0; d < part->num_documents(); ++d) {
            const bool keep = !left_out[static_cast<size_t>(at.part_document)];
            const int64_t tokens = part->document_offset(d + 1) - part->document_offset(d);
            if (keep && !in_run) visit(at);
            in_run = keep;
            at.document += keep ? 1 : 0;
            at.token += keep ? tokens : 0;
            ++at.part_document;
            at.part_token += tokens;
        }
    }
    visit(at);
}

GroupCounts count_groups(const Parts& parts, const std::vector<bool>& left_out) {
    GroupCounts counts;
    auto out = left_out.begin();
    for (const auto& part : parts) {
        const std::span<const int32_t> places = part->groups_of_documents();
        std::vector<std::string> names;
        for (const auto& [name, count] : part->info().groups) names.push_back(name);
        for (int64_t d = 0; d < part->num_documents(); ++d, ++out) {
            if (!*out || places.empty() || places[static_cast<size_t>(d)] < 0) continue;
            GroupCount& count = counts[names[static_cast<size_t>(places[static_cast<size_t>(d)])]];
            ++count.documents;
            count.tokens += part->document_offset(d + 1) - part->document_offset(d);
        }
    }
    return counts;
}

void write_runs(Hdf5Writer& file, const Parts& parts, const std::vector<bool>& left_out) {
    constexpr size_t kAtOnce = size_t{1} << 14;
    int64_t rows = 0;
    for_each_run(parts, left_out, [&](const KeptRun&) { ++rows; });
    const int64_t shape[] = {rows, kColumns};
    file.create(kKeptDataset, Dtype::i64, shape);
    std::vector<KeptRun> some;
    const auto flush = [&] {
        file.append(kKeptDataset, some.data(), std::ssize(some) * kColumns);
        some.clear();
    };
    for_each_run(parts, left_out, [&](const KeptRun& run) {
        some.push_back(run);
        if (some.size() == kAtOnce) flush();
    });
    if (!some.empty()) flush();
}

}  // namespace

LeftOut::LeftOut(const std::string& path, int64_t part_documents, const std::function<int64_t(int64_t)>& part_offset)
    : path_(path), file_(path), groups_(read_groups(file_, path)) {
    const Hdf5Dataset dataset = file_.dataset(kKeptDataset);
    if (dataset.dtype != Dtype::i64 || dataset.shape.size() != 2 || dataset.shape[0] < 1 ||
        dataset.shape[1] != kColumns)
        throw UserError(fmt::format("{}: dataset {} must be i64 [runs + 1, {}]; remove the file and prepare it again",
                                    path, kKeptDataset, kColumns));
    runs_ = {static_cast<const KeptRun*>(file_.map(kKeptDataset)), static_cast<size_t>(dataset.shape[0])};
    check_runs(part_documents, part_offset);
}

/// Runs ascend without gaps in the joined store, lie in the parts, and are as long there: whatever is read later
/// exists.
void LeftOut::check_runs(int64_t part_documents, const std::function<int64_t(int64_t)>& part_offset) const {
    const auto fail = [this](const std::string& what) {
        throw UserError(
            fmt::format("{}: {}; the file is damaged or of other parts, remove it and prepare again", path_, what));
    };
    if (runs_.front().document != 0 || runs_.front().token != 0) fail("the first run does not begin at 0");
    for (size_t i = 0; i < runs_.size(); ++i) {
        const KeptRun& run = runs_[i];
        if (run.part_document < 0 || run.part_document > part_documents ||
            part_offset(run.part_document) != run.part_token)
            fail(fmt::format("run {} is not in the parts", i));
        if (i + 1 == runs_.size()) break;
        const KeptRun& next = runs_[i + 1];
        if (next.document <= run.document) fail(fmt::format("run {} is empty", i));  // first: no difference overflows
        const int64_t documents = next.document - run.document;
        if (documents > part_documents - run.part_document || next.part_document < run.part_document + documents)
            fail(fmt::format("run {} overlaps the next one", i));
        if (next.token != run.token + part_offset(run.part_document + documents) - run.part_token)
            fail(fmt::format("run {} has another length in the parts", i));
    }
    if (runs_.back().part_document != part_documents) fail("the last run does not end with the parts");
}

const KeptRun& LeftOut::run_of_document(int64_t document) const {
    return *(std::upper_bound(runs_.begin(), runs_.end(), document,
                              [](int64_t d, const KeptRun& run) { return d < run.document; }) -
             1);
}

const KeptRun& LeftOut::run_of_token(int64_t token) const {
    return *(std::upper_bound(runs_.begin(), runs_.end(), token,
                              [](int64_t t, const KeptRun& run) { return t < run.token; }) -
             1);
}

std::string LeftOut::checksums_of(const std::string& path) {
    return fmt::format("xxh3_64 {}", Hdf5Reader(path).checksum(kKeptDataset).value_or("unknown"));
}

void LeftOut::verify() const { verify_all(file_); }

void find_left_out(const std::string& path, const std::vector<std::string>& paths, const std::function<void()>& look) {
    Parts parts;
    for (const std::string& part : paths) parts.push_back(std::make_unique<Hdf5Tokens>(part));
    const std::string made_of = describe(parts);
    if (says_it_of(path, made_of)) return;
    for (const std::string& part : paths) verify_hashes(part);
    const std::vector<bool> left_out = find_duplicates_of(parts, look);
    Hdf5Writer file(path);
    file.set_attribute("format", kLeftOutFormat);
    file.set_attribute(kPartsAttribute, made_of);
    write_groups(file, count_groups(parts, left_out));
    write_runs(file, parts, left_out);
    file.commit();
}

}  // namespace ballast::data
