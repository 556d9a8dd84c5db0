// Profiles: what masking costs by them, their files, and plans that come out of them.
#include <csignal>
#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/hdf5_file.h"
#include "base/interrupt.h"
#include "infer/span_plan.h"
#include "moa/optimise.h"
#include "moa/picture.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/moa/made_profile.h"

using namespace ballast;
using namespace ballast::moa;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int64_t kBlock = kProfileBlock;

}  // namespace

TEST_CASE("moa profile: what a cache masks, against every pair of positions") {
    const Profile profile = made_profile();
    const LengthProfile& at = profile.lengths[0];
    for (const int64_t sinks : {0, 4, 8})
        for (int64_t cache = sinks + kBlock; cache <= 32; cache += kBlock) {
            INFO("sinks " << sinks << " cache " << cache);
            double wanted = 0;  // an entry's share of its block's influence is 1 / block^2
            const int64_t span = cache - sinks - 1;
            for (int64_t i = 0; i < 32; ++i)
                for (int64_t j = sinks; j < i - span; ++j)
                    wanted +=
                        at.absolute[static_cast<size_t>((6 * 8 + i / kBlock) * 8 + j / kBlock)] / (kBlock * kBlock);
            CHECK(masked_influence(profile, at, at.absolute, 1, 2, sinks, cache) == Approx(wanted / 3).epsilon(1e-12));
        }
}

TEST_CASE("moa optimise: heads that reach far keep most, within the density") {
    const Profile profile = made_profile();
    OptimiseOptions options;
    options.pareto.gap = 0;
    options.density = 0.5;
    options.alphas = 1;
    const auto plans = optimise(profile, options, [](const ProgramReport&) {});
    REQUIRE_FALSE(plans.empty());
    for (const PlanCandidate& candidate : plans) {
        const infer::SpanPlan& plan = candidate.plan;
        CHECK(plan.entries == 2);  // key-value heads
        CHECK(plan.shape == profile.shape);
        CHECK(plan.range == infer::LengthRange{32, 128});
        REQUIRE(plan.figures.size() == 3);
        for (const auto& figure : plan.figures) {
            CHECK(figure.density == Approx(infer::memory_density(plan, 2, figure.length)).epsilon(1e-12));
            CHECK(figure.density <= 0.5);
        }
        CHECK(plan.figures[0].loss == candidate.losses[0]);
        for (size_t k = 0; k < 2; ++k) {  // of both query heads of an entry
            const LengthProfile& at = profile.lengths[k];
            double loss = 0;
            for (int64_t l = 0; l < 2; ++l)
                for (int64_t h = 0; h < 4; ++h)
                    loss += masked_influence(profile, at, at.absolute, l, h, kBlock,
                                             infer::cache_size(plan.rule(l, h / 2), kBlock, kBlock, at.length));
            CHECK(candidate.losses[k] == Approx(loss).epsilon(1e-12));
        }
        CHECK_FALSE(plan.figures[2].loss);  // 128 was not profiled
    }
    const infer::SpanPlan& plan = plans[most_even(plans)].plan;
    const auto size = [&](int64_t l, int64_t e) { return infer::cache_size(plan.rule(l, e), kBlock, kBlock, 64); };
    for (const auto& [l, e] : {std::pair<int64_t, int64_t>{0, 0}, {0, 1}, {1, 0}}) CHECK(size(1, 1) > 2 * size(l, e));

    options.by_query_head = true;
    CHECK(optimise(profile, options, [](const ProgramReport&) {}).front().plan.entries == 4);
    options.measure = LossMeasure::signed_sum;
    const auto by_sign = optimise(profile, options, [](const ProgramReport&) {});
    CHECK(by_sign.front().losses[0] < plans.front().losses[0]);  // neighbours of other signs cancel
}

TEST_CASE("moa optimise: of several plans the most even one, and never one whose loss is not a number") {
    const double none = std::numeric_limits<double>::quiet_NaN();
    const auto chosen = [](std::vector<std::vector<double>> losses, double alike = 0) {
        std::vector<PlanCandidate> candidates(losses.size());
        for (size_t i = 0; i < losses.size(); ++i) {
            candidates[i].losses = losses[i];
            candidates[i].alike = {alike, alike};
        }
        return most_even(candidates);
    };
    CHECK(chosen({{1, 3}, {1.5, 1.5}, {4, 1}}) == 1);
    CHECK(chosen({{none, 3}, {1.5, 1.5}}) == 1);
    CHECK(chosen({{1.5, 1.5}, {1, none}}) == 0);
    // A loss that is a million times the least one, and still nothing, does not outweigh a true one.
    CHECK(chosen({{1e-12, 0.01}, {1e-6, 0.001}}, 1e-4) == 1);
    CHECK(chosen({{1e-12, 0.001}, {1e-6, 0.01}}, 1e-4) == 0);
}

