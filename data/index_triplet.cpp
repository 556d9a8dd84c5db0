#include "data/index_triplet.h"

#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <vector>

#include "base/error.h"

namespace ballast::data {
namespace {

constexpr int64_t kMeasuredWindows = 1000;

using Names = std::array<std::string_view, 3>;  // documents, windows, samples
constexpr std::array<Names, 2> kNames{{{"_doc_idx.npy", "_sample_idx.npy", "_shuffle_idx.npy"},
                                       {"-document_index.npy", "-sample_index.npy", "-shuffle_index.npy"}}};

/// The path of one of the three. GPT-NeoX's names in messages where neither kind is there.
std::string path_of(std::string name, size_t which) {
    for (const Names& names : kNames)
        for (const std::string_view ending : names)
            if (name.ends_with(ending)) name.resize(name.size() - ending.size());
    for (const Names& names : kNames)
        if (const std::string path = name + std::string(names[which]); std::filesystem::exists(path)) return path;
    return name + std::string(kNames[0][which]);
}

[[noreturn]] void fail_shape(const NpyFile& file, std::string_view wanted) {
    throw UserError(fmt::format("{}: its shape is ({}), where {} was expected; the three files do not belong together",
                                file.path(), fmt::join(file.shape(), ", "), wanted));
}

[[noreturn]] void fail_element(const NpyFile& file, int64_t i, std::string_view what) {
    throw UserError(fmt::format("{}: element {} is {}, {}; the file is damaged, or of another corpus", file.path(), i,
                                file[i], what));
}

}  // namespace

IndexTriplet::IndexTriplet(const std::string& name)
    : documents_(path_of(name, 0)), windows_(path_of(name, 1)), samples_(path_of(name, 2)) {
    if (documents_.shape().size() != 1 || documents_.numel() == 0) fail_shape(documents_, "(visits)");
    if (windows_.shape().size() != 2 || windows_.shape()[1] != 2 || windows_.shape()[0] < 2)
        fail_shape(windows_, "(windows + 1, 2)");
    if (samples_.shape().size() != 1 || samples_.numel() != windows_.shape()[0] - 1)
        fail_shape(samples_, fmt::format("({})", windows_.shape()[0] - 1));
}

void IndexTriplet::check(int64_t num_documents) const {
    for (int64_t i = 0; i < documents_.numel(); ++i)
        if (documents_[i] < 0 || documents_[i] >= num_documents)
            fail_element(documents_, i, fmt::format("and the corpus has {} documents", num_documents));
    for (int64_t w = 0, last = 0; w <= num_samples(); ++w) {
        const Place place = begin_of(w);
        if (place.visit < last || place.visit >= num_visits())
            fail_element(windows_, 2 * w, fmt::format("after {} and of {} visits", last, num_visits()));
        if (place.token < 0) fail_element(windows_, 2 * w + 1, "before the document");
        last = place.visit;
    }
    std::vector<bool> seen(static_cast<size_t>(num_samples()));
    for (int64_t s = 0; s < num_samples(); ++s) {
        const int64_t window = window_of(s);
        if (window < 0 || window >= num_samples())
            fail_element(samples_, s, fmt::format("and there are {} windows", num_samples()));
        if (seen[static_cast<size_t>(window)]) fail_element(samples_, s, "as an earlier one");
        seen[static_cast<size_t>(window)] = true;
    }
}

std::string IndexTriplet::fingerprint() const {
    return fmt::format("{} samples of {} documents, xxh3_64 {:016x} {:016x} {:016x}", num_samples(), num_visits(),
                       documents_.checksum(), windows_.checksum(), samples_.checksum());
}

IndexedWindows::IndexedWindows(const TokenStore& store, const SampleOrder& order)
    : documents_(store, order.first_token), order_(order), index_(order.index) {
    index_.check(store.num_documents());
    const int64_t windows = index_.num_samples(), stride = std::max<int64_t>(1, windows / kMeasuredWindows);
    for (int64_t w = 0; w < windows; w += stride) check_window(w);
    check_window(windows - 1);
}

void IndexedWindows::check_window(int64_t window) const {
    const auto [first, skip] = index_.begin_of(window);
    const auto [last, end] = index_.begin_of(window + 1);
    const auto length = [&](int64_t visit) { return documents_.length(index_.document_of(visit)); };
    int64_t tokens = end - skip;
    for (int64_t visit = first; visit < last && tokens <= order_.seq_length; ++visit) tokens += length(visit);
    if (tokens != order_.seq_length || skip >= std::max<int64_t>(length(first), 1) || end >= length(last))
        throw UserError(fmt::format(
            "{}: window {} goes from token {} of visit {} to token {} of visit {}, which in {} are not the "
            "{} + 1 tokens of a sample; it was made for another corpus or train.sequence_length",
            index_.windows_path(), window, skip, first, end, last, documents_.store().path(), order_.seq_length));
}

void IndexedWindows::sample(int64_t index, int32_t* out, int32_t* document_starts) const {
    const int64_t window = index_.window_of(index);
    check_window(window);
    auto [visit, skip] = index_.begin_of(window);
    documents_.read_window(
        skip, order_.seq_length + 1, [&] { return index_.document_of(visit++); }, out, document_starts);
}

}  // namespace ballast::data
