// metrics.jsonl as it may be found, and making it small.
#include <cmath>
#include <fmt/format.h>
#include <limits>

#include "report/metrics_log.h"
#include "tests/catch.h"

using namespace ballast::report;

namespace {

std::string step_line(int step, double loss) {
    return fmt::format(
        R"({{"step":{},"loss":{},"grad_norm":1.5,"lr":0.001,"tokens":{},"seconds":0.5,"tokens_per_second":200.0}})"
        "\n",
        step, loss, step * 100);
}

const double kNaN = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("metrics: steps and validations") {
    const auto log = parse_metrics(step_line(1, 7) + step_line(2, 6.5) +
                                   R"({"step":2,"validation_loss":6.75,"validation_perplexity":854})"
                                   "\n");
    CHECK(log.step == std::vector<double>{1, 2});
    CHECK(log.tokens == std::vector<double>{100, 200});
    CHECK(log.values[0] == std::vector<double>{7, 6.5});
    CHECK(log.values[3] == std::vector<double>{200, 200});
    CHECK(std::isnan(log.values[4][0]));  // no loss scale
    CHECK(log.validation_step == std::vector<double>{2});
    CHECK(log.validation_tokens == std::vector<double>{200});
    CHECK(log.validation_loss == std::vector<double>{6.75});
    CHECK(log.seconds == 1.0);
    CHECK(log.lines_ignored == 0);
}

TEST_CASE("metrics: wherever the file is cut, whole lines are read and the rest is no mistake") {
    const std::string text = step_line(1, 7) + step_line(2, 6) + step_line(3, 5);
    for (size_t size = 0; size <= text.size(); ++size) {
        const auto log = parse_metrics(text.substr(0, size));
        CAPTURE(size);
        REQUIRE(log.step.size() ==
                static_cast<size_t>(std::count(text.begin(), text.begin() + static_cast<long>(size), '\n')));
        REQUIRE(log.lines_ignored == 0);
    }
}

TEST_CASE("metrics: foreign lines are counted and passed over") {
    const char* const foreign[] = {
        "GIF89a",
        "{",
        "[]",
        "null",
        "12",
        "\"step\"",
        R"({"step":1})",
        R"({"loss":1})",
        R"({"step":"1","loss":2})",
        R"({"step":-3,"loss":2})",
        R"({"step":null,"loss":2})",
        R"({"step":1e999,"loss":2})",
        "\xff\xfe\x00{}",
        "{\"step\":1,\"loss\":\"\xff\"}",
        R"({"step":[1],"loss":{}})",
    };
    for (const char* line : foreign) {
        CAPTURE(line);
        const auto log = parse_metrics(step_line(1, 7) + line + "\n" + step_line(2, 6));
        CHECK(log.step == std::vector<double>{1, 2});
        CHECK(log.lines_ignored == 1);
    }
    CHECK(parse_metrics(std::string(100000, '[') + "\n").lines_ignored == 1);
    CHECK(parse_metrics("\n\n" + step_line(1, 7) + "\n").step.size() == 1);
}

TEST_CASE("metrics: numbers of the wrong type, and null for what is not finite, are gaps") {
    const auto log = parse_metrics(R"({"step":1,"loss":null,"grad_norm":"big","lr":true,"tokens":[],"seconds":{}})"
                                   "\n");
    REQUIRE(log.step.size() == 1);
    for (const auto& metric : log.values) CHECK(std::isnan(metric[0]));
    CHECK(std::isnan(log.tokens[0]));
    CHECK(log.seconds == 0);
}

TEST_CASE("metrics: fp16 tells which steps were skipped") {
    const auto log = parse_metrics(R"({"step":1,"loss":7,"grad_norm":null,"loss_scale":4096,"skipped":true})"
                                   "\n"
                                   R"({"step":2,"loss":7,"grad_norm":1,"loss_scale":2048,"skipped":false})"
                                   "\n");
    CHECK(log.skipped_steps == 1);
    CHECK(log.values[4] == std::vector<double>{4096, 2048});
}

TEST_CASE("metrics: where steps repeat the later hold") {
    const auto log =
        parse_metrics(step_line(1, 7) + step_line(2, 6) + step_line(3, 5) + step_line(2, 4) + step_line(3, 3));
    CHECK(log.step == std::vector<double>{1, 2, 3});
    CHECK(log.values[0] == std::vector<double>{7, 4, 3});
}

TEST_CASE("downsampling keeps every spike and every mean") {
    std::vector<double> values(143000);
    for (size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<double>(i) * 0.01);
    values[77777] = 1000;
    values[99999] = -1000;
    const auto ends = bucket_ends(values.size(), 1000);
    REQUIRE(ends.size() == 1000);
    CHECK(ends.back() == values.size());
    const auto buckets = downsample(values, ends);
    CHECK(*std::max_element(buckets.max.begin(), buckets.max.end()) == 1000);
    CHECK(*std::min_element(buckets.min.begin(), buckets.min.end()) == -1000);
    double sum = 0, expected = 0;
    for (size_t b = 0; b < ends.size(); ++b) {
        const size_t begin = b == 0 ? 0 : ends[b - 1];
        CHECK((ends[b] - begin) == 143);
        sum += buckets.mean[b] * static_cast<double>(ends[b] - begin);
    }
    for (double value : values) expected += value;
    CHECK(sum == Approx(expected));
}

TEST_CASE("downsampling of few values, of none, and of gaps") {
    CHECK(bucket_ends(0, 10).empty());
    CHECK(bucket_ends(3, 10) == std::vector<size_t>{1, 2, 3});
    CHECK(bucket_ends(7, 3) == std::vector<size_t>{2, 4, 7});
    CHECK(downsample({}, {}).mean.empty());
    const auto gaps = downsample({kNaN, 1, std::numeric_limits<double>::infinity(), kNaN, kNaN, 4}, {3, 5, 6});
    CHECK(gaps.mean[0] == 1);
    CHECK(gaps.max[0] == 1);
    CHECK(std::isnan(gaps.mean[1]));
    CHECK(std::isnan(gaps.min[1]));
    CHECK(gaps.mean[2] == 4);
}
