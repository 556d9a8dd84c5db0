// simt_conformance OUT                  writes what every wrapper of kernels/simt gives on this device
// simt_conformance --small OUT          the same without Hopper's groups, quick enough for compute-sanitizer
// simt_conformance --groups             the names of the groups of records
// simt_conformance --group NAME OUT     goes on with OUT: one group's records, less those that OUT has or that ended
// the
//                                       program; so a loop gets past a trap
// simt_conformance --compare A B…       A beside all of B; exit code 0: they agree; 3: they do not, or B lacks records
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <string>

#include "tests/simt/conformance/conformance.h"

namespace {

using namespace ballast::test;

int compare_files(const char* expected, char** got, int count) {
    Records a, b;
    a.read(expected);
    for (int i = 0; i < count; ++i) b.read(got[i]);
    return compare(a, b) == 0 ? 0 : 3;
}

/// Records the groups that `wanted` picks and the device has; `left_out` is why others than sm_80's are not wanted.
int record(const std::string& path, const std::string& left_out, const std::function<bool(const Group&)>& wanted) {
    Recorder recorder(path);
    try {
        for (const Group& group : kGroups) {
            if (!wanted(group)) continue;
            recorder.begin_group(group.name);
            const std::string obstacle = !group.hopper ? "" : left_out.empty() ? why_not_hopper() : left_out;
            if (obstacle.empty())
                group.record(recorder);
            else
                recorder.skip(obstacle);
        }
    } catch (const std::exception& error) {
        std::fprintf(stderr, "simt_conformance: %s: %s\n", recorder.running().c_str(), error.what());
        return 1;
    }
    std::printf("%zu records in %s\n", recorder.written(), path.c_str());
    return 0;
}

int run(int argc, char** argv) {
    const std::string first = argc > 1 ? argv[1] : "";
    if (argc == 2 && first == "--groups") {
        for (const Group& group : kGroups) std::printf("%s\n", group.name);
        return 0;
    }
    if (argc >= 4 && first == "--compare") return compare_files(argv[2], argv + 3, argc - 3);
    if (argc == 4 && first == "--group") {
        const std::string name = argv[2];
        for (const Group& group : kGroups)
            if (name == group.name) return record(argv[3], "", [&](const Group& g) { return name == g.name; });
        std::fprintf(stderr, "simt_conformance: no group %s; --groups lists them\n", name.c_str());
        return 2;
    }
    const bool small = first == "--small";
    if (argc != (small ? 3 : 2) || (!small && first.starts_with('-'))) {
        std::fprintf(stderr,
                     "usage: simt_conformance [--small] OUT | --groups | --group NAME OUT | --compare A B...\n");
        return 2;
    }
    std::filesystem::remove(argv[argc - 1]);
    return record(argv[argc - 1], small ? "asked to" : "", [](const Group&) { return true; });
}

}  // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "simt_conformance: %s\n", error.what());
        return 1;
    }
}
