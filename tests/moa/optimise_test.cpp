// Rules and the programs that choose among them: the released numbers, and every solver against trying all choices.
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <random>
#include <set>

#include "base/atomic_file.h"
#include "base/interrupt.h"
#include "moa/cbc.h"
#include "moa/lp_file.h"
#include "moa/pareto.h"
#include "moa/reach.h"
#include "tests/base/message_of.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"
#include "tests/moa/span_problem_fixture.h"

using namespace ballast;
using namespace ballast::moa;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;
using infer::SpanRule;

namespace {

const RuleGrid kReleased{.shortest = 2048, .profiled = 8192, .longest = 16384};
const std::vector<int64_t> kReleasedLengths{2048, 4096, 8192, 16384};

/// 2 layers of 3 heads and 4 rules: 4096 choices.
SpanProblem small_problem(uint32_t seed, double density, int64_t rules_per_layer = 2) {
    const std::vector<SpanRule> rules{{8, 0}, {-8, 0.5}, {0, 0.5}, {0, 1}};
    SpanProblem problem = random_problem(seed, 2, 3, rules, {32, 64}, 128, 4, density);
    problem.rules_per_layer = rules_per_layer;
    return problem;
}

/// A limit on the other length that excludes some of the choices.
Program limited(const SpanProblem& problem, double share) {
    Program program(0, 2);
    const double least = *brute_force(problem, Program(1, 2));
    double most = 0;
    for (const double loss : problem.losses[1]) most += loss;
    program.limits[1] = least + share * (most / static_cast<double>(problem.rules) - least);
    return program;
}

/// At every length.
bool beats(const SpanProblem& problem, const Choice& a, const Choice& b) {
    const auto losses = losses_of(problem, a), others = losses_of(problem, b);
    for (size_t k = 0; k < losses.size(); ++k)
        if (losses[k] > others[k]) return false;
    return true;
}

}  // namespace

TEST_CASE("moa rules: the released grids have 48 and 24 rules") {
    const auto eleven = candidate_rules(kReleased, kReleasedLengths);
    CHECK(eleven.size() == 48);
    RuleGrid six = kReleased;
    six.alphas = 6;
    CHECK(candidate_rules(six, kReleasedLengths).size() == 24);
    std::set<double> alphas;
    for (const SpanRule& rule : eleven) {
        alphas.insert(rule.alpha);
        CHECK(rule.alpha + rule.beta * 16384 <= 16384);
    }
    CHECK(alphas.count(-1024) == 1);
    CHECK(alphas.count(-2048) == 0);  // no share of the text leaves anything at 2048, so ten alphas are left
    CHECK(alphas.size() == 10);
    // MoA's uniform baseline is in it, and keeps exactly half at every length.
    CHECK(std::count(eleven.begin(), eleven.end(), SpanRule{0, 0.5}) == 1);
}

TEST_CASE("moa rules: small models have the same grid at their own scale") {
    const RuleGrid small{.shortest = 256, .profiled = 1024, .longest = 2048, .block = 8, .sinks = 8};
    auto rules = candidate_rules(small, {256, 512, 1024, 2048});
    CHECK(rules.size() == 48);
    for (SpanRule& rule : rules) rule.alpha *= 8;
    CHECK(rules == candidate_rules(kReleased, kReleasedLengths));
    RuleGrid constant = small;
    constant.betas = 1;
    for (const SpanRule& rule : candidate_rules(constant, {256, 512, 1024})) CHECK(rule.beta == 0);
    RuleGrid none = small;
    none.sinks = 2048;
    CHECK_THAT(message_of([&] { candidate_rules(none, {256}); }), ContainsSubstring("no rule keeps 2048 sinks"));
    RuleGrid fine = small;
    fine.alphas = fine.betas = 200;  // 1,000 of each would be 10^11 pairs
    CHECK_THAT(message_of([&] {
                   candidate_rules(fine, {256, 512, 1024, 2048});
               }),
               ContainsSubstring("--alphas 200 and --betas 200 give") && ContainsSubstring("at most 512"));
}

TEST_CASE("moa rules: constants are whole blocks at any lengths") {
    const RuleGrid grid{.shortest = 512, .profiled = 1024, .longest = 8192, .block = 16, .sinks = 16};
    std::set<double> alphas;
    for (const SpanRule& rule : candidate_rules(grid, {512, 1024, 8192})) {
        CHECK(std::remainder(rule.alpha, 16) == 0);
        alphas.insert(rule.alpha);
    }
    CHECK(alphas.count(-352) == 1);  // the second of -512, -358.4, …
    CHECK(alphas.size() == 10);      // the first leaves nothing at 512
    RuleGrid odd = grid;
    odd.block = 48;
    for (const SpanRule& rule : candidate_rules(odd, {512, 1024, 8192})) CHECK(std::remainder(rule.alpha, 48) == 0);
}

