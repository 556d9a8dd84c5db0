#include "infer/answer_file.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/json_file.h"

namespace ballast::infer {
namespace {

constexpr std::array<std::pair<Finish, std::string_view>, 5> kFinishNames{{{Finish::not_yet, "unfinished"},
                                                                           {Finish::length, "length"},
                                                                           {Finish::stop_id, "stop_id"},
                                                                           {Finish::stopped, "stop"},
                                                                           {Finish::not_finite, "not_finite"}}};

std::string_view name_of(Finish finish) {
    return std::ranges::find(kFinishNames, finish, [](const auto& row) { return row.first; })->second;
}

Finish finish_named(const std::string& name) {
    const auto* const row = std::ranges::find(kFinishNames, name, [](const auto& r) { return r.second; });
    if (row == kFinishNames.end()) throw UserError(fmt::format("no answer finishes by \"{}\"", name));
    return row->first;
}

int32_t to_id(const nlohmann::json& number) {
    if (!number.is_number_integer() || number < 0 || number > std::numeric_limits<int32_t>::max())
        throw UserError("an id is no id of a token");
    return number.get<int32_t>();
}

std::vector<int32_t> to_ids(const nlohmann::json& list) {
    std::vector<int32_t> ids;
    for (const nlohmann::json& number : list) ids.push_back(to_id(number));
    return ids;
}

AnsweredPrompt from_json(const nlohmann::json& object) {
    AnsweredPrompt out{to_ids(object.at("prompt_ids")), object.at("text").get<std::string>(), {}};
    out.answer.finish = finish_named(object.at("finish").get<std::string>());
    out.settings = object.value("settings", "");
    const std::vector<int32_t> ids = to_ids(object.at("ids"));
    const auto log_probs = object.at("logprobs").get<std::vector<double>>();
    if (ids.size() != log_probs.size()) throw UserError("its ids and logprobs are not equally many");
    const nlohmann::json likely = object.value("top_logprobs", nlohmann::json::array());
    if (!likely.empty() && likely.size() != ids.size())
        throw UserError("its ids and top_logprobs are not equally many");
    for (size_t i = 0; i < ids.size(); ++i) {
        SampledToken& token = out.answer.tokens.emplace_back(SampledToken{ids[i], log_probs[i], {}});
        if (likely.empty()) continue;
        for (const nlohmann::json& one : likely.at(i))
            token.alternatives.push_back({to_id(one.at("id")), one.at("logprob").get<double>()});
    }
    return out;
}

}  // namespace

nlohmann::ordered_json to_json(const AnsweredPrompt& answered, bool with_alternatives) {
    nlohmann::ordered_json ids = nlohmann::ordered_json::array(), log_probs = ids, likely = ids;
    for (const SampledToken& token : answered.answer.tokens) {
        ids.push_back(token.id);
        log_probs.push_back(token.log_prob);
        likely.push_back(nlohmann::ordered_json::array());
        for (const auto& [id, log_prob] : token.alternatives)
            likely.back().push_back({{"id", id}, {"logprob", log_prob}});
    }
    nlohmann::ordered_json out{
        {"prompt_ids", answered.prompt_ids}, {"ids", ids}, {"text", answered.text}, {"logprobs", log_probs}};
    if (with_alternatives) out["top_logprobs"] = likely;
    out["finish"] = name_of(answered.answer.finish);
    if (!answered.settings.empty()) out["settings"] = answered.settings;
    return out;
}

std::vector<AnsweredPrompt> read_answers(const std::string& path) {
    const nlohmann::json file = read_json_file(path);
    if (!file.is_array()) throw UserError(fmt::format("{} holds no list of answers", path));
    std::vector<AnsweredPrompt> out;
    for (size_t i = 0; i < file.size(); ++i) {
        try {
            out.push_back(from_json(file[i]));
        } catch (const nlohmann::json::exception&) {
            throw UserError(fmt::format("{}: number {} of the list is not an answer", path, i + 1));
        } catch (const UserError& error) {
            throw UserError(fmt::format("{}: answer {}: {}", path, i + 1, error.what()));
        }
    }
    return out;
}

}  // namespace ballast::infer
