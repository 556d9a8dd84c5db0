#include "infer/block_list.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace ballast::infer {

FreeBlocks::FreeBlocks(int64_t count) : holders_(static_cast<size_t>(count), 0) {
    free_.reserve(static_cast<size_t>(count));
    for (int64_t block = count - 1; block >= 0; --block) free_.push_back(static_cast<int32_t>(block));
}

int32_t FreeBlocks::take() {
    require(!free_.empty(), "no cache block is free");
    const int32_t block = free_.back();
    free_.pop_back();
    holders_[static_cast<size_t>(block)] = 1;
    return block;
}

void FreeBlocks::share(int32_t block) {
    require(holders(block) > 0, "a cache block that nobody holds");
    ++holders_[static_cast<size_t>(block)];
}

void FreeBlocks::give_back(int32_t block) {
    require(holders(block) > 0, "a cache block that nobody holds");
    if (--holders_[static_cast<size_t>(block)] == 0) free_.push_back(block);
}

BlockShape::BlockShape(std::span<const LayerRows> layers, int64_t block_rows)
    : layers_(static_cast<int64_t>(layers.size())), block_rows_(block_rows) {
    for (const LayerRows& layer : layers) {
        heads_ = static_cast<int64_t>(layer.rings.size());
        rings_.insert(rings_.end(), layer.rings.begin(), layer.rings.end());
    }
}

int64_t BlockShape::blocks(int64_t layer, int64_t head, int64_t positions) const {
    return (slots_in_use(ring(layer, head), positions) + block_rows_ - 1) / block_rows_;
}

int64_t BlockShape::blocks(int64_t positions) const {
    int64_t total = 0;
    for (int64_t l = 0; l < layers_; ++l)
        for (int64_t g = 0; g < heads_; ++g) total += blocks(l, g, positions);
    return total;
}

int64_t BlockShape::width(int64_t positions) const {
    int64_t widest = 0;
    for (int64_t l = 0; l < layers_; ++l)
        for (int64_t g = 0; g < heads_; ++g) widest = std::max(widest, blocks(l, g, positions));
    return widest;
}

int64_t BlockShape::rows(int64_t positions) const {
    int64_t total = 0;
    for (const HeadCache& head : rings_) total += slots_in_use(head, positions);
    return total;
}

BlockList::BlockList(FreeBlocks& free, const BlockShape& shape, int64_t positions)
    : free_(&free), heads_(shape.heads()), positions_(positions) {
    require(shape.blocks(positions) <= free.free(), "more cache blocks than are free");
    for (int64_t l = 0; l < shape.layers(); ++l)
        for (int64_t g = 0; g < heads_; ++g) {
            begins_.push_back(blocks_.size());
            for (int64_t n = shape.blocks(l, g, positions); n > 0; --n) blocks_.push_back(free.take());
        }
    begins_.push_back(blocks_.size());
}

BlockList::~BlockList() {
    for (const int32_t block : blocks_) free_->give_back(block);
}

void BlockList::swap(BlockList& other) noexcept {
    std::swap(free_, other.free_);
    std::swap(heads_, other.heads_);
    std::swap(positions_, other.positions_);
    blocks_.swap(other.blocks_);
    begins_.swap(other.begins_);
}

std::span<const int32_t> BlockList::of(int64_t layer, int64_t head) const {
    const auto at = static_cast<size_t>(layer * heads_ + head);
    return std::span(blocks_).subspan(begins_[at], begins_[at + 1] - begins_[at]);
}

int32_t BlockList::row(int64_t layer, int64_t head, int64_t slot, int64_t block_rows) const {
    const auto blocks = of(layer, head);
    require(slot / block_rows < static_cast<int64_t>(blocks.size()), "a slot beyond the sequence's blocks");
    return static_cast<int32_t>(blocks[static_cast<size_t>(slot / block_rows)] * block_rows + slot % block_rows);
}

}  // namespace ballast::infer