TEST_CASE("moa programs: the Lagrangian's bound and choice against every choice") {
    int optimal = 0, cases = 0;
    for (uint32_t seed = 0; seed < 12; ++seed)
        for (const int64_t rules_per_layer : {1, 2})
            for (const double least_share : {0.0, 0.9})
                for (const double limit : {-1.0, 0.3}) {
                    SpanProblem problem = small_problem(seed, 0.55, rules_per_layer);
                    problem.least_share = least_share;
                    if (!brute_force(problem, Program(1, 2))) continue;
                    const Program program = limit < 0 ? Program(0, 2) : limited(problem, limit);
                    INFO("seed " << seed << " rules " << rules_per_layer << " least " << least_share << " limit "
                                 << limit);
                    const auto best = brute_force(problem, program);
                    const auto [solution, multipliers, useful] = solve_lagrangian(problem, program, {.gap = 0}, {}, {});
                    ++cases;
                    if (!best) {
                        CHECK_FALSE(solution.found);
                        continue;
                    }
                    CHECK_FALSE(solution.infeasible);
                    CHECK(solution.bound <= *best * (1 + 1e-9));
                    REQUIRE(solution.found);
                    CHECK(feasible(problem, program, solution.choice));
                    CHECK(solution.value == Approx(loss_of(problem, 0, solution.choice)));
                    CHECK(solution.value >= *best * (1 - 1e-9));
                    if (solution.value <= *best * (1 + 1e-9)) ++optimal;
                }
    CHECK(cases > 50);
    CHECK(optimal > cases * 8 / 10);  // a local search need not end at the optimum, but mostly does
}

TEST_CASE("moa programs: a limit of nothing at all, or next to it, is a limit like others") {
    int cases = 0, priced = 0;
    for (uint32_t seed = 0; seed < 12; ++seed)
        for (const double limit : {0.0, 1e-30}) {
            SpanProblem problem = small_problem(seed, 0.8);
            for (size_t i = 0; i < problem.losses[1].size();
                 ++i)  // half of the rules lose nothing at the second length
                if ((i / 4 + i % 4 + seed) % 2 == 0) problem.losses[1][i] = 0;
            Program program(0, 2);
            program.limits[1] = limit;
            INFO("seed " << seed << " limit " << limit);
            const auto best = brute_force(problem, program);
            if (!best) continue;
            ++cases;
            const LagrangianResult result = solve_lagrangian(problem, program, {.gap = 0}, {}, {});
            for (const double multiplier : result.multipliers) CHECK(std::isfinite(multiplier));
            CHECK(result.solution.found);
            CHECK(result.solution.value >= *best * (1 - 1e-9));
            CHECK(result.solution.bound <= *best * (1 + 1e-9));
            if (result.multipliers.back() > 0 && result.solution.bound > 0.1 * *best) ++priced;
        }
    CHECK(cases > 20);
    CHECK(priced > 4);  // a bound that the limit's price has raised
}

TEST_CASE("moa programs: Ctrl-C ends a solver in the middle of a program") {
    const SpanProblem problem = small_problem(1, 0.55);
    const InterruptGuard guard;
    std::raise(SIGUSR1);
    CHECK_THROWS_AS(solve_lagrangian(problem, Program(0, 2), {.gap = 0}, {}, {}), RunError);
}

TEST_CASE("moa programs: a budget below every rule is named, and one that no choice keeps is found out") {
    const SpanProblem problem = small_problem(1, 0.05);
    CHECK_THAT(message_of([&] { check_budgets(problem); }),
               ContainsSubstring("a density of 0.05 at length 32") && ContainsSubstring("keeps least keeps 0.25"));
    // Each budget has a rule within it, but none keeps both.
    SpanProblem crossed = small_problem(1, 0.5);
    crossed.budgets[0].rows = {8, 32, 32, 8};
    crossed.budgets[1].rows = {64, 16, 16, 64};
    check_budgets(crossed);
    crossed.budgets[0].density = crossed.budgets[1].density = 0.3;
    CHECK_FALSE(brute_force(crossed, Program(0, 2)));
    CHECK(solve_lagrangian(crossed, Program(0, 2), {}, {}, {}).solution.infeasible);
    CHECK_THAT(message_of([&] { pareto_search(crossed, {}, [](const ProgramReport&) {}); }),
               ContainsSubstring("no choice of rules keeps every density at once"));
}

