// A profile and its file: how much a loss changes when a query no longer sees a key, by layer, head and block.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "infer/span_plan.h"

namespace ballast::moa {

/// Influence at one length, summed over the sequences that were run (docs/moa.md defines E). Blocks after the query's
/// block hold 0.
struct LengthProfile {
    int64_t length = 0;              // positions of a sequence
    int64_t sequences = 0;           // run so far
    int64_t answer_tokens = 0;       // scored tokens in all these sequences
    double loss = 0;                 // sum over sequences of their mean loss over answer tokens
    std::vector<double> absolute;    // [layers, heads, blocks, blocks] of |E|
    std::vector<double> signed_sum;  // of E
    /// Second-order losses in nats per scored token, summed over `draws` labellings: the loss of a head, or of the
    /// query heads of a key-value head together, when they see the sinks (one block) and the last m blocks less one
    /// position. [layers, heads, blocks - 1] and [layers, kv_heads, blocks - 1], m = 1 …; empty: not profiled.
    int64_t draws = 0;  // as many for each sequence
    std::vector<double> second_order_heads, second_order_groups;

    bool operator==(const LengthProfile&) const = default;
};

inline constexpr int64_t kMostDraws = 1 << 20;  // labellings of a sequence

/// How the items were encoded and the model run: other settings give other numbers, so a profile goes on with the same.
/// Empty where a file does not say, as older ones do not.
struct ProfileSettings {
    std::string dtype, gemm, tokenizer;  // the last one is data::Tokenizer::hash()

    bool operator==(const ProfileSettings&) const = default;
};

struct Profile {
    std::string model;       // as named by the user
    int64_t step = -1;       // of a checkpoint
    infer::PlanShape shape;  // query heads are profiled, also where they share keys
    int64_t max_positions = 0;
    int64_t block = 64;
    int64_t draws = 0;        // labellings of each sequence; 0: no second-order losses
    std::string calibration;  // a checksum of the items: a profile can only continue with the same items
    ProfileSettings settings;
    std::vector<LengthProfile> lengths;  // ascending

    int64_t blocks(const LengthProfile& at) const { return (at.length + block - 1) / block; }
    /// The number of spans with second-order losses.
    int64_t spans(const LengthProfile& at) const { return blocks(at) - 1; }
    bool operator==(const Profile&) const = default;
};

/// HDF5 (docs/formats.md). Written atomically.
void write_profile(const std::string& path, const Profile& profile);
/// UserError that names the file when it is not a profile, is damaged, or contains impossible values.
Profile read_profile(const std::string& path);

/// 16 hexadecimal digits of `text`.
std::string checksum_of(const std::string& text);

}  // namespace ballast::moa
