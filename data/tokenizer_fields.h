// Reads objects of tokenizer.json with messages that name the field. Includes nlohmann's full JSON header, so only the
// few .cpp files that read the format include it.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ballast::data {

/// One object of the file, with its path for messages. A null field counts as absent.
class Fields {
  public:
    using Json = nlohmann::json;

    Fields(const Json& object, std::string origin, std::string path);

    /// UserError "ORIGIN: field "PATH.NAME" WHAT"; an empty `name` is the object itself.
    [[noreturn]] void fail(const std::string& name, const std::string& what) const;

    const Json* find(const std::string& name) const;  ///< null when absent
    const Json& get(const std::string& name) const;
    const Json& list(const std::string& name) const;  ///< must be an array

    bool flag(const std::string& name, bool otherwise) const;
    std::string text(const std::string& name, const std::string& otherwise = "") const;
    std::string character(const std::string& name, const std::string& otherwise) const;  ///< exactly one character
    uint32_t count(const std::string& name, uint32_t otherwise) const;                   ///< below 2^20
    uint32_t id(const std::string& name) const { return as_id(name, get(name)); }
    uint32_t as_id(const std::string& name, const Json& value) const;

    void must_be_absent(const std::string& name) const;
    Fields child(const std::string& name) const;
    Fields child(const std::string& name, size_t index) const;  ///< of a list

    /// The index of the field's value in `choices`. UserError that lists the choices for another value.
    size_t choice(const std::string& name, std::span<const std::string_view> choices,
                  const char* otherwise = nullptr) const;

    /// The steps of a stage: none when absent, one, or those of a "Sequence" under `list_name`; nested sequences are
    /// flattened.
    std::vector<Fields> steps(const std::string& name, const std::string& list_name) const;

  private:
    void add_steps(const std::string& list_name, int depth, std::vector<Fields>& steps) const;
    std::string path_to(const std::string& name) const;

    const Json* object_;
    std::string origin_, path_;
};

}  // namespace ballast::data
