// Matrices of weights for reading, in fewer bits than the model computes in.
#pragma once

#include <map>
#include <vector>

#include "kernels/context.h"
#include "model/parameter_table.h"

namespace ballast::model {

/// Where the rows of a table lie in an array that holds only some of them, one behind the other.
class RowPlaces {
  public:
    RowPlaces() = default;
    /// `extent` of a row: its elements in the array; 0: it is not there.
    template <class Extent>
    RowPlaces(const ParameterTable& table, Extent&& extent) {
        for (const ParameterRow& row : table.rows())
            if (const int64_t elements = extent(row); elements > 0) {
                places_[row.offset] = size_;
                size_ += elements;
            }
    }
    int64_t size() const { return size_; }
    bool holds(const ParameterRow& row) const { return places_.contains(row.offset); }
    /// Where a row begins, or rows that are joined to one.
    int64_t of(const ParameterRow& row) const {
        const auto found = places_.find(row.offset);
        require(found != places_.end(), "a parameter that lies elsewhere");
        return found->second;
    }

  private:
    std::map<int64_t, int64_t> places_;
    int64_t size_ = 0;
};

/// The rows of a table that may be narrow (ParameterRow::may_narrow), in bf16 or in i8. With i8 each output's row has a
/// scale: the largest of its magnitudes / 127, by which its weights are divided before they are rounded to nearest
/// even.
class NarrowMatrices {
  public:
    NarrowMatrices() = default;
    NarrowMatrices(const Context& context, const ParameterTable& table, Dtype dtype);
    /// Device memory of such an array, known before it is made.
    static size_t bytes(const ParameterTable& table, Dtype dtype);

    bool holds(const ParameterRow& row) const { return places_.holds(row); }
    Dtype dtype() const { return dtype_; }
    /// A matrix [O,I], or matrices joined to one, with its scales; without a bias.
    ops::LinearWeight of(const ParameterRow& row) const;
    void write(const Context& context, const ParameterRow& row, const float* values);
    /// The numbers that a row stands for, on the host.
    std::vector<float> read(const Context& context, const ParameterRow& row) const;

  private:
    Dtype dtype_ = Dtype::i8;
    RowPlaces places_, scale_places_;
    DeviceBuffer weights_, scales_;
};

/// One row of weights in 8 bits; returns its scale. Zeros have a scale of 0, and a row that is not finite one of NaN.
float quantise_row(const float* values, int64_t count, int8_t* out);

}  // namespace ballast::model
