// Weight matrices for inference, stored in fewer bits than the compute dtype.
#pragma once

#include <map>
#include <vector>

#include "kernels/context.h"
#include "model/parameter_table.h"

namespace ballast::model {

/// The places of a table's rows in an array that holds only some of the rows, one after another.
class RowPlaces {
  public:
    RowPlaces() = default;
    /// `extent` gives the number of a row's elements in the array; 0: the row is not in it.
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
    /// The offset of a row, or of joined rows.
    int64_t of(const ParameterRow& row) const {
        const auto found = places_.find(row.offset);
        require(found != places_.end(), "a parameter that lies elsewhere");
        return found->second;
    }

  private:
    std::map<int64_t, int64_t> places_;
    int64_t size_ = 0;
};

/// The rows of a table that may be narrow (ParameterRow::may_narrow), in bf16 or i8. With i8 every output row has a
/// scale: its largest magnitude / 127. The weights are divided by the scale and then rounded to nearest even.
class NarrowMatrices {
  public:
    NarrowMatrices() = default;
    NarrowMatrices(const Context& context, const ParameterTable& table, Dtype dtype);
    /// The device memory of such an array, known before the array is made.
    static size_t bytes(const ParameterTable& table, Dtype dtype);

    bool holds(const ParameterRow& row) const { return places_.holds(row); }
    Dtype dtype() const { return dtype_; }
    /// A matrix [O,I], or joined matrices, with its scales and without a bias.
    ops::LinearWeight of(const ParameterRow& row) const;
    void write(const Context& context, const ParameterRow& row, const float* values);
    /// The dequantised values of a row, on the host.
    std::vector<float> read(const Context& context, const ParameterRow& row) const;

  private:
    Dtype dtype_ = Dtype::i8;
    RowPlaces places_, scale_places_;
    DeviceBuffer weights_, scales_;
};

/// Quantises one row of weights to 8 bits and returns its scale. A row of zeros has scale 0; a row with a value that is
/// not finite has scale NaN.
float quantise_row(const float* values, int64_t count, int8_t* out);

}  // namespace ballast::model