TEST_CASE("moa optimise: by second-order losses where the profile has them") {
    Profile profile = with_second_order(made_profile());
    profile.lengths[0].second_order_groups[1] += 1;  // noise: more is lost with two blocks than with one
    const auto losses = [&](int64_t cache) {
        return second_order_losses(profile, profile.lengths[0], false, cache)[0];
    };
    CHECK(losses(2 * kBlock) == losses(3 * kBlock));  // who keeps less loses no less
    CHECK(losses(4 * kBlock) == Approx(influence(0.2, 0.95, 3)));
    CHECK(losses(32) == Approx(influence(0.2, 0.95, 7)));
    OptimiseOptions options;
    options.alphas = 1;
    const auto widest = [&] {
        const infer::SpanPlan plan = optimise(profile, options, [](const ProgramReport&) {}).front().plan;
        std::vector<int64_t> sizes;
        for (const auto& rule : plan.rules) sizes.push_back(infer::cache_size(rule, kBlock, kBlock, 64));
        return std::max_element(sizes.begin(), sizes.end()) - sizes.begin();
    };
    CHECK(widest() == 0);
    options.measure = LossMeasure::absolute;
    CHECK(widest() == 3);
    options.measure = LossMeasure::second_order;
    const auto refusal = [&] { return message_of([&] { optimise(profile, options, [](const ProgramReport&) {}); }); };
    options.sinks = 8;
    CHECK_THAT(refusal(), ContainsSubstring("with 4 sinks"));
    options.sinks = -1;
    profile = made_profile();
    CHECK_THAT(refusal(), ContainsSubstring("no second-order losses"));
}

TEST_CASE("moa optimise: where the profile cannot tell, the longest text decides") {
    Profile profile = with_second_order(made_profile());
    for (LengthProfile& at : profile.lengths)  // a head that sees one block besides the sinks loses, others do not
        for (size_t i = 0; i < at.second_order_groups.size(); ++i)
            at.second_order_groups[i] = static_cast<int64_t>(i) % profile.spans(at) == 0 ? 6 * 0.25 : 0;
    OptimiseOptions options;
    options.alphas = 7;
    for (const double alike : {0.001, 0.01}) {
        options.alike = alike;
        const auto plans = optimise(profile, options, [](const ProgramReport&) {});
        REQUIRE(plans.size() == 1);
        CHECK(plans[0].losses == std::vector<double>{0, 0});
        const infer::SpanPlan& plan = plans[0].plan;
        // The same share at 128 as three blocks are at 64, or more, and all the memory there is.
        for (const auto& rule : plan.rules) CHECK(infer::cache_size(rule, kBlock, kBlock, 128) > 4 * kBlock);
        CHECK(plan.figures[2].density > 0.45);
        CHECK(plan.figures[2].density <= 0.5);
    }
    {
        const InterruptGuard guard;
        const auto stop_after_the_last = [](const ProgramReport& r) { r.number == r.of ? std::raise(SIGUSR1) : 0; };
        CHECK_THROWS_AS(optimise(profile, options, stop_after_the_last), RunError);
    }
    options.longest = 64;  // profiled: nothing to decide
    CHECK(optimise(profile, options, [](const ProgramReport&) {}).front().losses == std::vector<double>{0, 0});
}

TEST_CASE("moa optimise: options are checked without a profile's values") {
    Profile profile = with_second_order(made_profile());
    for (LengthProfile& at : profile.lengths) at.sequences = at.draws = 0;
    OptimiseOptions options;
    options.alphas = 1;
    CHECK_NOTHROW(check_options(profile, options));
    CHECK(longest_text(profile, options) == 128);
    options.density = 0.1;
    CHECK_THAT(message_of([&] { check_options(profile, options); }), ContainsSubstring("out of reach"));
    options.longest = 256;
    CHECK_THAT(message_of([&] { longest_text(profile, options); }), ContainsSubstring("the model 128"));
}

