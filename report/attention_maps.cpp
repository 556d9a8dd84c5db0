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

void pack_map(const float* map, int64_t length, int64_t side, std::vector<uint8_t>& out) {
    const auto edge = [&](int64_t bucket) { return bucket * length / side; };
    for (int64_t i = 0; i < side; ++i)
        for (int64_t j = 0; j <= i; ++j) {
            double sum = 0;
            for (int64_t query = edge(i); query < edge(i + 1); ++query)
                for (int64_t key = edge(j); key < edge(j + 1); ++key)
                    sum += static_cast<double>(map[query * length + key]);
            const double weight = sum / static_cast<double>(edge(i + 1) - edge(i));
            out.push_back(weight > 0 ? static_cast<uint8_t>(std::lround(255 * std::sqrt(std::min(weight, 1.0)))) : 0);
        }
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
    AttentionMaps maps{info.shape[0], info.shape[1], info.shape[2], {}};
    maps.weights.resize(static_cast<size_t>(info.numel()));
    file.read_f32("attention", maps.weights);
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
    out.reserve(static_cast<size_t>(count * triangle(side)));
    for (int64_t map = 0; map < count; ++map)
        pack_map(maps.weights.data() + map * maps.length * maps.length, maps.length, side, out);
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
