#include "cli/tokenizer_lines.h"

#include <fmt/format.h>

#include <fstream>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_file.h"

namespace ballast {
namespace {

using Json = nlohmann::json;

/// Calls answer(line) for each line that is not blank and writes what it returns. Errors get the line's place.
template <class Answer>
void for_each_line(const std::string& input, const WriteText& write, Answer&& answer) {
    std::ifstream file;
    if (input != "-") {
        file.open(input, std::ios::binary);
        if (!file) throw_errno("open", input);
    }
    std::istream& in = input == "-" ? std::cin : file;
    std::string line;
    for (int64_t number = 1; std::getline(in, line); ++number) {
        if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
        std::string out;
        try {
            out = answer(line);
        } catch (const UserError& error) {
            throw UserError(fmt::format("{}:{}: {}", input, number, error.what()));
        }
        write(out + "\n");
    }
    if (in.bad()) throw_errno("read", input);
}

Json parse_object(std::string_view line) {
    Json object = Json::parse(line, nullptr, false);
    if (object.is_discarded()) throw UserError("not valid JSON");
    if (!object.is_object()) throw UserError("must be a JSON object");
    return object;
}

const Json& field(const Json& object, const char* name, bool good_type(const Json&), const char* type) {
    const auto found = object.find(name);
    if (found == object.end() || !good_type(*found))
        throw UserError(fmt::format("field \"{}\" must be {}", name, type));
    return *found;
}

bool flag(const Json& object, const char* name) {
    if (!object.contains(name)) return false;
    return field(
               object, name, [](const Json& value) { return value.is_boolean(); }, "true or false")
        .get<bool>();
}

std::vector<uint32_t> ids_of(const Json& object) {
    const auto is_list = [](const Json& value) { return value.is_array(); };
    std::vector<uint32_t> ids;
    for (const Json& id : field(object, "ids", is_list, "a list of token ids")) {
        if (!id.is_number_unsigned() || id.get<uint64_t>() > std::numeric_limits<uint32_t>::max())
            throw UserError(fmt::format("field \"ids\" holds {}, which is no token id", id.dump()));
        ids.push_back(id.get<uint32_t>());
    }
    return ids;
}

}  // namespace

void encode_lines(const data::Tokenizer& tokenizer, const std::string& input, data::InvalidUtf8 policy,
                  const WriteText& write) {
    data::Encoder encoder(tokenizer);
    std::string repaired;
    for_each_line(input, write, [&](std::string_view line) {
        const Json object = parse_object(data::checked_utf8(line, policy, repaired));
        const auto is_text = [](const Json& value) { return value.is_string(); };
        std::vector<uint32_t> ids;
        encoder.encode(field(object, "text", is_text, "a string").get_ref<const std::string&>(), ids,
                       {.add_special = flag(object, "add_special")});
        return Json{{"ids", ids}}.dump();
    });
}

void decode_lines(const data::Tokenizer& tokenizer, const std::string& input, const WriteText& write) {
    for_each_line(input, write, [&](std::string_view line) {
        const Json object = parse_object(line);
        const std::string bytes = tokenizer.decode(ids_of(object), flag(object, "skip_special"));
        std::string repaired;
        return Json{{"text", data::checked_utf8(bytes, data::InvalidUtf8::replace, repaired)}}.dump();
    });
}

}  // namespace ballast
