// A store's borders between documents, as a list.
#pragma once

#include <vector>

#include "data/token_store.h"

namespace ballast::test {

inline std::vector<int64_t> offsets_of(const data::TokenStore& store) {
    std::vector<int64_t> offsets;
    for (int64_t d = 0; d <= store.num_documents(); ++d) offsets.push_back(store.document_offset(d));
    return offsets;
}

}  // namespace ballast::test
