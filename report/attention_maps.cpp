#include "report/attention_maps.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "base/error.h"
#include "base/safetensors.h"

namespace ballast::report {
namespace {

constexpr int64_t kLargestSide = 64, kSmallestSide = 8;

int64_t triangle(int64_t side) { return side * (side + 1) / 2; }

void pack_map(const float* map, int64_t length, int64_t side, bool causal, std::vector<uint8_t>& out) {
    const auto edge = [&](int64_t bucket) { return bucket * length / side; };
    for (int64_t i = 0; i < side; ++i)
        for (int64_t j = 0; j < (causal ? i + 1 : side); ++j) {
            double sum = 0;
            for (int64_t query = edge(i); query < edge(i + 1); ++query)
                for (int64_t key = edge(j); key < edge(j + 1); ++key)
                    sum += static_cast<double>(map[query * length + key]);
            const double weight = sum / static_cast<double>(edge(i + 1) - edge(i));
            out.push_back(weight > 0 ? static_cast<uint8_t>(std::lround(255 * std::sqrt(std::min(weight, 1.0)))) : 0);
        }
}

/// One map of logits, pooled.
std::vector<double> pool_logits(const float* map, int64_t length, int64_t side, bool causal) {
    const auto edge = [&](int64_t bucket) { return bucket * length / side; };
    std::vector<double> out;
    for (int64_t i = 0; i < side; ++i)
        for (int64_t j = 0; j < (causal ? i + 1 : side); ++j) {
            double sum = 0;
            int64_t seen = 0;
            for (int64_t query = edge(i); query < edge(i + 1); ++query)
                for (int64_t key = edge(j); key < std::min(edge(j + 1), causal ? query + 1 : length); ++key, ++seen)
                    sum += static_cast<double>(map[query * length + key]);
            out.push_back(sum / static_cast<double>(seen));
        }
    return out;
}

std::vector<float> read_map(const SafetensorsReader& file, const std::string& name, const std::vector<int64_t>& shape) {
    const SafetensorsInfo& info = file.info(name);
    if (info.shape != shape)
        throw UserError(fmt::format("{}: `{}` is [{}], not [{}] as `attention` is", file.path(), name,
                                    fmt::join(info.shape, ", "), fmt::join(shape, ", ")));
    std::vector<float> out(static_cast<size_t>(info.numel()));
    file.read_f32(name, out);
    return out;
}

bool is_causal(const AttentionMaps& maps) {
    const int64_t rows = maps.layers * maps.heads * maps.length;
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t key = row % maps.length + 1; key < maps.length; ++key)
            if (maps.weights[static_cast<size_t>(row * maps.length + key)] != 0) return false;
    return true;
}

}  // namespace

AttentionMaps read_attention_maps(const std::string& path) {
    const SafetensorsReader file(path);
    constexpr int64_t kLargest = int64_t{1} << 30;  // elements
    if (!file.has("attention")) throw UserError(fmt::format("{} has no tensor `attention`", path));
    const SafetensorsInfo& info = file.info("attention");
    if (info.shape.size() != 4 || info.shape[2] != info.shape[3] || info.numel() < 1 || info.numel() > kLargest)
        throw UserError(fmt::format("{}: `attention` is [{}], not [layers, heads, length, length]", path,
                                    fmt::join(info.shape, ", ")));
    AttentionMaps maps{info.shape[0], info.shape[1], info.shape[2], read_map(file, "attention", info.shape)};
    maps.causal = is_causal(maps);
    if (file.has("attention_logits")) maps.logits = read_map(file, "attention_logits", info.shape);
    return maps;
}

int64_t map_side(int64_t maps, int64_t bytes) {
    int64_t side = kLargestSide;
    while (side > kSmallestSide && maps * triangle(side) > bytes) --side;
    return side;
}

std::vector<uint8_t> pack_maps(const AttentionMaps& maps, int64_t side) {
    require(side >= 1 && side <= maps.length, "maps can only be made smaller");
    std::vector<uint8_t> out;
    const int64_t count = maps.layers * maps.heads;
    out.reserve(static_cast<size_t>(count * (maps.causal ? triangle(side) : side * side)));
    for (int64_t map = 0; map < count; ++map)
        pack_map(maps.weights.data() + map * maps.length * maps.length, maps.length, side, maps.causal, out);
    return out;
}

PackedLogits pack_logits(const AttentionMaps& maps, int64_t side) {
    require(side >= 1 && side <= maps.length, "maps can only be made smaller");
    PackedLogits out;
    for (int64_t map = 0; map < maps.layers * maps.heads; ++map) {
        const std::vector<double> cells =
            pool_logits(maps.logits.data() + map * maps.length * maps.length, maps.length, side, maps.causal);
        const bool finite = std::all_of(cells.begin(), cells.end(), [](double x) { return std::isfinite(x); });
        const auto [low, high] = std::minmax_element(cells.begin(), cells.end());
        out.low.push_back(finite ? *low : std::nan(""));
        out.high.push_back(finite ? *high : std::nan(""));
        const double step = finite && *high > *low ? (*high - *low) / 255 : 0;
        for (const double cell : cells)
            out.cells.push_back(step > 0 ? static_cast<uint8_t>(std::lround((cell - *low) / step)) : uint8_t{0});
    }
    return out;
}

std::string base64(const std::vector<uint8_t>& bytes) {
    static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (size_t i = 0; i < bytes.size(); i += 3) {
        const size_t have = std::min<size_t>(3, bytes.size() - i);
        uint32_t three = 0;
        for (size_t k = 0; k < 3; ++k) three = three << 8 | (k < have ? bytes[i + k] : 0u);
        for (size_t k = 0; k < 4; ++k) out += k <= have ? kDigits[three >> (18 - 6 * k) & 63] : '=';
    }
    return out;
}

}  // namespace ballast::report
