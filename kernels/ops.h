// Every op of the model: one declaration and doc block each; cpu:: (and later cuda::) implement them.
//
// Shape suffixes: B batch, T query positions, S key positions, H heads, G key-value heads (H % G == 0), D head dim,
// C model dim, F feed-forward dim, V vocabulary (padded), N rows (B*T), O and I a linear layer's outputs and inputs.
//
// Dtypes: "x" is the compute dtype (f32, bf16, fp16 or f64); all x operands of a call share it. "acc" is
// accumulation_dtype(x): f64 for f64, else f32. bf16 and fp16 loads are widened, all arithmetic is in acc. fp16 is for
// GPUs: the CPU has no kernels for it (computable_on() in kernels/backend.h).
//
// Contract of gradients: d_<parameter> accumulates (+=, acc dtype); d_<activation> is overwritten unless its comment
// says "+=". Overwriting ops never read their output. A default-constructed Tensor means "absent" where allowed.
//
// Determinism: the same call gives the same bits for any number of threads. Work is cut by shape, reductions run over a
// fixed number of virtual lanes and blocks in a fixed order.
//
// Shape or dtype mismatches are InternalErrors: the model is wrong, not its user.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/tensor.h"
#include "kernels/attention_variant.h"
#include "kernels/context.h"

namespace ballast::ops {

// ---- Embedding ------------------------------------------------------------------------------------------------------

/// out[n] = weight[ids[n]]. out x [N,C], ids i32 [N] in [0,V); weight [V,C] is x, or narrower with its scale [V], as in
/// LinearWeight.
/// Another id is an InternalError on the CPU; a GPU fills its row with NaN, which stops training at the loss.
void embedding_forward(Context&, const Tensor& out_NC, const Tensor& weight_VC, const Tensor& ids_N,
                       const Tensor& scale_V = {});
/// d_weight[ids[n]] += d_out[n], in one order of additions. d_weight acc [V,C]. Another id is an InternalError on the
/// CPU; a GPU passes its row over.
void embedding_backward(Context&, const Tensor& d_weight_VC, const Tensor& d_out_NC, const Tensor& ids_N);
size_t embedding_backward_scratch_bytes(const Context&, Dtype x, int64_t rows, int64_t channels);

// ---- LayerNorm and RMSNorm, with the residual stream they are taken of ----------------------------------------------

/// One normalised output: out x [N,C]; weight, bias x [C], the bias may be absent.
struct NormOutput {
    Tensor out_NC, weight_C, bias_C;
};
/// y = a + b + c (c, or b and c, absent: left out; with neither, y is absent and stands for a), and for each of one or
/// two norms out = (y - mean) * rstd * weight + bias, rstd = 1/sqrt(var + eps) with the biased variance, two passes. The
/// parallel residual's two norms read the same y, so its statistics are taken once. a, b, c, y x [N,C], y may be any of
/// them; mean, rstd acc [N] are saved for the backward pass. Narrow x: the norms are of y as it was rounded.
/// An absent mean makes RMSNorm of it (Zhang & Sennrich 2019): out = y * rstd * weight + bias, rstd = 1/sqrt(mean(y^2) +
/// eps).
void residual_norm_forward(Context&, const Tensor& y_NC, std::span<const NormOutput> norms, const Tensor& mean_N,
                           const Tensor& rstd_N, const Tensor& a_NC, const Tensor& b_NC, const Tensor& c_NC, double eps);

/// Its gradient d_out x [N,C]; d_weight, d_bias acc [C], absent where they are not wanted.
struct NormGradient {
    Tensor d_out_NC, weight_C, d_weight_C, d_bias_C;
};
/// d_y += …, of every norm in turn: their gradients join what the residual stream already carries. An absent mean:
/// RMSNorm's.
void norm_backward(Context&, const Tensor& d_y_NC, std::span<const NormGradient> norms, const Tensor& y_NC,
                   const Tensor& mean_N, const Tensor& rstd_N);

// ---- Linear ---------------------------------------------------------------------------------------------------------

/// What a linear layer multiplies by: weight [O,I]; bias x [O] or absent. Forward, the weight may be narrower than x: bf16
/// beside f32, or i8 beside f32, bf16 and fp16, whose row o stands for scale[o] weight[o].
struct LinearWeight {
    Tensor weight, bias;
    Tensor scale = {};  // f32 [O]; present exactly when the weight is i8
};

/// How a product of x with a weight is made.
///   gemm    the device's library, on x's operands: the order of additions may depend on the number of rows
///   by_row  each row of the weight is read once, as it is stored, for all rows of x, and multiplied in acc. The order of
///           additions depends on I and the weight's dtype alone: a row of x gives the same bits whatever is beside it. At
///           the speed of memory for few rows; slower than gemm for many
enum class Products { gemm, by_row };

/// out = x weight^T + bias. x x [N,I], out x or acc [N,O].
void linear_forward(Context&, const Tensor& out_NO, const Tensor& x_NI, const LinearWeight& weight,
                    Products products = Products::gemm);
/// d_x = d_out weight; d_weight += d_out^T x; d_bias += column sums of d_out; each is skipped where it is absent.
/// d_out x or acc [N,O]; d_x x [N,I]; d_weight acc [O,I]; d_bias acc [O].
void linear_backward(Context&, const Tensor& d_x_NI, const Tensor& d_weight_OI, const Tensor& d_bias_O,
                     const Tensor& d_out_NO, const Tensor& x_NI, const Tensor& weight_OI);
/// What products of x operands are multiplied in: x, or f32 where bf16 has to be widened. Wider operands are rounded to it.
Dtype product_dtype(const Context&, Dtype x);
/// Scratch of one forward or backward call on these shapes, the weight being in dtype `weight`.
size_t linear_scratch_bytes(const Context&, Dtype x, Dtype weight, int64_t rows, int64_t outputs, int64_t inputs,
                            Products products = Products::gemm);

// ---- Linear + GELU ---------------------------------------------------------------------------------------------------

/// `tanh`: 0.5 u (1 + tanh(sqrt(2/pi) (u + 0.044715 u^3))), what Pythia was trained with (bias_gelu_fusion).
/// `erf`: 0.5 u (1 + erf(u / sqrt 2)), what its Hugging Face config says.
enum class Gelu { tanh, erf };

/// pre = u = x weight^T + bias, out = gelu(u). x x [N,I]; the layer has O = F outputs; out, pre x [N,F]. Narrow x: pre is
/// u rounded, and out comes from u before or after its rounding, as suits the device.
void linear_gelu_forward(Context&, const Tensor& out_NF, const Tensor& pre_NF, const Tensor& x_NI,
                         const LinearWeight& weight, Gelu kind, Products products = Products::gemm);
/// Back through out = hidden weight^T + bias and hidden = gelu(pre): d_pre = (d_out weight) gelu'(pre); d_weight +=
/// d_out^T hidden; d_bias += column sums of d_out; both are skipped where they are absent. d_out x [N,O]; hidden, pre,
/// d_pre x [N,F]; weight x [O,F]; d_weight acc [O,F]; d_bias acc [O]. Scratch of both: linear_scratch_bytes() of the layer.
void gelu_linear_backward(Context&, const Tensor& d_pre_NF, const Tensor& d_weight_OF, const Tensor& d_bias_O,
                          const Tensor& d_out_NO, const Tensor& hidden_NF, const Tensor& pre_NF,
                          const Tensor& weight_OF, Gelu kind);

// ---- SwiGLU ---------------------------------------------------------------------------------------------------------

/// out = silu(gate) up, silu(z) = z / (1 + e^-z) (Shazeer 2020). gate_up x [N,2F]: a row's F gates, then its F ups; out x
/// [N,F].
void swiglu_forward(Context&, const Tensor& out_NF, const Tensor& gate_up_N2F);
/// d_up = d_out silu(gate), d_gate = d_out up silu'(gate). d_gate_up x [N,2F], may be gate_up.
void swiglu_backward(Context&, const Tensor& d_gate_up_N2F, const Tensor& d_out_NF, const Tensor& gate_up_N2F);

// ---- Rotary position embedding --------------------------------------------------------------------------------------

/// Fills table acc [P,R], computed in double: row p holds a cos(p f_i) for i < R/2, then a sin(p f_i). R is the number of
/// rotated dims of a head (even), f_i = inv_freq[i] radians a position; inv_freq is the host's. Plain rotary embedding
/// (Su et al. 2021) has f_i = base^(-2i/R) and a = 1. What stretches the context changes the frequencies, and YaRN (Peng
/// et al. 2023, section 3.4) also a, the attention factor, by which rotated q and k grow.
void rope_table(Context&, const Tensor& table_PR, std::span<const double> inv_freq, double attention_factor);

/// Where the tokens of a call stand. Token t of every sequence: min(first + t, last). With `rows`, i32 [B,T] on the
/// device, token t of sequence b: min(rows[b][t], last), read when the op runs, so that sequences of unequal length share
/// a call and recorded work goes on as they grow.
struct Positions {
    int64_t first = 0;
    int64_t last = INT64_MAX;
    Tensor rows = {};
};

/// out = x with the first R dims of every head rotated the NeoX way: z cos + rotate_half(z) sin, rotate_half(z) =
/// concat(-z[R/2:], z[:R/2]); cos and sin carry the table's a. x, out x [B,T,H,D], any strides with a contiguous last dim; out may be x.
/// An absent table copies. Every position must be a row of the table; one of `rows` that is not is an InternalError on
/// the CPU, and a GPU fills the rotated dims with NaN.
void rope_forward(Context&, const Tensor& out_BTHD, const Tensor& x_BTHD, const Tensor& table_PR, const Positions& positions);
/// d_x = d_out rotated back, times the table's a: the transpose of a R is a R^T. d_x may be d_out.
void rope_backward(Context&, const Tensor& d_x_BTHD, const Tensor& d_out_BTHD, const Tensor& table_PR,
                   const Positions& positions);

/// How a token's features of QKV, M = (H + 2G) D of them, are ordered; query head h belongs to key-value head h / (H/G).
///   grouped       G times: the H/G queries, the key and the value of a group, D each. G = H is GPT-NeoX's order
///                 [H,3,D], G = 1 that of Falcon-7B, what is between Falcon-40B's.
///   concatenated  all queries, all keys, all values: MPT's, and Llama's three matrices one after the other.
enum class QkvLayout { grouped, concatenated };

/// Splits qkv x [B,T,M] and rotates q and k. q x [B,T,H,D], k and v x [B,T,G,D], any strides with a contiguous last dim. An
/// absent table splits only.
void qkv_split_rope_forward(Context&, const Tensor& q_BTHD, const Tensor& k_BTGD, const Tensor& v_BTGD,
                            const Tensor& qkv_BTM, const Tensor& table_PR, const Positions& positions,
                            QkvLayout layout = QkvLayout::grouped);
void qkv_split_rope_backward(Context&, const Tensor& d_qkv_BTM, const Tensor& d_q_BTHD, const Tensor& d_k_BTGD,
                             const Tensor& d_v_BTGD, const Tensor& table_PR, const Positions& positions,
                             QkvLayout layout = QkvLayout::grouped);

// ---- Attention ------------------------------------------------------------------------------------------------------

/// Which keys a query sees, and where keys and queries stand. Positions are indices in the stream:
///   query t stands at i = query_start + t, or where query_position_BT says;
///   key row c stands at j = c for c < num_sink_positions, else at j = key_start + (c - num_sink_positions).
/// Visible: j <= i and (j < num_sink_positions or (j >= first_key and i - j <= span_h)); nothing at all to a query that
/// stands before its first key. The defaults are plain causal attention.
///
/// The two tensors [B,T] give each query its own place and first key. They lie on the device and are read when the op
/// runs, so that recorded work goes on as sequences grow. With them come
///   documents     first_key: where the query's document begins;
///   packed calls  query_position: sequences of unequal length, each at its own place in its keys;
///   padding       before a sequence at position -1, behind it at the last position with first_key beyond it. Such a
///                 query sees nothing: its out is 0, its lse is z, and it has no gradient. (Where it is rotated, its place
///                 in the rope table has to exist all the same.)
/// Neither may decrease with t within a sequence, since tiles of keys and queries are passed over by their first and last
/// row: another is an InternalError on the CPU, and a GPU may miss keys. Positions of keys are then below 2^30.
struct AttentionMask {
    int64_t num_sink_positions = 0;  // s: always visible
    int64_t query_start = 0;
    int64_t key_start = 0;  // position of key row s; equal to s when all keys are there
    Tensor span_H;          // i32 [H]: earlier positions seen besides the query's own; absent or < 0: no limit
    Tensor query_position_BT = {};  // i32 [B,T]; absent: query_start + t
    Tensor first_key_BT = {};       // i32 [B,T]: the earliest position seen besides the sinks; absent: 0

