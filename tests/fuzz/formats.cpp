#include "tests/fuzz/formats.h"

namespace ballast::fuzz {

std::vector<Format> all_formats() {
    std::vector<Format> all;
    for (const auto& some : {data_formats(), model_formats(), run_formats()})
        all.insert(all.end(), some.begin(), some.end());
    return all;
}

}  // namespace ballast::fuzz
