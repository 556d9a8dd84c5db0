// The text that items are made of.
#include "moa/calibrate.h"

#include <fmt/format.h>

#include <set>

#include "tests/base/message_of.h"
#include "tests/catch.h"

using namespace ballast;
using namespace ballast::moa;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

/// Documents of these sizes in which no token comes twice.
Documents documents_of(const std::vector<int64_t>& sizes) {
    Documents out;
    uint32_t next = 0;
    for (const int64_t size : sizes)
        for (auto& document = out.emplace_back(); std::ssize(document) < size;) document.push_back(next++);
    return out;
}

std::set<uint32_t> tokens_of(const Documents& documents) {
    std::set<uint32_t> out;
    for (const auto& document : documents) out.insert(document.begin(), document.end());
    return out;
}

}  // namespace

TEST_CASE("moa calibrate: text that is held out is in no other item, and is enough for its own") {
    constexpr int64_t kLength = 30, kCount = 4, kLongest = 20;
    for (const auto& sizes : std::vector<std::vector<int64_t>>{
             {140}, {1000}, {10, 500, 10}, {70, 70}, {40, 40, 40, 40, 40}, {30, 29, 30, 31, 5, 30, 30}}) {
        CAPTURE(sizes);
        Documents rest = documents_of(sizes);
        const std::set<uint32_t> all = tokens_of(rest);
        const Documents held = hold_out(rest, kLength, kCount, kLongest);
        const auto left = std::ssize(tokens_of(rest)), taken = std::ssize(tokens_of(held));
        CHECK(left + taken == std::ssize(all));  // so no token is in both
        for (const auto& document : held) CHECK(std::ssize(document) >= kLength);
        CHECK(taken > (kCount - 1) * kLength);
        CHECK(taken <= kCount * kLength);
    }
}

TEST_CASE("moa calibrate: a text that is too short to hold anything out of it is refused with the length it needs") {
    const auto refusal = [](const std::vector<int64_t>& sizes, int64_t longest = 20) {
        Documents documents = documents_of(sizes);
        return message_of([&] { hold_out(documents, 30, 4, longest); });
    };
    CHECK(refusal({140}).empty());
    for (const auto& sizes : std::vector<std::vector<int64_t>>{{139}, {29, 29, 29, 29, 29, 29}, {120, 19}, {}}) {
        CAPTURE(sizes);
        CHECK_THAT(refusal(sizes), ContainsSubstring("take 140 tokens, in one document or in several of at least 30") &&
                                       ContainsSubstring("--validation-count"));
    }
    CHECK_THAT(refusal({120, 39}, 40), ContainsSubstring("take 160 tokens") && ContainsSubstring("at least 40"));
    CHECK(refusal({40, 40, 40, 40}, 40).empty());
}
