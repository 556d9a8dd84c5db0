#include "data/tokenizer_fields.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/utf8_cut.h"
#include "data/tokenizer_spec.h"

namespace ballast::data {

Fields::Fields(const Json& object, std::string origin, std::string path)
    : object_(&object), origin_(std::move(origin)), path_(std::move(path)) {
    if (!object.is_object()) fail("", "must be an object");
}

std::string Fields::path_to(const std::string& name) const {
    return path_.empty() || name.empty() ? path_ + name : path_ + "." + name;
}

void Fields::fail(const std::string& name, const std::string& what) const {
    throw UserError(fmt::format("{}: field \"{}\" {}", origin_, path_to(name), what));
}

const Fields::Json* Fields::find(const std::string& name) const {
    const auto it = object_->find(name);
    return it == object_->end() || it->is_null() ? nullptr : &*it;
}

const Fields::Json& Fields::get(const std::string& name) const {
    const Json* value = find(name);
    if (value == nullptr) fail(name, "is missing");
    return *value;
}

const Fields::Json& Fields::list(const std::string& name) const {
    const Json& value = get(name);
    if (!value.is_array()) fail(name, "must be a list");
    return value;
}

bool Fields::flag(const std::string& name, bool otherwise) const {
    const Json* value = find(name);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) fail(name, "must be true or false");
    return value->get<bool>();
}

std::string Fields::text(const std::string& name, const std::string& otherwise) const {
    const Json* value = find(name);
    if (value == nullptr) return otherwise;
    if (!value->is_string()) fail(name, "must be a string");
    return value->get<std::string>();
}

std::string Fields::character(const std::string& name, const std::string& otherwise) const {
    std::string value = text(name, otherwise);
    if (count_characters(value) != 1) fail(name, "must be one character");
    return value;
}

uint32_t Fields::count(const std::string& name, uint32_t otherwise) const {
    const Json* value = find(name);
    if (value == nullptr) return otherwise;
    if (!value->is_number_unsigned() || value->get<uint64_t>() > kMaxTokenId)
        fail(name, fmt::format("must be a whole number from 0 to {}", kMaxTokenId));
    return value->get<uint32_t>();
}

uint32_t Fields::as_id(const std::string& name, const Json& value) const {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > kMaxTokenId)
        fail(name, fmt::format("must be a token id from 0 to {}", kMaxTokenId));
    return value.get<uint32_t>();
}

void Fields::must_be_absent(const std::string& name) const {
    if (find(name)) fail(name, "is not supported; set it to null");
}

Fields Fields::child(const std::string& name) const { return {get(name), origin_, path_to(name)}; }

Fields Fields::child(const std::string& name, size_t index) const {
    return {list(name)[index], origin_, fmt::format("{}[{}]", path_to(name), index)};
}

size_t Fields::choice(const std::string& name, std::span<const std::string_view> choices, const char* otherwise) const {
    const std::string value = otherwise ? text(name, otherwise) : text(name);
    for (size_t i = 0; i < choices.size(); ++i)
        if (choices[i] == value) return i;
    fail(name, fmt::format("is \"{}\", which is not supported; Ballast has {}", value, fmt::join(choices, ", ")));
}

std::vector<Fields> Fields::steps(const std::string& name, const std::string& list_name) const {
    std::vector<Fields> steps;
    if (find(name)) child(name).add_steps(list_name, 0, steps);
    return steps;
}

void Fields::add_steps(const std::string& list_name, int depth, std::vector<Fields>& steps) const {
    constexpr int kMaxDepth = 8;
    if (text("type") != "Sequence") return steps.push_back(*this);
    if (depth == kMaxDepth) fail("", "is a Sequence in Sequences, too deep");
    for (size_t i = 0; i < list(list_name).size(); ++i) child(list_name, i).add_steps(list_name, depth + 1, steps);
}

}  // namespace ballast::data