    /// Whether queries have places or first keys of their own.
    bool is_by_row() const { return !query_position_BT.empty() || !first_key_BT.empty(); }
};

struct AttentionParams {
    double scale = 1.0;  // multiplies q·k, usually 1/sqrt(D)
    Normaliser normaliser = Normaliser::softmax;
    Tensor sink_logit_H;   // acc [H], read when has_learned_sink_logit(normaliser)
    Tensor alibi_slope_H;  // acc [H]; adds -slope_h * (i - j) to the scaled logit; absent: no bias
    AttentionMask mask;
    /// For keys j < s the query stands at min(i, sink_query_position): ALiBi's distance there is
    /// min(i, sink_query_position) - j. The rotation of that query is the caller's (sink_query below). With sinks s and
    /// span r of a StreamingLLM cache this is C = s + r.
    int64_t sink_query_position = INT64_MAX;
};

/// q x [B,T,H,D]; k, v x [B,S,G,D]; head h uses key-value head h / (H/G). Any strides with a contiguous last dim.
struct AttentionInputs {
    Tensor q, k, v;
    Tensor sink_query;  // x [B,T,H,D]: used instead of q for keys j < s (StreamingLLM's fixed angle); absent: q
};

/// out = softmax'(scale q k^T + bias) v under the mask, lse acc [B,H,T] = LSE' (natural log, sink logit included).
/// A row that sees no key gives out = 0 and lse = z. Flash-style tiles; T×S scores never exist. D <= 256.
void attention_forward(Context&, const Tensor& out_BTHD, const Tensor& lse_BHT, const AttentionInputs&, const AttentionParams&);

struct AttentionGradients {
    Tensor d_q, d_k, d_v;    // like q, k, v; overwritten
    Tensor d_sink_query;     // present exactly when sink_query is
    Tensor d_sink_logit_H;   // acc [H], +=; only where has_learned_sink_logit, absent where it is not wanted
};
/// Needs the forward pass's out and lse. d_out x [B,T,H,D].
void attention_backward(Context&, const AttentionGradients&, const Tensor& d_out_BTHD, const Tensor& out_BTHD,
                        const Tensor& lse_BHT, const AttentionInputs&, const AttentionParams&);
size_t attention_backward_scratch_bytes(const Context&, const AttentionInputs&);

/// weights acc [B,H,T,S] = P' itself, for measuring attention on short sequences (never used in training).
void attention_weights(Context&, const Tensor& weights_BHTS, const Tensor& lse_BHT, const AttentionInputs&, const AttentionParams&);
/// logits acc [B,H,T,S] = scale q k^T + bias, what the softmax is taken of; -inf where the mask hides the key. For measuring
/// too, and the same for every normaliser.
void attention_logits(Context&, const Tensor& logits_BHTS, const AttentionInputs&, const AttentionParams&);

// ---- Paged cache ----------------------------------------------------------------------------------------------------
//
// What decoding keeps of keys and values. Blocks of 64 rows of one key-value head of one layer and sequence; which block
// stands where is a table's business, so no row is ever moved. Suffixes: P blocks, R = 64 rows of a block, W blocks of a
// table's row.

constexpr int64_t kCacheBlockRows = 64;

/// Rows of keys and values in blocks that layers, key-value heads and sequences share. Keys are stored as attention reads
/// them, rotated at their position in the text.
struct PagedCache {
    Tensor keys_PRD, values_PRD;  // [P,64,D], contiguous: x or, with x = f32, bf16 or fp16; loads are widened in registers
    Tensor positions_PR;          // i32 [P,64]: where each row's token stands in its text; < 0: nothing is there
};

/// The rows that a call reads of sequence b and key-value head g: slots [0, length); slot i is row i % 64 of block
/// table[b,g,i/64]. In any order: a row's place is what positions_PR says. A position occurs once.
struct CacheRows {
    Tensor table_BGW;  // i32 [B,G,W]
    Tensor length_BG;  // i32 [B,G]
};

/// Row n of every key-value head goes to where slots says, block * 64 + row; < 0: that head does not keep the row. Its
/// position is written beside it. k, v x [N,G,D], rounded to the cache's dtype, any strides with a contiguous last dim; slots i32
/// [N,G], positions i32 [N]. No slot may occur twice. A slot beyond the cache is an InternalError on the CPU; a GPU passes
/// it over.
void cache_write(Context&, const PagedCache&, const Tensor& k_NGD, const Tensor& v_NGD, const Tensor& slots_NG,
                 const Tensor& positions_N);

/// The rows of one sequence (B = 1) as the matrices that attention_forward takes: position j stands in row j for j < s =
/// num_sink_positions, else in row s + (j - key_start). Positions without a row in [0, S) are left out; rows that nothing
/// is kept of are zero, and the mask must hide them. k, v x [S,G,D], any strides with a contiguous last dim; key_start >= s.
void cache_read(Context&, const Tensor& k_SGD, const Tensor& v_SGD, const PagedCache&, const CacheRows&,
                int64_t num_sink_positions, int64_t key_start);

/// Where the next row of every sequence and key-value head goes when heads keep rows by their score (H2O, Zhang et al.
/// 2023): the row that stands at p = position[b] goes to slot p while p < capacity, and then takes the place of the row
/// of least mass among those of slots [0, capacity) that stand before p - recent; of equal masses the one that stands
/// first in the text. A mass that is no number is the least of all. The slot's mass becomes 0, as its row is a new one.
/// slots i32 [B,G], block * 64 + row, as cache_write takes them; table i32 [B,G,W]; position i32 [B]; mass acc [P,64],
/// as cached_attention_forward adds to it; 0 <= recent < capacity <= 64 W. A block beyond the cache, or no row before
/// p - recent, is an InternalError on the CPU; on a GPU that row of the cache is passed over, and the slot is -1.
void lightest_slots(Context&, const Tensor& slots_BG, const Tensor& mass_PR, const Tensor& positions_PR,
                    const Tensor& table_BGW, const Tensor& position_B, int64_t capacity, int64_t recent);

/// Slots of one piece of cached_attention_forward's work. Fixed, so that bits do not depend on what else is in a call.
constexpr int64_t kCacheSplitSlots = 4 * kCacheBlockRows;

/// The pieces that cached_attention_forward is cut into, on the device. Made by plan_cached_attention() from the lengths
/// of one step; good for every step whose lengths need no more splits, so a recorded step goes on while sequences grow.
struct CachedAttentionWork {
    Tensor items_N3;   // i32 [N,3]: (b, g, split), those with the most slots first; b < 0: none
    Tensor first_BG1;  // i32 [B G + 1]: where the partial results of each (b, g) begin; the last: how many there are in all
};
/// The same on the host, ready to be copied.
struct CachedAttentionPlan {
    std::vector<int32_t> items_N3, first_BG1;
};
/// For lengths [B,G] >= 0. `capacity` >= the number of items pads the list to that many; 0: no padding.
CachedAttentionPlan plan_cached_attention(std::span<const int32_t> lengths_BG, int64_t num_kv_heads,
                                          int64_t capacity = 0);
/// Splits of a (b, g) with `length` slots, for capacities.
constexpr int64_t cached_attention_splits(int64_t length) {
    return (length + kCacheSplitSlots - 1) / kCacheSplitSlots;
}

/// One query of each of B sequences against the cached rows, its own among them (cache_write comes first): out =
/// softmax'(scale q k^T + bias) v. A slot's position j is visible to the query at i = query_position[b] if 0 <= j <= i and
/// (j < num_sink_positions or i - j <= span_h); i < 0 is a padding row, whose out is 0. Of params.mask only
/// num_sink_positions and span_H are read. Keys j < s are read with sink_query (absent: q) and ALiBi's distance
/// min(i, sink_query_position) - j there.
///
/// Each (b, g) is cut into splits of kCacheSplitSlots slots; a split gives every query head of the group its running maximum, sum
/// and weighted values, which are merged in the order of splits, the sink logit taking part once, there (flash-decoding, Dao
/// et al. 2023). So a sequence's bits depend neither on its mates nor on B, threads or the order of work.
///
/// out, q, sink_query x [B,H,D], any strides with a contiguous last dim; query_position i32 [B]. mass acc [P,64], where present: += P' of
/// every visible slot, summed over the query heads of its key-value head (what H2O and InfLLM weigh tokens by); sequences
/// of the call must not share blocks then. Work that covers too few splits and blocks beyond the cache are InternalErrors
/// on the CPU; on a GPU they make out NaN. Rows that no query head sees are never read.
void cached_attention_forward(Context&, const Tensor& out_BHD, const Tensor& q_BHD, const Tensor& sink_query_BHD,
                              const PagedCache&, const CacheRows&, const Tensor& query_position_B,
                              const CachedAttentionWork&, const AttentionParams&, const Tensor& mass_PR = {});
/// Its scratch, for work of at most `items` items (padding counted).
struct CachedAttentionShape {
    int64_t sequences = 0, heads = 0, kv_heads = 0, head_dim = 0, items = 0;
    bool with_mass = false;
};
size_t cached_attention_scratch_bytes(Dtype x, const CachedAttentionShape& shape);

// ---- Memory of blocks -------------------------------------------------------------------------------------------------

/// What InfLLM keeps of a text (Xiao et al. 2024, section 3.2 and its ContextManager) and how much of it a query reads. A
/// row [W] of a table names, for a sequence and key-value head, the local / 64 blocks of a ring of the last `local`
/// positions, p in slot p % local with its key rotated at p; then blocks of all positions, 64 of them each in their
/// order, with keys that are not rotated. Position f has left the ring at p when f <= p - local. Of the blocks that have
/// left it whole those of the first `initial` positions are read by every query; of the others each query reads the
/// `chosen` most relevant. The block that is leaving is read as far as it has left.
struct BlockMemory {
    int64_t local = 0;    // positions, a multiple of 64, > 0
    int64_t initial = 0;  // positions, a multiple of 64
    int64_t chosen = 0;   // blocks
    int64_t representatives = 4;  // rows of a block whose mean key stands for it, <= 64

