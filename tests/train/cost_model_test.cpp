// What a run is said to cost, held against what it is made of, and the bytes against those that ranks really send.
#include "train/cost_model.h"

#include "model/products.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/train/run_fixture.h"
#include "tests/train/thread_ranks.h"
#include "train/memory_plan.h"
#include "train/planned_ranks.h"

using namespace ballast;
using namespace ballast::test;
using namespace ballast::train;

namespace {

constexpr double kUnlimited = 1e300;

RunConfig pythia_160m() {
    RunConfig config;
    config.model.num_layers = 12;
    config.model.hidden_size = 768;
    config.model.num_heads = 12;
    config.train.micro_batch = 1;
    return config;
}

StepCost cost_on(int ranks, const Machine& machine, const Network& network, const RunConfig& config) {
    PlannedRank first(0, ranks);
    return cost_of_step(machine, network, config, Distribution(config, first));
}

const Network kFast{.bandwidth = kUnlimited, .round_seconds = 0, .message_seconds = 0};

/// Bytes that all ranks of a run send in an update: those of more updates less those of fewer.
double bytes_sent_an_update(RunFixture& f, int ranks) {
    const auto sent = [&](int64_t steps) {
        f.config.train.steps = steps;
        const size_t bytes =
            on_ranks(ranks, [&](Communicator& rank) { f.run_as_rank(rank, "run", StartMode::overwrite); });
        return static_cast<double>(bytes);
    };
    return (sent(4) - sent(2)) / 2;
}

}  // namespace

TEST_CASE("cost: without limits of memory, a pass takes its FLOPs") {
    RunConfig config = pythia_160m();
    config.train.micro_batch = 2;
    const Machine machine{.name = "ideal", .flops = 1e12, .bandwidth = kUnlimited};
    const model::ParameterTable table(config.model);
    const int64_t T = config.train.sequence_length;
    const auto per_token = model::flops_per_token(config.model, table.num_parameters(), T);
    // The formula counts every parameter but the embedding as multiplied; norms, biases and rounding are 0.1 % of them.
    // Attention's backward pass computes the scores again: 7 products where the formula has 6.
    const double attention = (per_token.palm - per_token.causal) * 7 / 6;
    const double multiplied = 2 * per_token.causal - per_token.palm;
    const double flops = (multiplied + attention) * static_cast<double>(2 * T);
    CHECK(cost_of_pass(machine, config).total() == Approx(flops / machine.flops).epsilon(2e-3));

    const double products = [&] {
        double sum = 0;
        for (const auto& p : model::products_of_pass(config.model, 2 * T))
            sum += p.flops() * static_cast<double>(p.count);
        return sum;
    }();
    Machine half = machine;
    half.product_share = 0.5;
    CHECK(cost_of_pass(half, config).total() - cost_of_pass(machine, config).total() ==
          Approx(products / machine.flops).epsilon(1e-9));
}

TEST_CASE("cost: parts are the backward pass's, recomputing costs its share, windows save attention") {
    RunConfig config = pythia_160m();
    const Machine machine = machine_named("h200", Dtype::bf16, 64);
    const PassCost plain = cost_of_pass(machine, config);
    REQUIRE(plain.backward.size() == 14);
    for (const double seconds : plain.backward) CHECK(seconds > 0);
    config.train.recompute = model::Recompute::attention;
    const double attention = cost_of_pass(machine, config).total();
    config.train.recompute = model::Recompute::full;
    const double full = cost_of_pass(machine, config).total();
    CHECK(plain.total() < attention);
    CHECK(attention < full);
    CHECK(full < 1.34 * plain.total());
    config.train.recompute = model::Recompute::none;
    config.model.attention_span = {127};
    CHECK(cost_of_pass(machine, config).total() < plain.total());
    config.model.attention_span = {1 << 20};
    CHECK(cost_of_pass(machine, config).total() == Approx(plain.total()));
}

TEST_CASE("cost: bytes over the network are those that ranks send", "[cpu]") {
    struct Case {
        int ranks;
        int64_t zero;
        Dtype compute, reduction;
    };
    for (const Case& c : {Case{2, 0, Dtype::f32, Dtype::f32}, Case{4, 1, Dtype::bf16, Dtype::f32},
                          Case{4, 0, Dtype::f32, Dtype::bf16}, Case{2, 1, Dtype::f32, Dtype::bf16}}) {
        RunFixture f;
        f.config.model.vocab_size = 8192;
        f.config.train.micro_batch = 1;
        f.config.train.reduction_lanes = 4;
        f.config.train.reduction_dtype = c.reduction;
        f.config.train.zero = c.zero;
        f.config.train.dtype = c.compute;
        f.config.checkpoint.every = 0;
        f.config.validation.every = 0;
        CAPTURE(c.ranks, c.zero, name_of(c.compute), name_of(c.reduction));
        PlannedRank first(0, c.ranks);
        const double expected = received_bytes(f.config, Distribution(f.config, first));
        // Sums of squares, losses and the wish to stop are 1 % here.
        CHECK(bytes_sent_an_update(f, c.ranks) / c.ranks == Approx(expected).epsilon(0.02));
    }
}

