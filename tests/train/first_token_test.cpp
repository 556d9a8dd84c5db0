// Runs whose windows, or documents, begin with a token of their own.
#include <cmath>
#include <csignal>

#include "base/interrupt.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"
#include "tests/train/run_fixture.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// Twelve short documents for training and validation, with nothing between them.
void write_documents(RunFixture& f) {
    ThreadPool pool(1);
    data::PrepareOptions prepare;
    prepare.append_end_of_text = false;
    for (size_t i = 0; i < 12; ++i) {
        prepare.inputs.push_back(f.folder / ("document" + std::to_string(i) + ".txt"));
        write_file(prepare.inputs.back(), sample_text().substr(50 * i, 30 + 40 * i));
    }
    const data::Tokenizer tokenizer = data::Tokenizer::load(f.config.data.tokenizer);
    for (std::string* store : {&f.config.data.train, &f.config.data.validation}) {
        prepare.output = *store = f.folder / (store == &f.config.data.train ? "documents.h5" : "held-out.h5");
        data::prepare(tokenizer, prepare, pool);
    }
}

}  // namespace

TEST_CASE("data.first_token changes what is learnt and validated, and a resumed run has the same bits") {
    RunFixture f;
    write_documents(f);
    f.config.validation = {5, 1};
    f.config.train.steps = 10;
    using enum data::FirstToken;
    std::vector<std::vector<double>> losses;
    for (const auto first : {none, every_window, every_document}) {
        f.config.data.first_token = first;
        const std::string name(data::kFirstTokenNames[static_cast<size_t>(first)]);
        f.run(name, train::StartMode::fresh);
        for (const auto& others : losses) CHECK(f.losses(name) != others);
        losses.push_back(f.losses(name));

        train::TrainObserver stop;
        stop.step = [](const train::StepMetrics& metrics) {
            if (metrics.step == 5) std::raise(SIGINT);
        };
        {
            const InterruptGuard guard;
            CHECK(f.run(name + ", halves", train::StartMode::fresh, stop) == train::RunStatus::interrupted);
        }
        f.run(name + ", halves", train::StartMode::resume);
        CHECK(f.metrics(name + ", halves") == f.metrics(name));
    }
    // The order changes with what is put into it, so going on with another is refused.
    f.config.data.first_token = none;
    f.config.train.steps = 12;
    CHECK_THAT(message_of([&] { f.run("every_document", train::StartMode::resume); }),
               Catch::Matchers::ContainsSubstring("data.first_token was every_document and is none"));

    // With a rate of 0 all models stay the same, so that only their validation can differ.
    f.config.optimizer.learning_rate = f.config.optimizer.min_learning_rate = 0;
    f.config.train.steps = 5;
    std::vector<double> validation;
    for (const auto first : {none, every_window, every_document}) {
        f.config.data.first_token = first;
        const std::string name = "still, " + std::string(data::kFirstTokenNames[static_cast<size_t>(first)]);
        f.run(name, train::StartMode::fresh);
        for (const auto& line : f.metrics(name))
            if (line.contains("validation_loss")) validation.push_back(line["validation_loss"].get<double>());
    }
    REQUIRE(validation.size() == 3);
    CHECK(std::abs(validation[0] - validation[1]) > 1e-6);
    CHECK(std::abs(validation[0] - validation[2]) > 1e-6);
}

TEST_CASE("data.first_token and sink tokens are not both put before a sample") {
    RunFixture f;
    f.config.model.num_sink_tokens = 1;
    f.config.data.first_token = data::FirstToken::every_window;
    CHECK_THAT(message_of([&] { f.config.validate(); }), Catch::Matchers::ContainsSubstring("choose one of them"));
}
