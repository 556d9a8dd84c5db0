#include "kernels/cuda/optimizer.cuh"

#include <algorithm>
#include <vector>

#include "kernels/cuda/ops.h"

namespace ballast::cuda {
namespace {

/// Pieces, then the first piece of every parameter and the end of the last.
struct TableLayout {
    int64_t pieces = 0, parameters;

    explicit TableLayout(std::span<const ParameterSpan> spans) : parameters(static_cast<int64_t>(spans.size())) {
        for (const ParameterSpan& span : spans) pieces += ceil_div(span.count, kPieceElements);
    }
    size_t first_piece_offset() const { return padded(static_cast<size_t>(pieces) * sizeof(Piece)); }
    size_t bytes() const { return first_piece_offset() + static_cast<size_t>(parameters + 1) * sizeof(int32_t); }
};

/// The table of one set of parameters, on the device.
struct Table {
    TableLayout layout;
    const Piece* pieces;
    const int32_t* first_piece;

    explicit Table(const ParameterSet& set)
        : layout(set.spans()),
          pieces(static_cast<const Piece*>(set.table())),
          first_piece(
              reinterpret_cast<const int32_t*>(static_cast<const char*>(set.table()) + layout.first_piece_offset())) {}
};

}  // namespace

/// Cuts every parameter from its own beginning, so its sums do not depend on where it lies.
DeviceBuffer parameter_table(Context& context, std::span<const ParameterSpan> spans) {
    const TableLayout layout(spans);
    std::vector<char> host(layout.bytes());
    auto* piece = reinterpret_cast<Piece*>(host.data());
    auto* first_piece = reinterpret_cast<int32_t*>(host.data() + layout.first_piece_offset());
    int32_t count = 0;
    for (size_t p = 0; p < spans.size(); ++p) {
        first_piece[p] = count;
        for (int64_t i = 0; i < spans[p].count; i += kPieceElements, ++count)
            *piece++ = {spans[p].offset + i, std::min(kPieceElements, spans[p].count - i), static_cast<int32_t>(p),
                        spans[p].decay ? 1 : 0};
    }
    first_piece[spans.size()] = count;
    DeviceBuffer table = context.allocate(host.size());
    context.copy_from_host(Tensor(table.data(), Dtype::u8, {static_cast<int64_t>(host.size())}), host.data());
    return table;
}

void sums_of_squares(Context& context, const Tensor& sum_of_squares, const Tensor& gradients,
                     const ParameterSet& parameters) {
    const Table table(parameters);
    if (table.layout.parameters == 0) return;
    const Scratch::Block scratch(context.scratch(), static_cast<size_t>(table.layout.pieces) * sizeof(double));
    auto* partials = static_cast<double*>(scratch.data());
    with_accumulation_type(gradients.dtype, [&]<class A>(A) {
        if (table.layout.pieces > 0)
            launch(sums_of_squares_kernel<A>, grid_of(table.layout.pieces, 1), kOptimizerThreads, {}, context.stream(),
                   partials, data_of<const A>(gradients), table.pieces);
    });
    launch(parameter_sums_kernel, grid_of(table.layout.parameters, 1), kWarpSize, {}, context.stream(),
           data_of<double>(sum_of_squares), partials, table.first_piece);
}

void global_norm(Context& context, const Tensor& scalars, const Tensor& sum_of_squares, const Tensor& losses,
                 double clip_norm) {
    launch(global_norm_kernel, 1, kOptimizerThreads, {}, context.stream(), data_of<ops::StepScalars>(scalars),
           data_of<const double>(sum_of_squares), static_cast<int>(sum_of_squares.dim(0)),
           data_of<const double>(losses), static_cast<int>(losses.dim(0)), clip_norm);
}

void adamw(Context& context, const Tensor& master, const Tensor& compute, const Tensor& m, const Tensor& v,
           const Tensor& gradients, const ParameterSet& parameters, const Tensor& scalars, const AdamW& options) {
    const Table table(parameters);
    if (table.layout.pieces == 0) return;
    with_compute_type(compute.empty() ? master.dtype : compute.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        launch(adamw_kernel<T>, grid_of(table.layout.pieces, 1), kOptimizerThreads, {}, context.stream(),
               data_of<A>(master), data_of<T>(compute), data_of<A>(m), data_of<A>(v), data_of<const A>(gradients),
               table.pieces, data_of<const ops::StepScalars>(scalars), options);
    });
}

}  // namespace ballast::cuda