TEST_CASE("cost: what overlaps is hidden, but never the embedding's share") {
    RunConfig config = pythia_160m();
    const Machine machine = machine_named("h200", Dtype::bf16, 64);
    const Network network = parse_network("400Gb/s");
    for (const int64_t zero : {0, 1}) {
        config.train.zero = zero;
        config.train.overlap = true;
        const StepCost beside = cost_on(64, machine, network, config);
        config.train.overlap = false;
        const StepCost after = cost_on(64, machine, network, config);
        CHECK(after.hidden == 0);
        CHECK(beside.hidden > 0);
        CHECK(beside.total() < after.total());
        CHECK(beside.communication == Approx(after.communication));
        CHECK(beside.overlap_ceiling == Approx(1 - 0.24).epsilon(0.01));
        CHECK(beside.hidden <= beside.communication * beside.overlap_ceiling * 1.05);
    }
    CHECK(cost_on(64, machine, kFast, config).communication == Approx(0).margin(1e-12));
    CHECK(cost_on(1, machine, network, config).communication == 0);
    CHECK(cost_on(64, machine, network, config).passes == Approx(cost_on(1, machine, network, config).passes / 64));
}

TEST_CASE("cost: ZeRO 1 takes the moments' share from every rank") {
    RunConfig config = pythia_160m();
    const Context context(Device::cpu, 1);
    PlannedRank first(0, 64);
    const auto moments = [&](int64_t zero) {
        config.train.zero = zero;
        return plan_memory(context, config, Distribution(config, first)).moments;
    };
    CHECK(static_cast<double>(moments(0)) ==
          Approx(static_cast<double>(64 * moments(1))).epsilon(0.2));  // whole blocks
}

TEST_CASE("memory: the ranks of a machine have to fit together") {
    class OneMachine : public PlannedRank {
      public:
        OneMachine(int rank, int ranks, int here) : PlannedRank(rank, ranks), here_(here) {}
        int local_size() const override { return here_; }

      private:
        int here_;
    };
    const RunConfig config = pythia_160m();
    const Context context(Device::cpu, 1);
    const auto plan_of = [&](Communicator& rank) {
        MemoryPlan plan = plan_memory(context, config, Distribution(config, rank));
        plan.sample_order = 1000;
        return plan;
    };
    OneMachine first(0, 8, 4), last(7, 8, 4);
    const MemoryPlan of_first = plan_of(first), of_last = plan_of(last);
    CHECK(of_first.total(Device::cpu) > of_last.total(Device::cpu));  // it saves
    const size_t others = memory_of_neighbours(context, config, Distribution(config, first), of_first),
                 all = of_first.total(Device::cpu) + others;
    CHECK(others == 3 * of_last.total(Device::cpu));
    CHECK(memory_of_neighbours(context, config, Distribution(config, last), of_last) == others);
    CHECK_NOTHROW(require_fit(of_first, Device::cpu, all, others));
    const std::string message = message_of([&] { require_fit(of_first, Device::cpu, all - 1, others); });
    for (const std::string& part : {"of which the other ranks on this machine need " + format_bytes(others),
                                    std::string("start fewer ranks on a machine")})
        CHECK_THAT(message, Catch::Matchers::ContainsSubstring(part));
    OneMachine alone(7, 8, 1);
    CHECK(memory_of_neighbours(context, config, Distribution(config, alone), of_last) == 0);
}

TEST_CASE("cost: machines and networks by name") {
    CHECK(parse_network("400Gb/s").bandwidth == Approx(50e9));
    CHECK(parse_network("50GB/s").bandwidth == Approx(50e9));
    CHECK(parse_network("25 Gbit/s").bandwidth == Approx(3.125e9));
    CHECK(parse_network("1.5TB/s").bandwidth == Approx(1.5e12));
    CHECK(parse_network("800kb/s").bandwidth == Approx(1e5));
    for (const char* text :
         {"", "400", "400G", "Gb/s", "-1Gb/s", "0Gb/s", "nanGb/s", "infGB/s", "400Gb/s ", "4XB/s", "400Gb"}) {
        CAPTURE(text);
        CHECK_THAT(message_of([&] { parse_network(text); }), Catch::Matchers::ContainsSubstring("400Gb/s or 50GB/s"));
    }
    for (const std::string& name : machine_names())
        if (name != "cpu") {
            const Machine machine = machine_named(name, Dtype::bf16, 128);
            CHECK(machine.flops > 1e12);
            CHECK(machine.bandwidth > 1e11);
            CHECK_FALSE(machine.source.empty());
        }
    CHECK_THAT(message_of([] { machine_named("h300", Dtype::bf16, 64); }), Catch::Matchers::ContainsSubstring("h200"));
    CHECK_THAT(message_of([] { machine_named("h200", Dtype::f32, 64); }),
               Catch::Matchers::ContainsSubstring("dtype=bf16"));
}
