// Orders of samples as GPT-NeoX writes them down, made here.
#pragma once

#include <algorithm>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "data/mt19937.h"

namespace ballast::test {

/// What numpy.save() writes: format 1.0, the header padded so that 64 divides where the elements begin.
template <class T>
std::string npy_bytes(const std::string& descr, const std::string& shape, const std::vector<T>& elements) {
    std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }";
    header.resize(117, ' ');
    return std::string("\x93NUMPY\x01\x00v\x00", 10) + header + "\n" +
           std::string(reinterpret_cast<const char*>(elements.data()), elements.size() * sizeof(T));
}

/// GPT-NeoX's three arrays, walked token by token as its helpers.cpp does.
struct Triplet {
    std::vector<int32_t> documents, windows;
    std::vector<uint32_t> samples;

    Triplet(const std::vector<int64_t>& lengths, int64_t epochs, int64_t seq_length, uint32_t seed) {
        data::NumpyRandomState random(seed);
        for (int64_t e = 0; e < epochs; ++e)
            for (size_t d = 0; d < lengths.size(); ++d) documents.push_back(static_cast<int32_t>(d));
        random.shuffle(std::span(documents));
        const int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
        samples.resize(static_cast<size_t>((epochs * tokens - 1) / seq_length));
        std::iota(samples.begin(), samples.end(), 0u);
        random.shuffle(std::span(samples));
        int64_t visit = 0, offset = 0;
        windows = {0, 0};
        while (windows.size() < 2 * samples.size() + 2) {
            for (int64_t left = seq_length; left > 0;) {  // to the token that this window ends with
                const int64_t length = lengths[static_cast<size_t>(documents[static_cast<size_t>(visit)])];
                const int64_t step = std::min(left, length - offset);
                left -= step;
                offset += step;
                while (offset == lengths[static_cast<size_t>(documents[static_cast<size_t>(visit)])]) {
                    ++visit;
                    offset = 0;
                }
            }
            windows.insert(windows.end(), {static_cast<int32_t>(visit), static_cast<int32_t>(offset)});
        }
    }

    std::string shape_of(size_t n, bool pairs = false) const {
        return pairs ? "(" + std::to_string(n / 2) + ", 2)" : "(" + std::to_string(n) + ",)";
    }
    std::string document_bytes() const { return npy_bytes("<i4", shape_of(documents.size()), documents); }
    std::string window_bytes() const { return npy_bytes("<i4", shape_of(windows.size(), true), windows); }
    std::string sample_bytes() const { return npy_bytes("<u4", shape_of(samples.size()), samples); }
    void write(const std::string& name) const {
        write_file(name + "_doc_idx.npy", document_bytes());
        write_file(name + "_sample_idx.npy", window_bytes());
        write_file(name + "_shuffle_idx.npy", sample_bytes());
    }
};

}  // namespace ballast::test
