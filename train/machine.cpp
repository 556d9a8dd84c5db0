#include "train/machine.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"

namespace ballast::train {
namespace {

constexpr double kTera = 1e12, kGiga = 1e9;

/// Dense bf16 products without sparsity, f32 sums; memory bandwidth; memory.
struct DataSheet {
    const char* name;
    double tera_flops, gigabytes_per_second, gigabytes;
    const char* source;
};
constexpr DataSheet kSheets[] = {
    {"a100-40gb", 312, 1555, 40, "NVIDIA A100 Tensor Core GPU data sheet, SXM4 40 GB"},
    {"a100", 312, 2039, 80, "NVIDIA A100 Tensor Core GPU data sheet, SXM4 80 GB"},
    {"h100-pcie", 756, 2000, 80, "NVIDIA H100 Tensor Core GPU data sheet, PCIe, without sparsity"},
    {"h100", 989.4, 3350, 80, "NVIDIA H100 Tensor Core GPU data sheet, SXM5, without sparsity"},
    {"h200", 989.4, 4800, 141, "NVIDIA H200 Tensor Core GPU data sheet, SXM5, without sparsity"},
    {"b200", 2250, 8000, 180, "NVIDIA DGX B200 data sheet, an eighth, without sparsity"},
    {"l4", 121, 300, 24, "NVIDIA L4 data sheet, without sparsity"},
    {"l40s", 362, 864, 48, "NVIDIA L40S data sheet, without sparsity"},
    {"rtx3090", 71, 936.2, 24, "NVIDIA Ampere GA102 whitepaper, GeForce RTX 3090, f32 sums"},
    {"rtx4090", 165.2, 1008, 24, "NVIDIA Ada GPU Architecture whitepaper, GeForce RTX 4090, f32 sums"},
};

/// Of the data sheet's rates, on the one GPU that was measured (docs/results/gpu/2026-11-28-H200-first): the products
/// of a layer of 768 channels, forward and backward; attention with wgmma up to heads of 128 and with mma.sync above,
/// forward and backward, causal operations; between 0.61 of the residual's norms and 0.72 of AdamW for what moves
/// memory, as the ops that were far below have been rewritten since.
constexpr double kProductShare = 0.52, kMemoryShare = 0.65;
double attention_share(int64_t head_dim) { return head_dim <= 64 ? 0.31 : head_dim <= 128 ? 0.38 : 0.12; }
constexpr const char* kShares =
    "shares of the data sheet's rates as our kernels reached them on an H200 "
    "(docs/results/gpu/2026-11-28-H200-first); on other GPUs they are assumed";

}  // namespace

std::vector<std::string> machine_names() {
    std::vector<std::string> names{"cpu"};
    for (const DataSheet& sheet : kSheets) names.emplace_back(sheet.name);
    return names;
}

Machine machine_named(std::string_view name, Dtype dtype, int64_t head_dim) {
    const auto* sheet =
        std::find_if(std::begin(kSheets), std::end(kSheets), [&](const auto& s) { return s.name == name; });
    if (sheet == std::end(kSheets))
        throw UserError(fmt::format("no GPU \"{}\" in the table; it has {}", name, fmt::join(machine_names(), ", ")));
    if (size_of(dtype) != 2)
        throw UserError(fmt::format(
            "a GPU's rates are those of bf16 and fp16, and the run computes in {}; pass --set train.dtype=bf16",
            name_of(dtype)));
    return {.name = sheet->name,
            .flops = sheet->tera_flops * kTera,
            .bandwidth = sheet->gigabytes_per_second * kGiga,
            .memory = sheet->gigabytes * kGiga,
            .product_share = kProductShare,
            .attention_share = attention_share(head_dim),
            .memory_share = kMemoryShare,
            .source = sheet->source,
            .shares = kShares};
}

Machine shared_out(Machine machine, int ranks) {
    machine.flops /= ranks;
    machine.bandwidth /= ranks;
    machine.memory /= ranks;
    return machine;
}

Network parse_network(std::string_view text) {
    const auto refuse = [&] {
        return UserError(
            fmt::format("\"{}\" is no network's rate; give bits or bytes a second, e.g. 400Gb/s or 50GB/s", text));
    };
    double rate = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), rate);
    if (error != std::errc{} || !(rate > 0) || !std::isfinite(rate)) throw refuse();
    std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
    while (unit.starts_with(' ')) unit.remove_prefix(1);
    constexpr std::string_view kPrefixes = "kMGT";
    if (!unit.empty())
        if (const size_t power = kPrefixes.find(unit.front()); power != std::string_view::npos) {
            rate *= std::pow(1000.0, static_cast<double>(power + 1));
            unit.remove_prefix(1);
        }
    if (unit == "b/s" || unit == "bit/s") return {.bandwidth = rate / 8};
    if (unit == "B/s") return {.bandwidth = rate};
    throw refuse();
}

}  // namespace ballast::train
