// --backend's names, and which of several GPUs a process takes.
#include "kernels/backend.h"

#include "base/error.h"
#include "kernels/cuda/runtime.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"

using namespace ballast;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("backend: a GPU's name may say which of several, and others are told what there is", "[cpu]") {
    for (const char* name : {"auto", "cpu", "cuda", "simt", "cuda:0", "cuda:12", "simt:0"})
        CHECK(backend_error(name) == "");
    for (const char* name : {"", "gpu", "cpu:0", "auto:1", "cuda:", "cuda:-1", "cuda:x", "cuda:1x", "cuda:1:2", "CUDA",
                             "cuda:99999999999", ":1"}) {
        CAPTURE(name);
        CHECK_THAT(backend_error(name), ContainsSubstring("auto, cpu, cuda and simt"));
    }
    CHECK(device_of_backend("cpu") == Device::cpu);
    CHECK(device_of_backend("cuda") == Device::cuda);  // whether it is there is Context's to say
    CHECK(device_of_backend("simt:0") == Device::simt);
}

TEST_CASE("backend: ranks of a machine take its GPUs in turn, and a number that none has is refused", "[cpu]") {
    for (int rank = 0; rank < 9; ++rank) CHECK(gpu_of_rank(rank, 4) == rank % 4);
    CHECK(gpu_of_rank(3, 1) == 0);
    const Device built = cuda::built_device();
    if (built == Device::cpu || cuda::num_devices() == 0) return;
    const std::string beyond = std::string(name_of(built)) + ":" + std::to_string(cuda::num_devices());
    CHECK_THAT(test::message_of([&] { device_of_backend(beyond); }), ContainsSubstring("--backend " + beyond));
    CHECK_THAT(test::message_of([&] { device_of_backend(beyond); }), ContainsSubstring("CUDA_VISIBLE_DEVICES"));
    CHECK(device_of_backend(name_of(built), 5) == built);  // takes turns, so there is one
}
