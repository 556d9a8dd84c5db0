// What a rank writes down every few seconds for the others, RUN/heartbeats/rank_0003.json: a sign of life, and where it
// is. Only ranks that have come to a halt read it, so it costs a small file each, not one a pair.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "train/place.h"

namespace ballast::train {

struct Heartbeat {
    int rank = 0;
    std::string host;
    int64_t pid = 0;
    int64_t beat = 0;  // counts them
    int64_t step = 0;
    Place place;       // Whereabouts::decisive()
    double still = 0;  // seconds since it moved, as it counts them itself
    bool debugger = false;

    std::string to_json() const;
    /// None when the text is no heartbeat.
    static std::optional<Heartbeat> parse(const std::string& json);
};

/// Files of one run's heartbeats. All may be called while the folder's disk refuses or is gone: a run is worth more.
class HeartbeatFolder {
  public:
    explicit HeartbeatFolder(const std::string& run_folder) : path_(run_folder + "/heartbeats") {}

    std::string file(int rank) const;
    void write(const Heartbeat& heartbeat) const;
    std::optional<Heartbeat> read(int rank) const;
    void remove(int rank) const;
    /// Removes all that earlier runs left.
    void clear() const;

  private:
    std::string path_;
};

}  // namespace ballast::train
