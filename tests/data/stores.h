// Small token stores, and orders of them.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "base/hdf5_file.h"
#include "data/sample_order.h"
#include "data/token_store.h"
#include "tests/base/temporary_folder.h"

namespace ballast::test {

/// A store of these documents, one after another.
inline std::string write_store(const std::string& path, const data::TokenStoreInfo& info,
                               const std::vector<std::vector<uint16_t>>& documents) {
    std::vector<int64_t> offsets = {0};
    std::vector<uint16_t> tokens;
    for (const auto& document : documents) {
        tokens.insert(tokens.end(), document.begin(), document.end());
        offsets.push_back(static_cast<int64_t>(tokens.size()));
    }
    Hdf5Writer file(path);
    data::write_info(file, info);
    const int64_t num_tokens[] = {offsets.back()}, num_offsets[] = {static_cast<int64_t>(offsets.size())};
    file.write(data::kTokensDataset, Dtype::u16, num_tokens, tokens.data());
    file.write(data::kOffsetsDataset, Dtype::i64, num_offsets, offsets.data());
    file.commit();
    return path;
}

inline std::vector<int32_t> all_tokens(const data::TokenStore& store) {
    std::vector<int32_t> out(static_cast<size_t>(store.num_tokens()));
    store.read(0, store.num_tokens(), out.data());
    return out;
}

/// Documents of these lengths, whose token i is i modulo 60000 counted over all of them.
inline std::vector<std::vector<uint16_t>> counting_documents(const std::vector<int64_t>& lengths) {
    std::vector<std::vector<uint16_t>> documents;
    int64_t i = 0;
    for (int64_t length : lengths)
        for (auto& document = documents.emplace_back(); static_cast<int64_t>(document.size()) < length; ++i)
            document.push_back(static_cast<uint16_t>(i % 60000));
    return documents;
}

inline std::string make_store(const TemporaryFolder& folder, const std::vector<int64_t>& lengths) {
    return write_store(folder.file("tokens.h5"), {"hash", 60000, -1, ""}, counting_documents(lengths));
}

inline std::vector<int64_t> random_lengths(uint32_t seed, size_t documents, uint32_t longest) {
    std::mt19937 random(seed);
    std::vector<int64_t> lengths(documents);
    for (int64_t& length : lengths) length = random() % 7 == 0 ? 0 : 1 + random() % longest;
    lengths[0] = std::max<int64_t>(lengths[0], 1);
    return lengths;
}

/// The order that GPT-NeoX makes for so many samples.
inline data::SampleOrder neox_order(const data::TokenStore& store, int64_t seq_length, uint32_t seed, int64_t samples,
                                    data::FirstToken first_token = data::FirstToken::none) {
    return data::make_sample_order(
        store, {.seq_length = seq_length, .seed = seed, .samples = samples, .first_token = first_token});
}

}  // namespace ballast::test
