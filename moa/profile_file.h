// What a profile holds, and its file: how much a loss changes when a query no longer sees a key, by layer, head and
// block.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "infer/span_plan.h"

namespace ballast::moa {

/// Influence at one length, summed over the sequences that were run (docs/moa.md says what E is). Blocks that follow
/// the query's hold 0.
struct LengthProfile {
    int64_t length = 0;              // positions of a sequence
    int64_t sequences = 0;           // run so far
    int64_t answer_tokens = 0;       // that the loss was taken on, in all of them
    double loss = 0;                 // sum over sequences of their mean loss over answer tokens
    std::vector<double> absolute;    // [layers, heads, blocks, blocks] of |E|
    std::vector<double> signed_sum;  // of E
    /// Second-order losses in nats a scored token, added up over `draws` labellings: what a head, or the query heads of
    /// a key-value head together, lose when they see the sinks (one block) and m blocks less one position before
    /// themselves. [layers, heads, blocks - 1] and [layers, kv_heads, blocks - 1], m = 1 …; empty: not profiled.
    int64_t draws = 0;
    std::vector<double> second_order_heads, second_order_groups;

    bool operator==(const LengthProfile&) const = default;
};

struct Profile {
    std::string model;       // as it was named
    int64_t step = -1;       // of a checkpoint
    infer::PlanShape shape;  // query heads are profiled, also where they share keys
    int64_t max_positions = 0;
    int64_t block = 64;
    int64_t draws = 0;                   // labellings of each sequence; 0: no second-order losses
    std::string calibration;             // a checksum of the items: a profile goes on with the same ones only
    std::vector<LengthProfile> lengths;  // ascending

    int64_t blocks(const LengthProfile& at) const { return (at.length + block - 1) / block; }
    /// Spans that second-order losses are there for.
    int64_t spans(const LengthProfile& at) const { return blocks(at) - 1; }
    bool operator==(const Profile&) const = default;
};

/// HDF5 (docs/formats.md). Written whole, atomically.
void write_profile(const std::string& path, const Profile& profile);
/// UserError, naming the file, when it is none, is damaged, or holds what cannot be.
Profile read_profile(const std::string& path);

/// 16 hexadecimal digits of `text`.
std::string checksum_of(const std::string& text);

}  // namespace ballast::moa