TEST_CASE("moa optimise: options that mean nothing are refused") {
    Profile profile = made_profile();
    const auto refusal = [&](auto&& change) {
        OptimiseOptions options;
        options.alphas = 1;
        change(options);
        return message_of([&] { optimise(profile, options, [](const ProgramReport&) {}); });
    };
    CHECK_THAT(refusal([](auto& o) { o.density = 0; }), ContainsSubstring("a density of 0"));
    CHECK_THAT(refusal([](auto& o) { o.density = 0.1; }),
               ContainsSubstring("a density of 0.1 at length 32 is out of reach"));
    CHECK_THAT(refusal([](auto& o) { o.longest = 256; }), ContainsSubstring("the profile reaches 64, the model 128"));
    CHECK_THAT(refusal([](auto& o) { o.longest = 32; }), ContainsSubstring("the profile reaches 64"));
    CHECK_THAT(refusal([](auto& o) { o.sinks = 6; }), ContainsSubstring("block of 4"));
    CHECK_THAT(refusal([](auto& o) { o.least_share = 2; }), ContainsSubstring("2 is no share"));
    CHECK_THAT(refusal([](auto& o) { o.alike = -1; }), ContainsSubstring("-1 is no share of a loss"));
    profile.lengths[1].sequences = 0;
    CHECK_THAT(refusal([](auto&) {}), ContainsSubstring("no sequence of 64 positions"));
}

TEST_CASE("moa profile: files come back as they were, damaged and foreign ones are refused") {
    const TemporaryFolder folder;
    const Profile profile = made_profile();
    write_profile(folder / "profile.h5", profile);
    CHECK(read_profile(folder / "profile.h5") == profile);
    write_profile(folder / "draws.h5", with_second_order(profile));
    CHECK(read_profile(folder / "draws.h5") == with_second_order(profile));

    write_file(folder / "text.h5", "no HDF5");
    CHECK_THAT(message_of([&] { read_profile(folder / "text.h5"); }), ContainsSubstring("text.h5"));
    {
        Hdf5Writer other(folder / "other.h5");
        other.set_attribute("kind", "something");
        other.commit();
    }
    CHECK_THAT(message_of([&] { read_profile(folder / "other.h5"); }), ContainsSubstring("not a profile"));
    {
        Profile old = profile;
        old.settings = {};
        write_profile(folder / "old.h5", old);  // without the attributes, as before there were any
        CHECK_FALSE(Hdf5Reader(folder / "old.h5").has_attribute("dtype"));
        CHECK(read_profile(folder / "old.h5") == old);
    }
    Profile lies = with_second_order(profile);
    lies.lengths.resize(1);
    LengthProfile& one_block = lies.lengths[0];  // in which no span is shorter than the text
    one_block.length = kBlock;
    one_block.absolute.resize(8);
    one_block.signed_sum.resize(8);
    one_block.second_order_heads.clear();
    one_block.second_order_groups.clear();
    write_profile(folder / "one_block.h5", lies);
    CHECK_THAT(message_of([&] { read_profile(folder / "one_block.h5"); }), ContainsSubstring("a length is 4"));
    lies = profile;
    lies.lengths[1].absolute[5] = std::numeric_limits<double>::quiet_NaN();
    write_profile(folder / "nan.h5", lies);
    CHECK_THAT(message_of([&] { read_profile(folder / "nan.h5"); }), ContainsSubstring("not finite"));
    lies = with_second_order(profile);
    lies.lengths[0].draws = 0;  // of which a mean would be infinite
    write_profile(folder / "undrawn.h5", lies);
    CHECK_THAT(message_of([&] { read_profile(folder / "undrawn.h5"); }), ContainsSubstring("a number of draws is 0"));
    const std::string bytes = read_file(folder / "profile.h5");
    for (size_t at = 100; at < bytes.size(); at += bytes.size() / 40) {  // a read fails or gives what was written
        std::string damaged = bytes;
        damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
        write_file(folder / "damaged.h5", damaged);
        try {
            read_profile(folder / "damaged.h5");
        } catch (const UserError&) {
        }
        write_file(folder / "cut.h5", bytes.substr(0, at));
        CHECK_FALSE(message_of([&] { read_profile(folder / "cut.h5"); }).empty());
    }
}

TEST_CASE("moa show: a bar a head") {
    infer::SpanPlan plan;
    plan.layers = 2;
    plan.entries = 2;
    plan.rules = {{0, 1}, {0, 0.5}, {128, 0}, {0, 0.25}};
    CHECK(plan_picture(plan, 1024) == "layer   0  █▄  768\nlayer   1  ▁▂  192\n");
    CHECK_THAT(density_table(plan, 1, {1024}), ContainsSubstring("480.0     0.4688  0.6250"));

    const std::string svg = plan_svg(plan, 1024);
    CHECK_THAT(svg,
               ContainsSubstring("layer 0, head 1: 512 positions, 50.0 %") && ContainsSubstring("46.9 % on average"));
    CHECK_THAT(svg,
               ContainsSubstring("fill=\"#0c245c\"><title>layer 0, head 0: 1024 positions"));  // all of it: darkest
}
