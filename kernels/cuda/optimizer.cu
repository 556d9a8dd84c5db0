#include "kernels/cuda/optimizer.cuh"

#include <algorithm>
#include <vector>

#include "kernels/cuda/ops.h"

namespace ballast::cuda {
namespace {

/// Cuts every parameter from its own beginning, so its sums do not depend on where it lies.
struct Pieces {
    std::vector<Piece> pieces;
    std::vector<int32_t> first_piece;

    explicit Pieces(std::span<const ParameterSpan> parameters) {
        for (size_t p = 0; p < parameters.size(); ++p) {
            first_piece.push_back(static_cast<int32_t>(pieces.size()));
            for (int64_t i = 0; i < parameters[p].count; i += kPieceElements)
                pieces.push_back({parameters[p].offset + i, std::min(kPieceElements, parameters[p].count - i),
                                  static_cast<int32_t>(p), parameters[p].decay ? 1 : 0});
        }
        first_piece.push_back(static_cast<int32_t>(pieces.size()));
    }
    size_t pieces_bytes() const { return padded(pieces.size() * sizeof(Piece)); }
    size_t first_piece_bytes() const { return padded(first_piece.size() * sizeof(int32_t)); }
    size_t partials_bytes() const { return pieces.size() * sizeof(double); }
};

void copy_to_device(const Context& context, void* device, const void* host, size_t bytes) {
    if (bytes > 0) context.copy_from_host(Tensor(device, Dtype::u8, {static_cast<int64_t>(bytes)}), host);
}

}  // namespace

void global_norm(Context& context, const Tensor& scalars, const Tensor& sum_of_squares, const Tensor& gradients,
                 std::span<const ParameterSpan> parameters, const Tensor& losses, double clip_norm) {
    const Pieces cut(parameters);
    const Scratch::Block scratch(context.scratch(),
                                 cut.pieces_bytes() + cut.first_piece_bytes() + cut.partials_bytes());
    char* memory = static_cast<char*>(scratch.data());
    auto* pieces = reinterpret_cast<Piece*>(memory);
    auto* first_piece = reinterpret_cast<int32_t*>(memory + cut.pieces_bytes());
    auto* partials = reinterpret_cast<double*>(memory + cut.pieces_bytes() + cut.first_piece_bytes());
    copy_to_device(context, pieces, cut.pieces.data(), cut.pieces.size() * sizeof(Piece));
    copy_to_device(context, first_piece, cut.first_piece.data(), cut.first_piece.size() * sizeof(int32_t));
    with_accumulation_type(gradients.dtype, [&]<class A>(A) {
        if (!cut.pieces.empty())
            launch(sums_of_squares_kernel<A>, grid_of(static_cast<int64_t>(cut.pieces.size()), 1), kOptimizerThreads,
                   {}, context.stream(), partials, data_of<const A>(gradients), pieces);
    });
    launch(finish_norm_kernel, 1, kOptimizerThreads, {}, context.stream(), data_of<ops::StepScalars>(scalars),
           data_of<double>(sum_of_squares), partials, first_piece, static_cast<int>(parameters.size()),
           data_of<const double>(losses), static_cast<int>(losses.dim(0)), clip_norm);
}

void adamw(Context& context, const Tensor& master, const Tensor& compute, const Tensor& m, const Tensor& v,
           const Tensor& gradients, std::span<const ParameterSpan> parameters, const Tensor& scalars,
           const AdamW& options) {
    const Pieces cut(parameters);
    if (cut.pieces.empty()) return;
    const Scratch::Block scratch(context.scratch(), cut.pieces_bytes());
    auto* pieces = static_cast<Piece*>(scratch.data());
    copy_to_device(context, pieces, cut.pieces.data(), cut.pieces.size() * sizeof(Piece));
    with_compute_type(compute.empty() ? master.dtype : compute.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        launch(adamw_kernel<T>, grid_of(static_cast<int64_t>(cut.pieces.size()), 1), kOptimizerThreads, {},
               context.stream(), data_of<A>(master), data_of<T>(compute), data_of<A>(m), data_of<A>(v),
               data_of<const A>(gradients), pieces, data_of<const ops::StepScalars>(scalars), options);
    });
}

}  // namespace ballast::cuda
