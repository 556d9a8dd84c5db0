// Recordings: a CUDA graph on a GPU, its stand-in on the executor, plain calls on the CPU.
#include "kernels/recording.h"

#include "tests/kernels/support.h"

using namespace ballast;
using namespace ballast::test;

TEST_CASE("recording: every run reads what memory holds at that time") {
    Context context(test_device(), 1);
    const int64_t count = 1000;
    DeviceBuffer memory = context.allocate(2 * static_cast<size_t>(count) * sizeof(float));
    const Tensor input(memory.data(), Dtype::f32, {count});
    const Tensor total(static_cast<float*>(memory.data()) + count, Dtype::f32, {count});
    const HostBuffer in(context.device(), static_cast<size_t>(count) * sizeof(float));
    const HostBuffer out(context.device(), static_cast<size_t>(count) * sizeof(float));
    int calls = 0;
    Recording recording(context, [&] {
        ++calls;
        context.queue_copy_from_host(input, in.as<float>());
        ops::add(context, total, total, input, Tensor{});
        context.queue_copy_to_host(out.as<float>(), total);
    });
    double expected = 0;
    for (int run = 1; run <= 5; ++run) {
        std::ranges::fill(in.as<float>(), static_cast<float>(run));
        recording.run();
        context.synchronise();
        expected += run;
        for (float x : out.as<float>()) REQUIRE(static_cast<double>(x) == expected);
    }
    CHECK(calls == (context.device() == Device::cpu ? 5 : 2));  // as it is, then to be recorded
}

TEST_CASE("recording: made anew when the scratch memory has moved") {
    Context context(test_device(), 1);
    DeviceBuffer memory = context.allocate(sizeof(double) + 4000);
    const Tensor total(memory.data(), Dtype::f64, {1});
    const Tensor x(static_cast<char*>(memory.data()) + sizeof(double), Dtype::f32, {1000});
    const std::vector<float> ones(1000, 1.0f);
    context.copy_from_host(x, ones.data());
    Recording recording(context, [&] { ops::sum(context, total, x); });  // its partial sums are scratch memory
    for (int run = 0; run < 6; ++run) {
        if (run == 3) context.scratch().reserve(context.scratch().capacity() + (size_t{1} << 20));
        context.zero(total);
        recording.run();
        double sum = 0;
        context.copy_to_host(&sum, total);
        REQUIRE(sum == 1000.0);
    }
}

TEST_CASE("recording: what a graph cannot do is refused, and nothing stays open") {
    Context context(test_device(), 1);
    if (context.device() == Device::cpu) return;
    DeviceBuffer memory = context.allocate(sizeof(float));
    const Tensor x(memory.data(), Dtype::f32, {1});
    float value = 0;
    Recording reading(context, [&] { context.copy_to_host(&value, x); });
    reading.run();
    CHECK_THROWS(reading.run());
    Recording allocating(context, [&] { context.allocate(1 << 20); });
    allocating.run();
    CHECK_THROWS(allocating.run());
    context.copy_to_host(&value, x);  // outside of a recording it still works
    CHECK(value == 0.0f);
}

TEST_CASE("recording: a second queue's work is part of it from where it waits to where it is waited for") {
    Context context(test_device(), 1);
    const auto second = context.second_queue();
    DeviceBuffer memory = context.allocate(3 * 1000 * sizeof(float));
    const auto part = [&](int i) { return Tensor(static_cast<float*>(memory.data()) + i * 1000, Dtype::f32, {1000}); };
    const Tensor x = part(0), y = part(1), z = part(2);
    const std::vector<float> ones(1000, 1.0f);
    context.copy_from_host(x, ones.data());
    Recording recording(context, [&] {
        ops::add(context, y, y, x, Tensor{});
        second->queue_wait_for(context);
        ops::add(*second, z, z, y, Tensor{});
        context.queue_wait_for(*second);
        ops::add(context, y, y, z, Tensor{});
    });
    double expected_y = 0, expected_z = 0;
    for (int run = 0; run < 5; ++run) {
        recording.run();
        expected_y += 1;
        expected_z += expected_y;
        expected_y += expected_z;
        for (float value : context.read_floats(y)) REQUIRE(static_cast<double>(value) == expected_y);
    }
}

TEST_CASE("recording: a second queue's work that is not waited for is refused") {
    Context context(test_device(), 1);
    if (context.device() == Device::cpu) return;
    const auto second = context.second_queue();
    DeviceBuffer memory = context.allocate(sizeof(float));
    const Tensor x(memory.data(), Dtype::f32, {1});
    Recording recording(context, [&] {
        second->queue_wait_for(context);
        ops::add(*second, x, x, x, Tensor{});
    });
    recording.run();
    CHECK_THROWS(recording.run());
    if (context.device() == Device::simt) {  // a GPU does it at once, and only then
        Recording beside(context, [&] { ops::add(*second, x, x, x, Tensor{}); });
        beside.run();
        CHECK_THROWS(beside.run());
    }
    Recording other(context, [&] { ops::add(context, x, x, x, Tensor{}); });
    for (int run = 0; run < 3; ++run) CHECK_NOTHROW(other.run());
}