TEST_CASE("moa programs: cbc finds the optimum that trying everything finds") {
    const std::string cbc = find_cbc();
    if (cbc.empty()) {
        WARN("cbc is not installed (coinor-cbc); not tested");
        return;
    }
    for (uint32_t seed = 0; seed < 4; ++seed)
        for (const double limit : {-1.0, 0.3}) {
            const SpanProblem problem = small_problem(seed, 0.55);
            const Program program = limit < 0 ? Program(0, 2) : limited(problem, limit);
            INFO("seed " << seed << " limit " << limit);
            const auto best = brute_force(problem, program);
            REQUIRE(best);
            // Nothing known but a bound, and everything possible, so the work is all cbc's.
            LagrangianResult start;
            start.solution.bound = *best / 2;
            start.useful.assign(2, std::vector<bool>(4, true));
            const Solution cold = solve_cbc(problem, program, start, {cbc, 1e-9, 30});
            REQUIRE(cold.found);
            CHECK(cold.value == Approx(*best).epsilon(1e-6));
            CHECK(cold.bound == Approx(*best).epsilon(1e-5));
            // And from a choice and a bound, with rules left out.
            const Choice other = solve_lagrangian(problem, Program(1, 2), {.gap = 0}, {}, {}).solution.choice;
            const auto known = solve_lagrangian(problem, program, {.iterations = 20, .gap = 0}, {other}, {});
            REQUIRE(known.solution.found);
            const Solution warm = solve_cbc(problem, program, known, {cbc, 1e-9, 30});
            REQUIRE(warm.found);
            CHECK(warm.value == Approx(*best).epsilon(1e-6));
            CHECK(warm.bound <= *best * (1 + 1e-6));
        }
}

TEST_CASE("moa programs: a solver that hangs, lies or fails costs nothing that was known") {
    const TemporaryFolder folder;
    const SpanProblem problem = small_problem(2, 0.55);
    const auto known = solve_lagrangian(problem, Program(0, 2), {.iterations = 1, .gap = 0}, {}, {});
    REQUIRE(known.solution.found);
    const auto with = [&](const std::string& body, double seconds = 30) {
        // Its last argument but one is the file to write.
        write_file(folder / "solver",
                   "#!/bin/sh\nfor a; do [ \"$last\" = -solution ] && out=$a; last=$a; done\n" + body);
        std::filesystem::permissions(folder / "solver", std::filesystem::perms::owner_all);
        return solve_cbc(problem, Program(0, 2), known, {folder / "solver", 0, seconds, 0.1});
    };
    const std::string dense = solution_text(problem, Choice(6, 3));  // every head keeps everything: beyond the budget
    for (const std::string& body :
         {std::string("exit 1\n"), std::string("kill -9 $$\n"), std::string("echo nonsense > $out\n"),
          std::string("echo 'Optimal\n0 x_0_0_9 1 0' > $out\n"), "cat > $out <<END\n" + dense + "END\n",
          std::string("echo 'Infeasible - objective value 0' > $out\n")}) {
        CAPTURE(body);
        const Solution after = with(body);
        CHECK(after.found);
        CHECK(after.choice == known.solution.choice);
        CHECK(after.bound == known.solution.bound);
    }
    CHECK(with("exec sleep 60\n", 0.1).choice == known.solution.choice);
    CHECK_THROWS_AS(solve_cbc(problem, Program(0, 2), known, {folder / "absent", 0, 1}), UserError);
    {
        const char* const before = std::getenv("TMPDIR");
        const std::string kept = before == nullptr ? "" : before;
        ::setenv("TMPDIR", (folder / "nowhere").c_str(), 1);
        const std::string message = message_of([&] { with("exit 1\n"); });
        before == nullptr ? ::unsetenv("TMPDIR") : ::setenv("TMPDIR", kept.c_str(), 1);
        CHECK_THAT(message, ContainsSubstring("set TMPDIR"));
    }
    const InterruptGuard guard;
    std::raise(SIGUSR1);
    CHECK_THROWS_AS(with("exec sleep 60\n"), RunError);  // and the solver is gone with it
}