    int64_t local_blocks() const { return local / kCacheBlockRows; }
    int64_t initial_blocks() const { return initial / kCacheBlockRows; }
    /// Blocks that a query reads at most.
    int64_t read_blocks() const { return local_blocks() + initial_blocks() + chosen + 1; }
    /// Slots that the query at `position` reads.
    int64_t slots(int64_t position) const;
};

/// Before the row that stands at p = position[b] is written: score[f] becomes the mass that position f = p - local had in
/// the ring, and the mass of the slot becomes 0. Where f begins a block, the one before it, if not one of the initial
/// ones, gets its representative, acc: the mean of the keys of the `representatives` rows of highest score, of equal ones
/// the earlier, added in the order of their positions. mass, scores acc [P,64]; representatives acc [P,D], by the blocks
/// of the whole text; table i32 [B,G,W]; position i32 [B].
/// A score that is no number is the least. A block beyond the table or the cache is an InternalError on the CPU; a GPU
/// leaves it out.
void memory_store(Context&, const Tensor& scores_PR, const Tensor& representatives_PD, const Tensor& mass_PR,
                  const PagedCache&, const Tensor& table_BGW, const Tensor& position_B, const BlockMemory&);
/// The blocks that the query at p = position[b] reads, after memory_store of p: relevance[b,n] = sum over heads h of q[b,h] . the
/// representative of block n, of those that may be chosen; read [B,G,V] names the ring's blocks, the initial ones that have left it whole,
/// the `chosen` most relevant (of equal ones the earlier) in the order of their positions, and the one that is leaving;
/// what is behind them is left alone. All key-value heads of a sequence read the same blocks. q x [B,H,D], any strides
/// with a contiguous last dim; relevance acc [B,N], N >= W - local / 64; read i32 [B,G,V], V >= read_blocks(). Numbers that are none and
/// errors as above.
void memory_lookup(Context&, const Tensor& read_BGV, const Tensor& relevance_BN, const Tensor& q_BHD,
                   const Tensor& representatives_PD, const Tensor& table_BGW, const Tensor& position_B,
                   const BlockMemory&);

// ---- Measuring attention's gradient -----------------------------------------------------------------------------------

/// Sums over blocks, acc [B,H,ceil(T/block),ceil(S/block)], +=; either may be absent.
struct Influence {
    Tensor absolute_BHIJ;    // of |E|
    Tensor signed_sum_BHIJ;  // of E
};
/// E_ij, what a loss changes by when query i no longer sees key row j and the rest of the row is renormalised, to first order in
/// the output (MoA, Fu et al. 2024, arXiv 2406.14909, equations 3 and 13), summed over blocks x block tiles of query and
/// key rows, by query head. With P' = exp(s - LSE'), O = P' V, g_ij = dO_i . V_j and D_i = dO_i . O_i: without key j the row's
/// denominator is e^LSE' (1 - P'_ij), whatever sink logit is in it, so
///   O' = (O_i - P'_ij V_j) / (1 - P'_ij),   E_ij = dO_i . (O' - O_i) = P'_ij / (1 - P'_ij) (D_i - g_ij),
/// exact for a loss that is linear in O. 1 - P' is taken as -expm1(s - LSE') and not below the accumulation's epsilon.
/// Without a sink logit a row that sees one key alone (row 0) has nothing left to renormalise, its output becomes 0, and
/// E = -g there. Hidden entries have none. In narrow x, D carries the rounding of out: E is good to 2^-9 |g| P' / (1 - P').
/// d_out, out x [B,T,H,D]; lse acc [B,H,T] of the forward pass. No T x S buffer. Rows of a mask by row are fine.
void attention_influence(Context&, const Influence&, int64_t block, const Tensor& d_out_BTHD, const Tensor& out_BTHD,
                         const Tensor& lse_BHT, const AttentionInputs&, const AttentionParams&);

/// What a shorter span does to a loss, to first order in the output: effect[b,h,m-1] += sum over queries i of E_im, m = 1 … M,
/// where query i no longer sees the keys at positions j >= sinks with i - j >= m block, all at once, and the rest of its row is
/// renormalised. With the names of attention_influence(),
///   E_im = (sum over what is hidden of P'_ij (D_i - g_ij)) / (1 - sum over what is hidden of P'_ij),
/// exact for a loss that is linear in O: neither a sum of E_ij nor of |E_ij|. 1 - ... is added up from what stays, and is not
/// taken below the accumulation's epsilon. effect acc [B,H,M]; block >= 1; sinks >= 0, whatever the mask's are; the rest as above.
/// Scratch on a GPU: 2 B H T (M + 1) numbers and a little; queries are added in one order.
void attention_span_effect(Context&, const Tensor& effect_BHM, int64_t block, int64_t sinks, const Tensor& d_out_BTHD,
                           const Tensor& out_BTHD, const Tensor& lse_BHT, const AttentionInputs&, const AttentionParams&);

/// mass[b,h,c] += sum over queries of P'_ic: the accumulated scores of H2O (Zhang et al. 2023) and InfLLM (Xiao et al. 2024). mass acc [B,H,S];
/// lse acc [B,H,T] of the forward pass. No T x S buffer; queries are added in one order.
void attention_key_mass(Context&, const Tensor& mass_BHS, const Tensor& lse_BHT, const AttentionInputs&,
                        const AttentionParams&);

// ---- A gate for every head ------------------------------------------------------------------------------------------

/// out = x sigmoid(gate), a number a head and token ("Gated Attention for Large Language Models", Qiu et al. 2025,
/// arXiv:2505.06708: headwise, after the weighted values). out, x x [B,T,H,D], gate x [B,T,H], all contiguous. out may be x.
void head_gate_forward(Context&, const Tensor& out_BTHD, const Tensor& x_BTHD, const Tensor& gate_BTH);
/// d_x = d_out sigmoid(gate); d_gate = sigmoid'(gate) sum over D of d_out x. Needs x from before the gate, which attention's
/// backward pass keeps anyway as its out, and gate; the gated out is only what the next layer keeps. d_x may be d_out.
void head_gate_backward(Context&, const Tensor& d_x_BTHD, const Tensor& d_gate_BTH, const Tensor& d_out_BTHD,
                        const Tensor& x_BTHD, const Tensor& gate_BTH);

// ---- A step's scalars -----------------------------------------------------------------------------------------------

/// What changes from step to step lives on the device, so that a whole step can become a CUDA graph. The host writes
/// learning_rate, step, loss_scale and the limits before the step and reads the rest after it.
struct StepScalars {
    static constexpr double kNoLimit = std::numeric_limits<double>::infinity();

