#include "tests/data/fixtures.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/catch.h"

namespace ballast::test {
namespace {

nlohmann::json read_fixture(const std::string& name) {
    std::ifstream in(fixture_path(name));
    return nlohmann::json::parse(in);
}

}  // namespace

std::string fixture_path(const std::string& name) {
    return std::string(BALLAST_SOURCE_DIR) + "/tests/data/fixtures/" + name;
}

std::vector<ParityCase> parity_cases() {
    std::vector<ParityCase> cases;
    const auto json = read_fixture("parity.json");
    for (const auto& entry : json.at("cases"))
        cases.push_back({entry.at("text"), entry.at("ids").get<std::vector<uint32_t>>()});
    return cases;
}

TrainingCase training_case() {
    const auto json = read_fixture("training.json");
    TrainingCase training{json.at("text"), json.at("vocab_size"), {}};
    for (const auto& merge : json.at("merges")) training.merges.emplace_back(merge.at(0), merge.at(1));
    return training;
}

std::optional<std::string> shared_data(const std::string& name) {
    const std::string path = std::string(BALLAST_SHARED_DATA) + "/" + name;
    if (std::filesystem::exists(path)) return path;
    WARN("part of this test left out, as the repository does not contain " << name);
    return std::nullopt;
}

}  // namespace ballast::test
