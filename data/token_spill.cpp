#include "data/token_spill.h"

#include <algorithm>
#include <utility>

namespace ballast::data {
namespace {

constexpr int64_t kCopyElements = int64_t{1} << 20, kDocumentsAtOnce = int64_t{1} << 16;

}  // namespace

void TokenSpill::append_tokens(std::span<const uint32_t> ids) {
    if (dtype_ == Dtype::u16) {
        narrow_.assign(ids.begin(), ids.end());
        tokens_.append(narrow_.data(), narrow_.size() * sizeof(uint16_t));
    } else {
        tokens_.append(ids.data(), ids.size_bytes());
    }
    num_tokens_ += static_cast<int64_t>(ids.size());
}

void TokenSpill::end_document(SpilledDocument document) {
    document.end = last_end_ = num_tokens_;
    documents_.append(&document, sizeof document);
    ++num_documents_;
}

void TokenSpill::for_each(const Visit& visit) const {
    std::vector<SpilledDocument> some;
    for (int64_t first = 0, begin = 0; first < num_documents_; first += kDocumentsAtOnce) {
        some.resize(static_cast<size_t>(std::min(kDocumentsAtOnce, num_documents_ - first)));
        documents_.read(first * static_cast<int64_t>(sizeof(SpilledDocument)), some.data(),
                        some.size() * sizeof(SpilledDocument));
        for (size_t i = 0; i < some.size(); ++i) {
            visit(first + static_cast<int64_t>(i), begin, some[i]);
            begin = some[i].end;
        }
    }
}

void TokenSpill::read_tokens(int64_t first, int64_t count, void* out) const {
    const auto size = static_cast<int64_t>(size_of(dtype_));
    tokens_.read(first * size, out, static_cast<size_t>(count * size));
}

SpillSelection::SpillSelection(const TokenSpill& spill, Takes takes, int64_t begin, int64_t end)
    : spill_(spill), takes_(std::move(takes)), begin_(begin), end_(end) {
    for_each([this](int64_t, int64_t tokens, const SpilledDocument&) {
        num_tokens_ += tokens;
        ++num_documents_;
    });
}

void SpillSelection::for_each(const std::function<void(int64_t, int64_t, const SpilledDocument&)>& visit) const {
    int64_t taken = 0;  // tokens of the documents before, end to end
    spill_.for_each([&](int64_t number, int64_t first, const SpilledDocument& document) {
        if (!takes_(number, document)) return;
        const int64_t length = document.end - first;
        const int64_t from = std::clamp<int64_t>(begin_ - taken, 0, length);
        const int64_t to = std::clamp<int64_t>(end_ - taken, 0, length);
        taken += length;
        if (from < to) visit(first + from, to - from, document);
    });
}

void SpillSelection::for_each_end(const std::function<void(std::span<const int64_t>)>& visit) const {
    std::vector<int64_t> ends;
    int64_t end = 0;
    for_each([&](int64_t, int64_t tokens, const SpilledDocument&) {
        ends.push_back(end += tokens);
        if (std::ssize(ends) < kDocumentsAtOnce) return;
        visit(ends);
        ends.clear();
    });
    if (!ends.empty()) visit(ends);
}

void SpillSelection::copy_tokens(const std::function<void(const void*, int64_t)>& append) const {
    std::vector<std::byte> block(static_cast<size_t>(kCopyElements) * size_of(dtype()));
    int64_t begin = 0, end = 0;  // of documents that stand together
    const auto copy = [&] {
        for (; begin < end;) {
            const int64_t count = std::min(kCopyElements, end - begin);
            spill_.read_tokens(begin, count, block.data());
            append(block.data(), count);
            begin += count;
        }
    };
    for_each([&](int64_t first, int64_t tokens, const SpilledDocument&) {
        if (first != end) {
            copy();
            begin = first;
        }
        end = first + tokens;
    });
    copy();
}

}  // namespace ballast::data
