// The bookkeeping of the paged cache: the free blocks, and the blocks of a sequence for every layer and key-value head.
// It holds only block numbers; the rows themselves are on the device (infer/cached_model.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "infer/kept_rows.h"

namespace ballast::infer {

/// Allocates blocks by number. Several sequences may hold the same block (for example a common prefix); the block is
/// free again when its last holder has given it back.
class FreeBlocks {
  public:
    explicit FreeBlocks(int64_t count);

    int64_t count() const { return static_cast<int64_t>(holders_.size()); }
    int64_t free() const { return static_cast<int64_t>(free_.size()); }
    /// Takes a free block, the most recently freed one first. The caller is its only holder.
    int32_t take();
    /// Adds one holder.
    void share(int32_t block);
    /// Removes one holder.
    void give_back(int32_t block);
    int32_t holders(int32_t block) const { return holders_[static_cast<size_t>(block)]; }

  private:
    std::vector<int32_t> free_;     // a stack
    std::vector<int32_t> holders_;  // by block
};

/// The number of blocks that a sequence needs for every layer and key-value head, computed from the rows they keep.
class BlockShape {
  public:
    /// `block_rows`: rows of a block.
    BlockShape(std::span<const LayerRows> layers, int64_t block_rows);

    int64_t layers() const { return layers_; }
    int64_t heads() const { return heads_; }
    /// Blocks of one head for a sequence of `positions` positions.
    int64_t blocks(int64_t layer, int64_t head, int64_t positions) const;
    /// The sum over all layers and heads.
    int64_t blocks(int64_t positions) const;
    /// The largest number of blocks of one head: the width of a block table.
    int64_t width(int64_t positions) const;
    /// The rows that all layers and heads keep of `positions` positions.
    int64_t rows(int64_t positions) const;

  private:
    const HeadCache& ring(int64_t layer, int64_t head) const {
        return rings_[static_cast<size_t>(layer * heads_ + head)];
    }

    int64_t layers_, heads_ = 0, block_rows_;
    std::vector<HeadCache> rings_;  // [L,G]
};

/// The blocks of one sequence. All are taken at once, and given back at the end of the object's life.
class BlockList {
  public:
    BlockList() = default;
    /// Takes blocks for `positions` positions; as many must be free.
    BlockList(FreeBlocks& free, const BlockShape& shape, int64_t positions);
    ~BlockList();
    BlockList(BlockList&& other) noexcept { swap(other); }
    BlockList& operator=(BlockList&& other) noexcept {
        swap(other);
        return *this;
    }

    /// The number of positions that the blocks have room for.
    int64_t positions() const { return positions_; }
    /// Blocks of one layer and head, in the order of their slots.
    std::span<const int32_t> of(int64_t layer, int64_t head) const;
    /// The row of slot `slot` of a head among all rows of the pool: block * block_rows + row.
    int32_t row(int64_t layer, int64_t head, int64_t slot, int64_t block_rows) const;

  private:
    void swap(BlockList& other) noexcept;

    FreeBlocks* free_ = nullptr;
    int64_t heads_ = 0, positions_ = 0;
    std::vector<int32_t> blocks_;
    std::vector<size_t> begins_;  // where each (layer, head) begins in blocks_; the last value is the end
};

}  // namespace ballast::infer
