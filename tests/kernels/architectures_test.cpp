#include "kernels/cuda/architectures.h"

#include "tests/catch.h"

using ballast::cuda::runs_on;

TEST_CASE("which GPUs a list of architectures covers", "[cpu]") {
    const char* shipped = "80-real,90a-real,100-real,120";
    for (const auto& [major, minor] :
         {std::pair{8, 0}, {8, 6}, {8, 9}, {9, 0}, {10, 0}, {10, 3}, {12, 0}, {12, 1}, {13, 0}}) {
        CAPTURE(major, minor);
        CHECK(runs_on(shipped, major, minor));
    }
    for (const auto& [major, minor] : {std::pair{7, 0}, {7, 5}, {11, 0}}) {
        CAPTURE(major, minor);
        CHECK_FALSE(runs_on(shipped, major, minor));
    }
    CHECK_FALSE(runs_on("86-real", 8, 0));
    CHECK_FALSE(runs_on("90a", 9, 1));
    CHECK(runs_on("80-virtual", 9, 0));
    CHECK_FALSE(runs_on("80-real", 9, 0));
    CHECK(runs_on("80", 9, 0));
    CHECK_FALSE(runs_on("", 9, 0));
    CHECK(runs_on("native", 9, 0));
}