    double learning_rate = 0;
    int64_t step = 0;              // 1-based: bias corrections use beta^step
    double loss_scale = 1;         // multiplies the loss, hence every gradient until AdamW (fp16)
    double loss_limit = kNoLimit;  // on the sum of all passes' losses
    double norm_limit = kNoLimit;  // on grad_norm
    double grad_norm = 0;          // L2 of all gradients of the loss itself, before clipping
    double clip_factor = 1;        // multiplies every gradient: clips it and takes loss_scale out
    int64_t non_finite = 0;        // 1 when loss or grad norm is not finite; AdamW then changes nothing
    int64_t spike = 0;             // 1 when either is above its limit; AdamW then changes nothing
};
/// The scalars' place on the device: u8 [sizeof(StepScalars)].
using StepScalarsTensor = Tensor;

// ---- Fused linear + cross-entropy -----------------------------------------------------------------------------------

/// Of rows with target >= 0: losses[n] = -log softmax(x[n] weight^T)[targets[n]]; rows with target < 0 have loss 0 and
/// no gradient. With gradients: d_x = f dloss/dx, d_weight += f dloss/dweight (loss = sum of the losses), f =
/// loss_factor times the scalars' loss_scale, which is read on the device when the op runs (absent scalars: 1). x, d_x
/// x [N,C]; weight [V,C] without a bias; d_weight acc [V,C]; targets i32 [N]; losses acc [N]. Without d_x (evaluation)
/// there is no d_weight either; d_weight alone may be absent. Runs in chunks of rows: the full logits never exist.
void linear_cross_entropy(Context&, const Tensor& losses_N, const Tensor& d_x_NC, const Tensor& d_weight_VC,
                          const Tensor& x_NC, const LinearWeight& weight, const Tensor& targets_N, double loss_factor,
                          const StepScalarsTensor& scalars = {});
size_t linear_cross_entropy_scratch_bytes(const Context&, Dtype x, Dtype weight, int64_t rows, int64_t vocabulary,
                                          int64_t channels);

// ---- Element-wise ---------------------------------------------------------------------------------------------------

/// out = a + b + c (c may be absent; out may be any of them). All x, same shape, contiguous.
void add(Context&, const Tensor& out, const Tensor& a, const Tensor& b, const Tensor& c = {});
/// out = in converted to out's dtype (f32, bf16, fp16, f64). Same number of elements, contiguous.
void cast(Context&, const Tensor& out, const Tensor& in);
/// out = in, same shape and dtype, any strides with a contiguous last dim.
void copy(Context&, const Tensor& out, const Tensor& in);
/// out f64 [1] = sum of x (acc, contiguous) over fixed blocks.
void sum(Context&, const Tensor& out_1, const Tensor& x);
/// out = min(max(x, -limit), limit), NaN where x is: MPT's clip_qkv, taken of the whole QKV before its split. limit >= 0 is
/// first rounded to x's dtype. All x, same shape, contiguous; out may be x where nothing has to be kept.
void clamp_forward(Context&, const Tensor& out, const Tensor& x, double limit);
/// d_x = d_out where -limit <= x <= limit, else 0: PyTorch's convention. x has to be kept from before clamping, since
/// afterwards what was clipped and what stood exactly at the limit look the same. d_x may be d_out.
void clamp_backward(Context&, const Tensor& d_x, const Tensor& d_out, const Tensor& x, double limit);

// ---- Optimiser ------------------------------------------------------------------------------------------------------

/// A parameter's place in the flat arrays of weights, gradients and moments.
struct ParameterSpan {
    int64_t offset = 0;  // in elements
    int64_t count = 0;
    bool decay = false;
};

/// The parameters of flat arrays, with the table that a GPU's kernels walk over; made once, before the first step.
class ParameterSet {
  public:
    ParameterSet(Context&, std::vector<ParameterSpan> spans);
    std::span<const ParameterSpan> spans() const { return spans_; }
    const void* table() const { return table_.data(); }

