#include "train/place.h"

#include <algorithm>
#include <fmt/format.h>
#include <limits>

#include "base/error.h"

namespace ballast::train {
namespace {

constexpr double kUsual = 1, kLong = 3, kForEver = std::numeric_limits<double>::infinity();

struct Row {
    Activity activity;
    std::string_view name, text, unit;  // unit: what a place's number counts
    bool collective;
    double patience;
};

using A = Activity;
constexpr std::array kRows{
    Row{A::nothing, "nothing", "the loop", "", false, kUsual},
    Row{A::start, "start", "making the run's files", "", false, kLong},
    Row{A::agree_on_start, "agree_on_start", "broadcast of the step to start from", "", true, kUsual},
    Row{A::order_samples, "order_samples", "putting samples into their order", "", false, kLong},
    Row{A::agree_on_order, "agree_on_order", "comparison of the orders of samples", "", true, kUsual},
    Row{A::load, "load", "loading a checkpoint", "", false, kLong},
    Row{A::agree_on_loaded, "agree_on_loaded", "barrier after the checkpoint was loaded", "", true, kUsual},
    Row{A::read_samples, "read_samples", "reading samples", "", false, kUsual},
    Row{A::pass, "pass", "pass", "", false, kUsual},
    Row{A::forward, "forward", "forward", "layer", false, kUsual},
    Row{A::head, "head", "head and loss", "", false, kUsual},
    Row{A::backward, "backward", "backward", "layer", false, kUsual},
    Row{A::embedding, "embedding", "backward of the embedding", "", false, kUsual},
    Row{A::wait_for_reduction, "wait_for_reduction", "reduction of gradients", "", false, kUsual},
    Row{A::reduce_bucket, "reduce_bucket", "reduction", "bucket", false, kUsual},
    Row{A::add_own_lanes, "add_own_lanes", "adding up own lanes", "bucket", false, kUsual},
    Row{A::exchange_gradients, "exchange_gradients", "exchange of gradients", "bucket", true, kUsual},
    Row{A::add_ranks, "add_ranks", "adding up ranks", "bucket", false, kUsual},
    Row{A::gather_norms, "gather_norms", "gathering of squares", "bucket", true, kUsual},
    Row{A::gather_gradients, "gather_gradients", "gathering of gradients", "bucket", true, kUsual},
    Row{A::gather_losses, "gather_losses", "gathering of losses", "", true, kUsual},
    Row{A::update, "update", "AdamW", "bucket", false, kUsual},
    Row{A::gather_weights, "gather_weights", "gathering of weights", "bucket", true, kUsual},
    Row{A::device, "device", "waiting for the device", "", false, kLong},
    Row{A::metrics, "metrics", "writing metrics", "", false, kLong},
    Row{A::agree_to_stop, "agree_to_stop", "agreement whether to stop", "", true, kUsual},
    Row{A::save, "save", "saving", "", false, kLong},
    Row{A::wait_for_save, "wait_for_save", "waiting for the save before", "", false, kLong},
    Row{A::gather_state, "gather_state", "gathering of the state to save", "", true, kLong},
    Row{A::agree_on_saved, "agree_on_saved", "agreement whether it was saved", "", true, kLong},
    Row{A::write_checkpoint, "write_checkpoint", "writing a checkpoint", "", false, kLong},
    Row{A::validation, "validation", "validation", "", false, kUsual},
    Row{A::sample, "sample", "sampling of a text", "", false, kUsual},
    Row{A::show, "show", "waiting for somebody to read the output", "", false, kForEver},
    Row{A::agree_on_end, "agree_on_end", "barrier at the end", "", true, kUsual},
};

constexpr bool rows_are_in_order() {
    for (size_t i = 0; i < kRows.size(); ++i)
        if (kRows[i].activity != static_cast<Activity>(i)) return false;
    return true;
}
static_assert(rows_are_in_order());

const Row& row_of(Activity activity) { return kRows.at(static_cast<size_t>(activity)); }

}  // namespace

std::string describe(Place place) {
    const Row& row = row_of(place.activity);
    if (place.number < 0) return std::string(row.text);
    return row.unit.empty()      ? fmt::format("{} {}", row.text, place.number)
           : row.unit == "layer" ? fmt::format("{} of layer {}", row.text, place.number)
                                 : fmt::format("{}, {} {}", row.text, row.unit, place.number);
}

std::string_view name_of(Activity activity) { return row_of(activity).name; }

std::optional<Activity> activity_of(std::string_view name) {
    const auto found = std::find_if(kRows.begin(), kRows.end(), [&](const Row& row) { return row.name == name; });
    return found == kRows.end() ? std::nullopt : std::optional(found->activity);
}

bool is_collective(Activity activity) { return row_of(activity).collective; }

double patience(Activity activity) { return row_of(activity).patience; }

Place Whereabouts::decisive() const {
    const auto of = [&](Track track) { return places[static_cast<size_t>(track)]; };
    const Place compute = of(Track::compute);
    const Track other = compute.activity == Activity::wait_for_save ? Track::saving : Track::communication;
    const bool waits = compute.activity == Activity::wait_for_save || compute.activity == Activity::wait_for_reduction;
    return waits && of(other).activity != Activity::nothing ? of(other) : compute;
}

Whereabouts CurrentPlaces::now() const {
    Whereabouts out;
    out.moves = moves_.load(std::memory_order_relaxed);
    out.step = step_.load(std::memory_order_relaxed);
    for (size_t i = 0; i < kTracks; ++i) out.places[i] = places_[i].load(std::memory_order_relaxed);
    return out;
}

}  // namespace ballast::train
