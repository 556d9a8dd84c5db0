// The place of a rank: what each of its threads does now, and in which step. Threads record their place as they go, and
// any other thread may read it at any moment (train/hang_watch.h). Recording costs two atomic writes and no memory.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ballast::train {

/// The activity of a thread. Collectives wait for other ranks.
enum class Activity : int32_t {
    nothing,
    start,
    agree_on_start,
    order_samples,
    agree_on_order,
    load,
    agree_on_loaded,
    read_samples,
    pass,
    forward,
    head,
    backward,
    embedding,
    wait_for_reduction,
    reduce_bucket,
    add_own_lanes,
    exchange_gradients,
    add_ranks,
    gather_norms,
    gather_gradients,
    gather_losses,
    update,
    gather_weights,
    device,
    metrics,
    agree_to_stop,
    save,
    wait_for_save,
    gather_state,
    agree_on_saved,
    write_checkpoint,
    validation,
    sample,
    show,
    agree_on_end,
};

/// An activity, and the index of its layer, bucket or pass.
struct Place {
    Activity activity = Activity::nothing;
    int32_t number = -1;

    bool operator==(const Place&) const = default;
};

/// "backward of layer 7", "exchange of gradients, bucket 3"
std::string describe(Place place);
/// An activity's name in files: "backward".
std::string_view name_of(Activity activity);
std::optional<Activity> activity_of(std::string_view name);
/// True when a thread may be in the activity because another rank has not arrived.
bool is_collective(Activity activity);
/// The factor by which a rank may exceed the deadline for progress in this activity. It is larger where files of a
/// checkpoint's size are written in one call, or a device works through a whole update; infinite where the rank waits
/// for a reader of its output.
double patience(Activity activity);

/// Threads of a rank.
enum class Track { compute, communication, saving };
inline constexpr size_t kTracks = 3;

/// The places of a rank at the moment of reading.
struct Whereabouts {
    int64_t step = 0;
    std::array<Place, kTracks> places;
    uint64_t moves = 0;

    /// The place that decides whether the step makes progress. When the main thread waits for another thread, it is
    /// that thread's place.
    Place decisive() const;
};

/// One thread at a time writes each track. A reader may combine a place and a step from different moments, but only
/// while the rank moves.
class CurrentPlaces {
  public:
    void begin_step(int64_t step) {
        step_.store(step, std::memory_order_relaxed);
        move();
    }
    /// Returns the track's previous place.
    Place enter(Track track, Place place) {
        const Place before = at(track).exchange(place, std::memory_order_relaxed);
        move();
        return before;
    }
    /// Reports progress within a place.
    void move() { moves_.fetch_add(1, std::memory_order_relaxed); }

    Whereabouts now() const;

  private:
    static_assert(std::atomic<Place>::is_always_lock_free);
    std::atomic<Place>& at(Track track) { return places_[static_cast<size_t>(track)]; }

    std::atomic<int64_t> step_{0};
    std::atomic<uint64_t> moves_{0};
    std::array<std::atomic<Place>, kTracks> places_{};
};

}  // namespace ballast::train