  private:
    std::vector<ParameterSpan> spans_;
    DeviceBuffer table_;  // empty on the CPU
};

/// sum_of_squares f64 [n] = sum of g^2 of every parameter of the flat gradients g acc [P]. Processes that share the
/// gradients add theirs up before global_norm().
void sums_of_squares(Context&, const Tensor& sum_of_squares_n, const Tensor& gradients_P,
                     const ParameterSet& parameters);
/// From sum_of_squares, into scalars: grad_norm = sqrt(total) / loss_scale,
/// clip_factor = 1 / max(1, (grad_norm + 1e-6) / clip_norm) / loss_scale (DeepSpeed's; 1 / loss_scale when
/// clip_norm <= 0), non_finite = the norm, or one of the losses f64 [K] of the step's passes, is not finite, spike =
/// grad_norm > norm_limit or sum of losses > loss_limit (0 where either side is NaN).
void global_norm(Context&, const StepScalarsTensor& scalars, const Tensor& sum_of_squares_n, const Tensor& losses_K,
                 double clip_norm);

struct AdamW {
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;
};
/// Decoupled weight decay (Loshchilov & Hutter 2019), bias-corrected, one pass:
///   g' = clip_factor g;  m = b1 m + (1-b1) g';  v = b2 v + (1-b2) g'^2;
///   p -= lr (m/(1-b1^step) / (sqrt(v/(1-b2^step)) + eps) + weight_decay p [if decay]).
/// master, m, v, gradients acc [P]; compute x [P] gets the new weights in the compute dtype (absent when it is the
/// master itself). Changes nothing when scalars.non_finite or scalars.spike is set.
void adamw(Context&, const Tensor& master_P, const Tensor& compute_P, const Tensor& m_P, const Tensor& v_P,
           const Tensor& gradients_P, const ParameterSet& parameters, const StepScalarsTensor& scalars,
           const AdamW& options);

}  // namespace ballast::ops