TEST_CASE("moa programs: solution files and logs of cbc are read, hostile ones too") {
    const SpanProblem problem = small_problem(2, 0.55);
    const Choice choice{0, 1, 0, 3, 3, 2};
    CHECK(read_solution(problem, solution_text(problem, choice)).choice == choice);
    CHECK(read_solution(problem, "Integer infeasible - objective value 1\n").infeasible);
    for (const char* bad : {"", "Optimal\n", "Optimal\n0 x_0_0_0 1 0\n", "Optimal\n0 x_0_0_-1 1 0\n",
                            "Optimal\n0 x_99999999999999999999_0_0 1 0\n", "Optimal\n0 x_0_0_0 nan 0\n"})
        CHECK_FALSE(read_solution(problem, bad).choice);
    const std::string twice = solution_text(problem, choice) + "99 x_0_0_1 1 0\n";
    CHECK_FALSE(read_solution(problem, twice).choice);
    CHECK(bound_in_log(
              "x\nResult - Stopped on time limit\n\nObjective value:    30.5\nLower bound:      29.250\nGap: 0\n") ==
          29.25);
    CHECK(bound_in_log("x\nResult - Optimal solution found\n\nObjective value:    30.5\n") == 30.5);
    CHECK_FALSE(bound_in_log("x\nResult - Stopped on time limit\n\nObjective value:    30.5\n"));
    CHECK_FALSE(bound_in_log(""));
}

TEST_CASE("moa reach: of choices that lose alike the one that loses least beyond, against every choice") {
    int optimal = 0, moved = 0;
    for (uint32_t seed = 0; seed < 8; ++seed) {
        INFO("seed " << seed);
        const SpanProblem problem = small_problem(seed, 0.55);
        const Solution start = solve_lagrangian(problem, Program(0, 2), {.gap = 0}, {}, {}).solution;
        REQUIRE(start.found);
        std::mt19937 random(seed);
        std::uniform_real_distribution<double> uniform(0, 1);
        Reach reach;
        for (size_t i = 0; i < problem.losses[0].size(); ++i) reach.losses.push_back(uniform(random));
        SpanProblem further = problem;
        further.losses.push_back(reach.losses);
        for (const double share : {0.0, 0.5}) {
            Program program(2, 3);
            reach.alike.clear();
            for (size_t k = 0; k < 2; ++k) {
                reach.alike.push_back(share * loss_of(problem, k, start.choice));
                program.limits[k] = loss_of(problem, k, start.choice) + reach.alike[k];
            }
            const Choice found = further_reaching(problem, reach, start.choice, 0);
            CHECK(feasible(further, program, found));
            const double before = loss_of(further, 2, start.choice), after = loss_of(further, 2, found);
            CHECK(after <= before);
            const auto best = brute_force(further, program);
            REQUIRE(best);
            CHECK(after >= *best * (1 - 1e-9));
            if (after <= *best * (1 + 1e-9)) ++optimal;
            if (after < before) ++moved;
        }
    }
    CHECK(optimal >= 8);
    CHECK(moved > 0);
}

TEST_CASE("moa search: 51 programs for three lengths, and none of the choices is dominated") {
    CHECK(count_programs(3, 4) == 51);
    CHECK(count_programs(1, 4) == 1);
    CHECK(count_programs(2, 4) == 10);
    const std::vector<SpanRule> rules = candidate_rules(
        {.shortest = 256, .profiled = 1024, .longest = 2048, .block = 32, .sinks = 32, .alphas = 6, .betas = 5},
        {256, 512, 1024, 2048});
    const SpanProblem problem = random_problem(5, 3, 4, rules, {256, 512, 1024}, 2048, 32, 0.4);
    for (const double gap : {0.01, 0.5}) {  // programs that end far from their optima give choices that others beat
        std::vector<ProgramReport> reports;
        const auto choices =
            pareto_search(problem, {.gap = gap}, [&](const ProgramReport& report) { reports.push_back(report); });
        REQUIRE(reports.size() == 51);
        CHECK(reports.back().number == 51);
        CHECK(reports.back().of == 51);
        REQUIRE_FALSE(choices.empty());
        for (const Choice& choice : choices) {
            CHECK(feasible(problem, Program(0, 3), choice));
            for (const Choice& other : choices) CHECK((&other == &choice || !beats(problem, other, choice)));
        }
        for (size_t k = 0; k < 3; ++k) {  // each length's optimum is among them, to the gap asked for
            double least = 1e300;
            for (const Choice& choice : choices) least = std::min(least, loss_of(problem, k, choice));
            CHECK(least <= reports[k].solution.value * (1 + 1e-12));
        }
    }
}
