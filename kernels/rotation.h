// The common form of the rotary ops on every device: up to three tensors of heads to rotate or copy. This is the only
// place that knows QkvLayout.
#pragma once

#include <array>
#include <cmath>
#include <span>

#include "kernels/ops.h"

namespace ballast {

/// x -> out, both [B,T,G,K,D]: K heads in each of G groups. With an absent table the heads are only copied.
struct Rotation {
    Tensor out, x, table;
};

/// One position's row of a rope table, computed in double: the angles of large positions need all its digits.
template <class A>
void write_angles(A* row, int64_t position, std::span<const double> inv_freq, double attention_factor) {
    for (size_t i = 0; i < inv_freq.size(); ++i) {
        const double angle = static_cast<double>(position) * inv_freq[i];
        row[i] = static_cast<A>(std::cos(angle) * attention_factor);
        row[inv_freq.size() + i] = static_cast<A>(std::sin(angle) * attention_factor);
    }
}

/// x [B,T,H,D] as a view with `groups` groups of heads.
inline Tensor grouped_heads(const Tensor& x, int64_t groups) {
    Tensor view = x;
    view.rank = 5;
    view.shape = {x.dim(0), x.dim(1), groups, x.dim(2) / groups, x.dim(3)};
    view.stride = {x.stride[0], x.stride[1], view.shape[3] * x.stride[2], x.stride[2], x.stride[3]};
    return view;
}

/// Views of q [B,T,G,H/G,D] and of k and v [B,T,G,1,D] in qkv [B,T,(H+2G)D].
inline std::array<Tensor, 3> qkv_parts(const Tensor& qkv, int64_t heads, int64_t groups, ops::QkvLayout layout) {
    const int64_t width = qkv.dim(2), dims = width / (heads + 2 * groups), heads_per_group = heads / groups;
    const auto part = [&](int64_t first_head, int64_t heads_of_group, int64_t heads_to_next_group) {
        Tensor view = qkv;
        view.data = static_cast<char*>(qkv.data) + static_cast<size_t>(first_head * dims) * size_of(qkv.dtype);
        view.rank = 5;
        view.shape = {qkv.dim(0), qkv.dim(1), groups, heads_of_group, dims};
        view.stride = {qkv.dim(1) * width, width, heads_to_next_group * dims, dims, 1};
        return view;
    };
    if (layout == ops::QkvLayout::concatenated)
        return {part(0, heads_per_group, heads_per_group), part(heads, 1, 1), part(heads + groups, 1, 1)};
    const int64_t next = heads_per_group + 2;
    return {part(0, heads_per_group, next), part(heads_per_group, 1, next), part(heads_per_group + 1, 1, next)};
}

inline std::array<Rotation, 1> rope_rotation(const Tensor& out, const Tensor& x, const Tensor& table) {
    return {{{grouped_heads(out, out.dim(2)), grouped_heads(x, x.dim(2)), table}}};
}

inline std::array<Rotation, 3> split_rotations(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& qkv,
                                               const Tensor& table, ops::QkvLayout layout) {
    const int64_t groups = k.dim(2);
    const auto [q_part, k_part, v_part] = qkv_parts(qkv, q.dim(2), groups, layout);
    return {{{grouped_heads(q, groups), q_part, table},
             {grouped_heads(k, groups), k_part, table},
             {grouped_heads(v, groups), v_part, {}}}};
}

/// The opposite direction: q, k and v into qkv.
inline std::array<Rotation, 3> join_rotations(const Tensor& qkv, const Tensor& q, const Tensor& k, const Tensor& v,
                                              const Tensor& table, ops::QkvLayout layout) {
    auto rotations = split_rotations(q, k, v, qkv, table, layout);
    for (Rotation& r : rotations) std::swap(r.out, r.x);
    return rotations;
}

}  // namespace ballast
