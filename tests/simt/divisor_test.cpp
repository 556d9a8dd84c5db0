// Division by a number known to the host, as kernels do it.
#include "base/philox.h"
#include "kernels/cuda/common.cuh"
#include "tests/catch.h"

using namespace ballast;
using cuda::Divisor;

namespace {

/// Ends of ranges, powers of two and their neighbours, small and random numbers, all below 2^31.
std::vector<uint32_t> interesting_numbers() {
    std::vector<uint32_t> out{INT32_MAX, INT32_MAX - 1, 641, 1000, 12288, 50304};
    for (uint32_t n = 1; n < 200; ++n) out.push_back(n);
    for (uint32_t power = 256; power <= 1u << 30; power *= 2) out.insert(out.end(), {power - 1, power, power + 1});
    const Philox generator(7, "numbers");
    for (uint64_t i = 0; i < 300; ++i)
        out.push_back(1 + static_cast<uint32_t>(generator.uniform(i) * (INT32_MAX - 1)) / (1u << i % 24));
    return out;
}

}  // namespace

TEST_CASE("divisor: quotient and remainder are those of a division") {
    const std::vector<uint32_t> numbers = interesting_numbers();
    for (const uint32_t d : numbers) {
        const Divisor divisor(d);
        const auto is_right = [&](uint32_t n) {
            const Divisor::Parts parts = divisor.divide(n);
            return parts.quotient == n / d && parts.remainder == n % d;
        };
        bool right = divisor.value() == d && is_right(0);
        for (const uint32_t n : numbers) {
            const uint32_t whole = n / d * d;  // where a quotient ends
            right = right && is_right(n) && is_right(whole) && (whole == 0 || is_right(whole - 1));
        }
        INFO(d);
        CHECK(right);
    }
    const Divisor one;
    CHECK(one.divide(12345).quotient == 12345);
    CHECK(one.divide(12345).remainder == 0);
}

TEST_CASE("divisor: what 31 bits do not count is refused") {
    CHECK_THROWS_AS(Divisor(0), InternalError);
    CHECK_THROWS_AS(Divisor(-1), InternalError);
    CHECK_THROWS_AS(Divisor(int64_t{1} << 31), InternalError);
    CHECK_THROWS_AS(cuda::units_of(int64_t{1} << 31), InternalError);
    CHECK(cuda::units_of(INT32_MAX) == INT32_MAX);
}
