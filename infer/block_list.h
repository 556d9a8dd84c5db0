// The paged cache's book-keeping: which blocks of rows are free, and which blocks a sequence has for every layer and
// key-value head. Only numbers; the rows themselves are on the device (infer/cache_pool.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "infer/kept_rows.h"

namespace ballast::infer {

/// Hands out blocks by number. A block that several sequences hold (a common prefix, say) is free again when the last
/// has given it back.
class FreeBlocks {
  public:
    explicit FreeBlocks(int64_t count);

    int64_t count() const { return static_cast<int64_t>(holders_.size()); }
    int64_t free() const { return static_cast<int64_t>(free_.size()); }
    /// A free block, the last one given back first; its caller is its one holder.
    int32_t take();
    /// One more holder.
    void share(int32_t block);
    /// One holder less.
    void give_back(int32_t block);
    int32_t holders(int32_t block) const { return holders_[static_cast<size_t>(block)]; }

  private:
    std::vector<int32_t> free_;     // a stack
    std::vector<int32_t> holders_;  // by block
};

/// How many blocks a sequence needs for every layer and key-value head, by the rows that they keep.
class BlockShape {
  public:
    /// `block_rows`: rows of a block.
    BlockShape(std::span<const LayerRows> layers, int64_t block_rows);

    int64_t layers() const { return layers_; }
    int64_t heads() const { return heads_; }
    /// Blocks of one head for a sequence of so many positions.
    int64_t blocks(int64_t layer, int64_t head, int64_t positions) const;
    /// Of all layers and heads.
    int64_t blocks(int64_t positions) const;
    /// The most of one head: the width of a table of blocks.
    int64_t width(int64_t positions) const;
    /// Rows that all layers and heads keep of so many positions.
    int64_t rows(int64_t positions) const;

  private:
    const HeadCache& ring(int64_t layer, int64_t head) const {
        return rings_[static_cast<size_t>(layer * heads_ + head)];
    }

    int64_t layers_, heads_ = 0, block_rows_;
    std::vector<HeadCache> rings_;  // [L,G]
};

/// The blocks of one sequence, all taken at once and given back at the end of its life.
class BlockList {
  public:
    BlockList() = default;
    /// Enough for so many positions; they must be free.
    BlockList(FreeBlocks& free, const BlockShape& shape, int64_t positions);
    ~BlockList();
    BlockList(BlockList&& other) noexcept { swap(other); }
    BlockList& operator=(BlockList&& other) noexcept {
        swap(other);
        return *this;
    }

    /// Positions that there is room for.
    int64_t positions() const { return positions_; }
    /// Blocks of one layer and head, in the order of their slots.
    std::span<const int32_t> of(int64_t layer, int64_t head) const;
    /// Where slot `slot` of a head is among all rows of the pool: block * block_rows + row.
    int32_t row(int64_t layer, int64_t head, int64_t slot, int64_t block_rows) const;

  private:
    void swap(BlockList& other) noexcept;

    FreeBlocks* free_ = nullptr;
    int64_t heads_ = 0, positions_ = 0;
    std::vector<int32_t> blocks_;
    std::vector<size_t> begins_;  // where each (layer, head) begins in blocks_, and the end
};

}  // namespace ballast::infer
