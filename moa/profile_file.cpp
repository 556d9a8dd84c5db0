#include "moa/profile_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <functional>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/hdf5_file.h"

namespace ballast::moa {
namespace {

constexpr const char* kKind = "ballast MoA profile 1";
constexpr int64_t kMostHeads = 1 << 20, kMostPositions = 1 << 24;  // beyond what any model has: a file that lies

constexpr std::array<std::pair<const char*, std::string ProfileSettings::*>, 3> kSettings{
    {{"dtype", &ProfileSettings::dtype}, {"gemm", &ProfileSettings::gemm}, {"tokenizer", &ProfileSettings::tokenizer}}};

std::string dataset(int64_t length, const char* what) { return fmt::format("influence/{}/{}", length, what); }
std::string attribute(int64_t length, const char* what) { return fmt::format("length_{}_{}", length, what); }

std::array<int64_t, 4> shape_of(const Profile& profile, const LengthProfile& at) {
    return {profile.shape.layers, profile.shape.heads, profile.blocks(at), profile.blocks(at)};
}

std::array<int64_t, 3> second_order_shape(const Profile& profile, const LengthProfile& at, int64_t entries) {
    return {profile.shape.layers, entries, profile.spans(at)};
}

void require_between(const std::string& path, const char* name, int64_t value, int64_t least, int64_t most) {
    if (value < least || value > most)
        throw UserError(fmt::format("{}: {} is {}, which cannot be; make the profile again", path, name, value));
}

void read_head(const Hdf5Reader& file, const std::string& path, Profile& p) {
    if (!file.has_attribute("kind") || file.string_attribute("kind") != kKind)
        throw UserError(fmt::format("{}: not a profile; make one with ballast moa profile", path));
    p.model = file.string_attribute("model");
    p.step = file.integer_attribute("step");
    p.calibration = file.string_attribute("calibration");
    for (const auto& [name, setting] : kSettings)
        if (file.has_attribute(name)) p.settings.*setting = file.string_attribute(name);
    const auto positive = [&](const char* name, int64_t most) {
        const int64_t value = file.integer_attribute(name);
        require_between(path, name, value, 1, most);
        return value;
    };
    p.shape = {positive("layers", kMostHeads), positive("heads", kMostHeads), positive("key_value_heads", kMostHeads)};
    if (p.shape.heads % p.shape.kv_heads != 0)
        throw UserError(fmt::format("{}: {} heads do not share {} key-value heads; make the profile again", path,
                                    p.shape.heads, p.shape.kv_heads));
    p.max_positions = positive("max_positions", int64_t{1} << 40);
    p.block = positive("block", kMostPositions);
    if (file.has_attribute("draws")) p.draws = file.integer_attribute("draws");  // older files have none
    require_between(path, "draws", p.draws, 0, kMostDraws);
}

/// Lengths are what the datasets' names say.
std::vector<int64_t> lengths_in(const Hdf5Reader& file, const std::string& path, int64_t block) {
    std::vector<int64_t> out;
    for (const std::string& name : file.names()) {
        int64_t length = 0;
        int end = 0;
        if (std::sscanf(name.c_str(), "influence/%ld/absolute%n", &length, &end) != 1 ||
            end != static_cast<int>(name.size()))
            continue;
        require_between(path, "a length", length, 2 * block, kMostPositions);  // with fewer blocks there is no span
        out.push_back(length);
    }
    std::sort(out.begin(), out.end());
    if (out.empty()) throw UserError(fmt::format("{}: no length was profiled; make the profile again", path));
    return out;
}

}  // namespace

void write_profile(const std::string& path, const Profile& profile) {
    Hdf5Writer file(path);
    file.set_attribute("kind", kKind);
    file.set_attribute("model", profile.model);
    file.set_attribute("step", profile.step);
    file.set_attribute("calibration", profile.calibration);
    for (const auto& [name, setting] : kSettings)
        if (const std::string& value = profile.settings.*setting; !value.empty()) file.set_attribute(name, value);
    file.set_attribute("layers", profile.shape.layers);
    file.set_attribute("heads", profile.shape.heads);
    file.set_attribute("key_value_heads", profile.shape.kv_heads);
    file.set_attribute("max_positions", profile.max_positions);
    file.set_attribute("block", profile.block);
    file.set_attribute("draws", profile.draws);
    for (const LengthProfile& at : profile.lengths) {
        file.set_attribute(attribute(at.length, "sequences"), at.sequences);
        file.set_attribute(attribute(at.length, "answer_tokens"), at.answer_tokens);
        file.set_attribute(attribute(at.length, "loss"), at.loss);
        file.write(dataset(at.length, "absolute"), Dtype::f64, shape_of(profile, at), at.absolute.data());
        file.write(dataset(at.length, "signed"), Dtype::f64, shape_of(profile, at), at.signed_sum.data());
        if (profile.draws == 0) continue;
        file.set_attribute(attribute(at.length, "draws"), at.draws);
        file.write(dataset(at.length, "second_order_heads"), Dtype::f64,
                   second_order_shape(profile, at, profile.shape.heads), at.second_order_heads.data());
        file.write(dataset(at.length, "second_order_groups"), Dtype::f64,
                   second_order_shape(profile, at, profile.shape.kv_heads), at.second_order_groups.data());
    }
    file.commit();
}

Profile read_profile(const std::string& path) {
    const Hdf5Reader file(path);
    Profile profile;
    read_head(file, path, profile);
    for (const int64_t length : lengths_in(file, path, profile.block)) {
        LengthProfile& at = profile.lengths.emplace_back();
        at.length = length;
        at.sequences = file.integer_attribute(attribute(length, "sequences"));
        at.answer_tokens = file.integer_attribute(attribute(length, "answer_tokens"));
        at.loss = file.real_attribute(attribute(length, "loss"));
        require_between(path, "a number of sequences", at.sequences, 0, int64_t{1} << 40);
        const auto read = [&](const char* what, const auto& shape, std::vector<double>& out) {
            const std::string name = dataset(length, what);
            if (const Hdf5Dataset stored = file.dataset(name);  // before memory is taken for what the head says
                stored.shape != std::vector<int64_t>(shape.begin(), shape.end()))
                throw UserError(fmt::format("{}: {} has another shape than the model's heads and blocks", path, name));
            out.resize(static_cast<size_t>(
                std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>())));
            file.read_all(name, Dtype::f64, shape, out.data());
            if (!std::all_of(out.begin(), out.end(), [](double value) { return std::isfinite(value); }))
                throw UserError(
                    fmt::format("{}: {} holds values that are not finite; make the profile again", path, name));
        };
        read("absolute", shape_of(profile, at), at.absolute);
        read("signed", shape_of(profile, at), at.signed_sum);
        if (profile.draws == 0) continue;
        at.draws = file.integer_attribute(attribute(length, "draws"));
        const int64_t draws = profile.draws * at.sequences;
        require_between(path, "a number of draws", at.draws, draws, draws);
        read("second_order_heads", second_order_shape(profile, at, profile.shape.heads), at.second_order_heads);
        read("second_order_groups", second_order_shape(profile, at, profile.shape.kv_heads), at.second_order_groups);
    }
    return profile;
}

std::string checksum_of(const std::string& text) {
    uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    return fmt::format("{:016x}", hash);
}

}  // namespace ballast::moa
