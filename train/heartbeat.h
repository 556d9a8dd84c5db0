// The heartbeat file of a rank, RUN/heartbeats/rank_0003.json: a sign of life and the rank's place, written every few
// seconds. Only ranks that have stopped read it. So the cost is one small file per rank, not one per pair of ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/place.h"

namespace ballast::train {

struct Heartbeat {
    int rank = 0;
    std::string host;
    int64_t pid = 0;
    int64_t beat = 0;  // number of this heartbeat
    int64_t step = 0;
    Place place;       // Whereabouts::decisive()
    double still = 0;  // seconds since the rank moved, by its own count
    bool debugger = false;

    std::string to_json() const;
    /// Empty when the text is not a heartbeat.
    static std::optional<Heartbeat> parse(const std::string& json);
};

/// The heartbeat files of one run. No call fails when the folder's disk refuses or is gone: the run must not end for
/// that.
class HeartbeatFolder {
  public:
    explicit HeartbeatFolder(const std::string& run_folder) : path_(run_folder + "/heartbeats") {}

    std::string file(int rank) const;
    void write(const Heartbeat& heartbeat) const;
    std::optional<Heartbeat> read(int rank) const;
    /// Of every rank that has a file, in the order of ranks, with the seconds since the file was written.
    std::vector<std::pair<Heartbeat, double>> read_all() const;
    void remove(int rank) const;
    /// Removes all files of earlier runs.
    void clear() const;

  private:
    std::string path_;
};

}  // namespace ballast::train
