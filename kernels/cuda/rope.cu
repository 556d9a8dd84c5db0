#include "kernels/cuda/rope.cuh"

#include <algorithm>
#include <vector>

#include "kernels/cuda/ops.h"
#include "kernels/rotation.h"

namespace ballast::cuda {
namespace {

constexpr int64_t kMaxThreads = 256, kMaxSequences = 65535;  // gridDim.z

template <class T>
Heads<T> make_heads(const Tensor& x) {
    return {data_of<T>(x), x.stride[0], x.stride[1], x.stride[2], x.stride[3]};
}

int64_t half_of(const Rotation& r) { return r.table.empty() ? 0 : r.table.dim(1) / 2; }

/// Whether every head of r can be moved N elements at a time, and its angles read so.
template <class T>
bool in_packs(const Rotation& r, int64_t N) {
    const auto aligned = [&](const Tensor& x, size_t bytes) {
        return reinterpret_cast<uintptr_t>(x.data) % (static_cast<size_t>(N) * bytes) == 0;
    };
    bool fits = half_of(r) % N == 0 && r.x.dim(4) % N == 0 && aligned(r.table, sizeof(Accumulator<T>));
    for (const Tensor* x : {&r.out, &r.x}) {
        fits = fits && aligned(*x, sizeof(T));
        for (size_t d = 0; d < 4; ++d) fits = fits && (x->stride[d] % N == 0 || x->shape[d] == 1);
    }
    return fits;
}

template <class T, int N>
void launch_rotations(Context& context, std::span<const Rotation> rotations, const Positions& positions, int sign) {
    using A = Accumulator<T>;
    const Tensor &x = rotations[0].x, &table = rotations[0].table;
    const int64_t sequences = x.dim(0), steps = x.dim(1);
    Rotations<T> parts{};
    int64_t places = 0;
    for (size_t i = 0; i < rotations.size(); ++i) {
        const Rotation& r = rotations[i];
        const int64_t half = half_of(r), units = (r.x.dim(4) - half) / N;
        parts.part[i] = {make_heads<T>(r.out),        make_heads<const T>(r.x),     static_cast<uint32_t>(r.x.dim(3)),
                         static_cast<uint32_t>(half), static_cast<uint32_t>(units), static_cast<uint32_t>(places)};
        places += r.x.dim(2) * r.x.dim(3) * units;
    }
    require(places <= INT32_MAX && sequences <= kMaxSequences, "rope of too many heads or sequences");
    parts.places = static_cast<uint32_t>(places);
    for (size_t i = rotations.size(); i < kMaxRotations; ++i) parts.part[i].first = parts.places;
    if (places == 0 || sequences == 0 || steps == 0) return;

    // As many threads in every block as divide the places best, in whole warps.
    const int64_t blocks = ceil_div(places, kMaxThreads), threads = ceil_div(ceil_div(places, blocks), 32) * 32;
    dim3 grid = grid_of(steps, kTokensInFlight);
    grid.y = static_cast<unsigned>(blocks);
    grid.z = static_cast<unsigned>(sequences);
    const Angles<A> angles{data_of<const A>(table),
                           positions.first,
                           positions.last,
                           data_of<const int32_t>(positions.rows),
                           table.empty() ? 0 : table.dim(0),
                           table.empty() ? 0 : table.dim(1)};
    launch(rotate_kernel<T, N>, grid, static_cast<unsigned>(threads), {}, context.stream(), parts, angles, steps,
           static_cast<A>(sign));
}

/// In packs of 16 bytes or, for rotated halves that do not divide by those (Pythia-2.8B's are 10 wide), of two elements
/// or one.
void rotate(Context& context, std::span<const Rotation> rotations, const Positions& positions, int sign) {
    with_compute_type(rotations[0].x.dtype, [&]<class T>(T) {
        const auto all_in_packs = [&](int64_t N) {
            return std::ranges::all_of(rotations, [&](const Rotation& r) { return in_packs<T>(r, N); });
        };
        if (all_in_packs(kPackSize<T>))
            launch_rotations<T, kPackSize<T>>(context, rotations, positions, sign);
        else if (all_in_packs(2))
            launch_rotations<T, 2>(context, rotations, positions, sign);
        else
            launch_rotations<T, 1>(context, rotations, positions, sign);
    });
}

}  // namespace

void rope_table(Context& context, const Tensor& table, std::span<const double> inv_freq, double attention_factor) {
    // On the host, once: the same bits as the CPU's table, and double costs a GPU much.
    const int64_t rows = table.dim(0), rotated = table.dim(1);
    with_accumulation_type(table.dtype, [&]<class A>(A) {
        std::vector<A> values(static_cast<size_t>(rows * rotated));
        for (int64_t p = 0; p < rows; ++p) write_angles(values.data() + p * rotated, p, inv_freq, attention_factor);
        if (!values.empty()) context.copy_from_host(table, values.data());
    });
}

void rope_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& table,
                  const Positions& positions) {
    rotate(context, rope_rotation(out, x, table), positions, 1);
}

void rope_backward(Context& context, const Tensor& d_x, const Tensor& d_out, const Tensor& table,
                   const Positions& positions) {
    rotate(context, rope_rotation(d_x, d_out, table), positions, -1);
}

void qkv_split_rope_forward(Context& context, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& qkv,
                            const Tensor& table, const Positions& positions, QkvLayout layout) {
    rotate(context, split_rotations(q, k, v, qkv, table, layout), positions, 1);
}

void qkv_split_rope_backward(Context& context, const Tensor& d_qkv, const Tensor& d_q, const Tensor& d_k,
                             const Tensor& d_v, const Tensor& table, const Positions& positions, QkvLayout layout) {
    rotate(context, join_rotations(d_qkv, d_q, d_k, d_v, table, layout), positions, -1);
}

}  // namespace ballast::cuda
