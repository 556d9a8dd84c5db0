// Runs whose documents do not see each other.
#include <cmath>
#include <csignal>

#include "base/interrupt.h"
#include "tests/catch.h"
#include "tests/train/run_fixture.h"

using namespace ballast;
using namespace ballast::test;

TEST_CASE("data.document_mask changes the losses, those of validation too, and a resumed run has the same bits") {
    RunFixture f;
    ThreadPool pool(1);
    data::PrepareOptions prepare;
    for (size_t i = 0; i < 12; ++i) {  // some documents shorter than a sample
        prepare.inputs.push_back(f.folder / ("document" + std::to_string(i) + ".txt"));
        write_file(prepare.inputs.back(), sample_text().substr(50 * i, 30 + 40 * i));
    }
    const data::Tokenizer tokenizer = data::Tokenizer::load(f.config.data.tokenizer);
    for (std::string* store : {&f.config.data.train, &f.config.data.validation}) {
        prepare.output = *store = f.folder / (store == &f.config.data.train ? "documents.h5" : "held-out.h5");
        data::prepare(tokenizer, prepare, pool);
    }
    f.config.model.num_sink_tokens = 1;
    f.config.validation = {5, 1};
    f.config.train.steps = 10;
    f.run("plain", train::StartMode::fresh);
    f.config.data.document_mask = true;
    f.run("masked", train::StartMode::fresh);
    CHECK(f.losses("masked") != f.losses("plain"));

    train::TrainObserver stop;
    stop.step = [](const train::StepMetrics& metrics) {
        if (metrics.step == 5) std::raise(SIGINT);
    };
    {
        const InterruptGuard guard;
        CHECK(f.run("halves", train::StartMode::fresh, stop) == train::RunStatus::interrupted);
    }
    f.run("halves", train::StartMode::resume);
    CHECK(f.metrics("halves") == f.metrics("masked"));

    // With a rate of 0 both models stay the same, so that only their validation can differ.
    f.config.optimizer.learning_rate = f.config.optimizer.min_learning_rate = 0;
    f.config.train.steps = 5;
    std::vector<double> validation;
    for (const bool mask : {false, true}) {
        f.config.data.document_mask = mask;
        const std::string name = mask ? "still, masked" : "still";
        f.run(name, train::StartMode::fresh);
        for (const auto& line : f.metrics(name))
            if (line.contains("validation_loss")) validation.push_back(line["validation_loss"].get<double>());
    }
    REQUIRE(validation.size() == 2);
    CHECK(std::abs(validation[0] - validation[1]) > 1e-6);
}
