// Reads a config.json. Errors name the file and the key.
#pragma once

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json_file.h"

namespace ballast::model {

class ConfigJson {
  public:
    /// UserError when the file cannot be read or is not a JSON object.
    explicit ConfigJson(std::string path) : ConfigJson(path, read_json_file(path)) {}
    /// Uses `value` as if it had been read from `path`.
    ConfigJson(std::string path, nlohmann::json value) : path_(std::move(path)), json_(std::move(value)) {
        if (!json_.is_object()) throw UserError(fmt::format("{}: not a JSON object", path_));
    }

    /// A null value counts as absent.
    bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
    /// An object within this one; it must exist.
    ConfigJson inside(const char* key) const { return {path_ + ":" + key, json_.at(key)}; }

    /// UserError when the key is missing or has another type.
    template <class T>
    T get(const char* key) const {
        if (!has(key)) throw UserError(fmt::format("{}: the key \"{}\" is missing", path_, key));
        try {
            const nlohmann::json& value = json_[key];
            if constexpr (std::is_same_v<T, int64_t>)
                if (!value.is_number_integer())
                    throw UserError(fmt::format("{}: \"{}\" is not a whole number", path_, key));
            return value.get<T>();
        } catch (const nlohmann::json::exception&) {
            throw UserError(fmt::format("{}: \"{}\" has another type than expected", path_, key));
        }
    }
    template <class T>
    T get_or(const char* key, T fallback) const {
        return has(key) ? get<T>(key) : fallback;
    }
    /// UserError unless the key is absent or has this value.
    template <class T>
    void require(const char* key, const T& value, const char* why) const {
        if (get_or<T>(key, value) != value)
            throw UserError(fmt::format("{}: \"{}\" is {}; {}", path_, key, json_[key].dump(), why));
    }

    /// The same with another value of `key`.
    ConfigJson with(const char* key, const nlohmann::json& value) const {
        ConfigJson out = *this;
        out.json_[key] = value;
        return out;
    }

    const std::string& path() const { return path_; }
    std::vector<std::string> keys() const {
        std::vector<std::string> out;
        for (const auto& [key, value] : json_.items()) out.push_back(key);
        return out;
    }

  private:
    std::string path_;
    nlohmann::json json_;
};

}  // namespace ballast::model
