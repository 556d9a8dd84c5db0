#include "train/heartbeat.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/error.h"

namespace ballast::train {

namespace fs = std::filesystem;

std::string Heartbeat::to_json() const {
    return nlohmann::ordered_json{{"rank", rank},
                                  {"host", host},
                                  {"pid", pid},
                                  {"beat", beat},
                                  {"step", step},
                                  {"doing", describe(place)},
                                  {"activity", name_of(place.activity)},
                                  {"number", place.number},
                                  {"seconds", still},
                                  {"debugger", debugger}}
               .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
           "\n";
}

std::optional<Heartbeat> Heartbeat::parse(const std::string& text) {
    try {
        const auto json = nlohmann::json::parse(text);
        const auto activity = activity_of(json.at("activity").get<std::string>());
        if (!activity) return std::nullopt;
        return Heartbeat{json.at("rank"),    json.at("host"),    json.at("pid"),
                         json.at("beat"),    json.at("step"),    {*activity, json.at("number")},
                         json.at("seconds"), json.at("debugger")};
    } catch (const nlohmann::json::exception&) {
        return std::nullopt;
    }
}

std::string HeartbeatFolder::file(int rank) const { return fmt::format("{}/rank_{:04}.json", path_, rank); }

void HeartbeatFolder::write(const Heartbeat& heartbeat) const {
    std::error_code error;
    fs::create_directory(path_, error);
    try {
        replace_file(file(heartbeat.rank), heartbeat.to_json());
    } catch (const UserError&) {
    }
}

std::optional<Heartbeat> HeartbeatFolder::read(int rank) const {
    try {
        return Heartbeat::parse(read_file(file(rank)));
    } catch (const UserError&) {
        return std::nullopt;
    }
}

std::vector<std::pair<Heartbeat, double>> HeartbeatFolder::read_all() const {
    std::vector<std::pair<Heartbeat, double>> all;
    std::error_code error;
    for (fs::directory_iterator entry(path_, error), end; !error && entry != end; entry.increment(error)) {
        if (entry->path().extension() != ".json") continue;  // one that is being written
        std::error_code gone;
        const auto written = fs::last_write_time(entry->path(), gone);
        const double age = std::chrono::duration<double>(fs::file_time_type::clock::now() - written).count();
        try {
            const auto last = Heartbeat::parse(read_file(entry->path().string()));
            if (last && !gone) all.emplace_back(*last, std::max(age, 0.0));
        } catch (const UserError&) {  // its rank has ended
        }
    }
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first.rank < b.first.rank; });
    return all;
}

void HeartbeatFolder::remove(int rank) const {
    std::error_code error;
    fs::remove(file(rank), error);
    fs::remove(path_, error);  // the last one's; others' files keep it
}

void HeartbeatFolder::clear() const {
    std::error_code error;
    fs::remove_all(path_, error);
}

}  // namespace ballast::train
