// simt_conformance OUT                     writes what every wrapper of kernels/simt gives on this device
// simt_conformance --small OUT             the same without Hopper's part, quick enough for compute-sanitizer
// simt_conformance --compare A B           exit code 0: they agree; 3: they do not
#include <cstdio>
#include <exception>
#include <string>

#include "tests/simt/conformance/conformance.h"

int main(int argc, char** argv) {
    using namespace ballast::test;
    const std::string first = argc > 1 ? argv[1] : "";
    try {
        if (argc == 4 && first == "--compare") {
            const int differing = compare(Records::read(argv[2]), Records::read(argv[3]));
            std::printf("%d records differ\n", differing);
            return differing == 0 ? 0 : 3;
        }
        const bool small = first == "--small";
        if (argc != (small ? 3 : 2) || (!small && first.starts_with('-'))) {
            std::fprintf(stderr, "usage: simt_conformance [--small] OUT | --compare A B\n");
            return 2;
        }
        Records records;
        record_types(records);
        record_warps(records);
        const std::string obstacle = small ? "asked to" : why_not_hopper();
        if (obstacle.empty()) {
            records.begin_group("sm_90a: ");
            record_hopper(records);
        } else {
            records.skip("sm_90a: ", obstacle);
        }
        records.write(argv[argc - 1]);
        std::printf("%zu records in %s\n", records.all().size(), argv[argc - 1]);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "simt_conformance: %s\n", error.what());
        return 1;
    }
}
