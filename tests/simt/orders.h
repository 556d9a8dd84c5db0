// A kernel must give the same under every order of threads.
#pragma once

#include <functional>

#include "kernels/simt/options.h"
#include "tests/catch.h"

namespace ballast::test {

/// Runs `body` under the five orders (random with two seeds), then restores the options.
inline void for_each_order(const std::function<void()>& body) {
    using simt::Order;
    const simt::Options before = simt::options();
    const std::pair<const char*, simt::Options> orders[] = {{"forward", {.order = Order::forward}},
                                                            {"reverse", {.order = Order::reverse}},
                                                            {"run_ahead", {.order = Order::run_ahead}},
                                                            {"random, seed 1", {.order = Order::random, .seed = 1}},
                                                            {"random, seed 2", {.order = Order::random, .seed = 2}}};
    for (const auto& [name, options] : orders) {
        INFO("order " << name);
        simt::options() = options;
        body();
    }
    simt::options() = before;
}

}  // namespace ballast::test
