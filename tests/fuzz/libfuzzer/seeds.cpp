// fuzz_seeds FOLDER: writes valid inputs to FOLDER/FORMAT/seed_0, …, and prints the name of each format.
#include <cstdio>

#include "tests/fuzz/harness.h"

int main(int argc, char** argv) {
    using namespace ballast;
    if (argc != 2) {
        std::fprintf(stderr, "usage: fuzz_seeds FOLDER\n");
        return 2;
    }
    for (const fuzz::Format& format : fuzz::all_formats()) {
        const std::filesystem::path folder = std::filesystem::path(argv[1]) / format.name;
        std::filesystem::create_directories(folder);
        const fuzz::Harness harness(format);
        for (size_t i = 0; i < harness.seeds().size(); ++i)
            test::put_bytes((folder / ("seed_" + std::to_string(i))).string(), harness.seeds()[i]);
        std::printf("%s\n", std::string(format.name).c_str());
    }
}
