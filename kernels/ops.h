// Every op of the model: one declaration and one doc block each. cpu:: and cuda:: implement them.
//
// Shape suffixes: B batch, T query positions, S key positions, H heads, G key-value heads (H % G == 0), D head dim,
// C model dim, F feed-forward dim, V vocabulary (padded), N rows (B*T), O and I a linear layer's outputs and inputs.
//
// Dtypes: "x" is the compute dtype (f32, bf16, fp16 or f64); all x operands of a call share it. "acc" is
// accumulation_dtype(x): f64 for f64, else f32. bf16 and fp16 loads are widened, all arithmetic is in acc. fp16 is for
// GPUs: the CPU has no kernels for it (computable_on() in kernels/backend.h).
//
// Contract of gradients: d_<parameter> accumulates (+=, acc dtype); d_<activation> is overwritten unless its comment
// says "+=". An op never reads an output that it overwrites. A default-constructed Tensor means "absent" where that is
// allowed.
//
// Determinism: the same call gives the same bits for any number of threads. Work is divided by shape. Reductions run
// over a fixed number of virtual lanes, and over blocks in a fixed order.
//
// A mismatch of shapes or dtypes is an InternalError: it is a fault of the model code, not of the user.
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

/// out[n] = weight[ids[n]]. out x [N,C], ids i32 [N] in [0,V). weight [V,C] is x, or a narrower dtype with its scale
/// [V] as in LinearWeight. An id outside [0,V) is an InternalError on the CPU. A GPU fills its row with NaN, which
/// stops training at the loss.
void embedding_forward(Context&, const Tensor& out_NC, const Tensor& weight_VC, const Tensor& ids_N,
                       const Tensor& scale_V = {});
/// d_weight[ids[n]] += d_out[n], in one order of additions. d_weight acc [V,C]. An id outside [0,V) is an InternalError
/// on the CPU; a GPU skips its row.
void embedding_backward(Context&, const Tensor& d_weight_VC, const Tensor& d_out_NC, const Tensor& ids_N);
size_t embedding_backward_scratch_bytes(const Context&, Dtype x, int64_t rows, int64_t channels);

// ---- LayerNorm and RMSNorm of the residual stream ------------------------------------------------------------------

/// One normalised output: out x [N,C]; weight and bias x [C]. The bias may be absent.
struct NormOutput {
    Tensor out_NC, weight_C, bias_C;
};
/// y = a + b + c. c may be absent, or both b and c; with neither b nor c, y is absent too and a takes its place. Then
/// for each of one or two norms: out = (y - mean) * rstd * weight + bias, rstd = 1/sqrt(var + eps), with the biased
/// variance, in two passes. The parallel residual's two norms read the same y, so its statistics are computed once. a,
/// b, c, y x [N,C]; y may be the same tensor as a, b or c. mean and rstd acc [N] are saved for the backward pass. For
/// narrow x, the norms read the rounded y. An absent mean selects RMSNorm (Zhang & Sennrich 2019): out = y * rstd *
/// weight + bias, rstd = 1/sqrt(mean(y^2) + eps).
void residual_norm_forward(Context&, const Tensor& y_NC, std::span<const NormOutput> norms, const Tensor& mean_N,
                           const Tensor& rstd_N, const Tensor& a_NC, const Tensor& b_NC, const Tensor& c_NC, double eps);

/// The gradients of one norm: d_out x [N,C]; d_weight, d_bias acc [C], absent where they are not wanted.
struct NormGradient {
    Tensor d_out_NC, weight_C, d_weight_C, d_bias_C;
};
/// d_y += the gradient through each norm in turn: d_y already holds the gradient of the residual stream. An absent mean
/// selects RMSNorm.
void norm_backward(Context&, const Tensor& d_y_NC, std::span<const NormGradient> norms, const Tensor& y_NC,
                   const Tensor& mean_N, const Tensor& rstd_N);

// ---- Linear ---------------------------------------------------------------------------------------------------------

/// The parameters of a linear layer: weight [O,I]; bias x [O] or absent. In a forward pass the weight may be narrower
/// than x: bf16 with x = f32, or i8 with x = f32, bf16 or fp16. Row o of an i8 weight represents scale[o] weight[o].
struct LinearWeight {
    Tensor weight, bias;
    Tensor scale = {};  // f32 [O]; present exactly when the weight is i8
};

/// How to multiply x by a weight.
///   gemm    the device's library, on operands in x: the order of additions may depend on the number of rows
///   by_row  reads each row of the weight once, as it is stored, for all rows of x, and adds in acc. It multiplies in
///           acc, or x and weight in bf16 as they are where a CPU has fast dot products of them. The order of additions
///           depends on I and the dtypes alone: a row of x gives the same bits whatever other rows are in the call.
///           For few rows it runs at the speed of memory; for many rows it is slower than gemm
enum class Products { gemm, by_row };

/// out = x weight^T + bias. x x [N,I], out x or acc [N,O].
void linear_forward(Context&, const Tensor& out_NO, const Tensor& x_NI, const LinearWeight& weight,
                    Products products = Products::gemm);
/// d_x = d_out weight; d_weight += d_out^T x; d_bias += column sums of d_out. An absent result is skipped. d_out x or
/// acc [N,O]; d_x x [N,I]; d_weight acc [O,I]; d_bias acc [O].
void linear_backward(Context&, const Tensor& d_x_NI, const Tensor& d_weight_OI, const Tensor& d_bias_O,
                     const Tensor& d_out_NO, const Tensor& x_NI, const Tensor& weight_OI);
/// The dtype in which x operands are multiplied: x, or f32 where bf16 is widened. Wider operands are rounded to this
/// dtype.
Dtype product_dtype(const Context&, Dtype x);
/// Scratch bytes of one forward or backward call with these shapes and a weight in dtype `weight`.
size_t linear_scratch_bytes(const Context&, Dtype x, Dtype weight, int64_t rows, int64_t outputs, int64_t inputs,
                            Products products = Products::gemm);

// ---- Linear + GELU ---------------------------------------------------------------------------------------------------

/// `tanh`: 0.5 u (1 + tanh(sqrt(2/pi) (u + 0.044715 u^3))), which Pythia was trained with (bias_gelu_fusion). `erf`:
/// 0.5 u (1 + erf(u / sqrt 2)), which Pythia's Hugging Face config names.
enum class Gelu { tanh, erf };

/// pre = u = x weight^T + bias, out = gelu(u). x x [N,I]; the layer has O = F outputs; out, pre x [N,F]. For narrow x,
/// pre is the rounded u. gelu takes the rounded or the unrounded u; the device decides which.
void linear_gelu_forward(Context&, const Tensor& out_NF, const Tensor& pre_NF, const Tensor& x_NI,
                         const LinearWeight& weight, Gelu kind, Products products = Products::gemm);
/// The backward pass of out = hidden weight^T + bias with hidden = gelu(pre): d_pre = (d_out weight) gelu'(pre);
/// d_weight += d_out^T hidden; d_bias += column sums of d_out. d_weight and d_bias are skipped where they are absent.
/// d_out x [N,O]; hidden, pre, d_pre x [N,F]; weight x [O,F]; d_weight acc [O,F]; d_bias acc [O]. Scratch of forward
/// and backward: linear_scratch_bytes() of the layer.
void gelu_linear_backward(Context&, const Tensor& d_pre_NF, const Tensor& d_weight_OF, const Tensor& d_bias_O,
                          const Tensor& d_out_NO, const Tensor& hidden_NF, const Tensor& pre_NF,
                          const Tensor& weight_OF, Gelu kind);

// ---- SwiGLU ---------------------------------------------------------------------------------------------------------

/// out = silu(gate) up, silu(z) = z / (1 + e^-z) (Shazeer 2020). gate_up x [N,2F]: each row has F gates, then F ups;
/// out x [N,F].
void swiglu_forward(Context&, const Tensor& out_NF, const Tensor& gate_up_N2F);
/// d_up = d_out silu(gate), d_gate = d_out up silu'(gate). d_gate_up x [N,2F], may be gate_up.
void swiglu_backward(Context&, const Tensor& d_gate_up_N2F, const Tensor& d_out_NF, const Tensor& gate_up_N2F);

// ---- Rotary position embedding --------------------------------------------------------------------------------------

/// Fills table acc [P,R], computed in double: row p holds a cos(p f_i) for i < R/2, then a sin(p f_i). R is the number
/// of rotated dims of a head (even). f_i = inv_freq[i], in radians per position, is read from host memory. Plain rotary
/// embedding (Su et al. 2021) has f_i = base^(-2i/R) and a = 1. Methods that extend the context change the frequencies.
/// YaRN (Peng et al. 2023, section 3.4) also changes a, the attention factor, which scales the rotated q and k.
void rope_table(Context&, const Tensor& table_PR, std::span<const double> inv_freq, double attention_factor);

/// Token positions. Token t of every sequence has position min(first + t, last). With `rows`, i32 [B,T] on the device,
/// token t of sequence b has position min(rows[b][t], last). `rows` is read when the op runs: sequences of unequal
/// length can share a call, and recorded work stays valid as they grow.
struct Positions {
    int64_t first = 0;
    int64_t last = INT64_MAX;
    Tensor rows = {};
};

/// out = x with the first R dims of every head rotated in the NeoX way: z cos + rotate_half(z) sin, rotate_half(z) =
/// concat(-z[R/2:], z[:R/2]); cos and sin include the table's a. x, out x [B,T,H,D], any strides with a contiguous last
/// dim; out may be x. With an absent table the op copies. Every position must be a row of the table. A value of `rows`
/// that is not is an InternalError on the CPU; a GPU fills the rotated dims with NaN.
void rope_forward(Context&, const Tensor& out_BTHD, const Tensor& x_BTHD, const Tensor& table_PR, const Positions& positions);
/// d_x = d_out rotated back, times the table's a: the transpose of a R is a R^T. d_x may be d_out.
void rope_backward(Context&, const Tensor& d_x_BTHD, const Tensor& d_out_BTHD, const Tensor& table_PR,
                   const Positions& positions);

/// The order of a token's QKV features, M = (H + 2G) D of them. Query head h belongs to key-value head h / (H/G).
///   grouped       for each of G groups: its H/G queries, its key and its value, D dims each. With G = H this is
///                 GPT-NeoX's [H,3,D], with G = 1 Falcon-7B's order, with G between them Falcon-40B's.
///   concatenated  all queries, all keys, all values: the order of MPT, and of Llama's three matrices in a row.
enum class QkvLayout { grouped, concatenated };

/// Splits qkv x [B,T,M] and rotates q and k. q x [B,T,H,D], k and v x [B,T,G,D], any strides with a contiguous last
/// dim. With an absent table the op only splits.
void qkv_split_rope_forward(Context&, const Tensor& q_BTHD, const Tensor& k_BTGD, const Tensor& v_BTGD,
                            const Tensor& qkv_BTM, const Tensor& table_PR, const Positions& positions,
                            QkvLayout layout = QkvLayout::grouped);
void qkv_split_rope_backward(Context&, const Tensor& d_qkv_BTM, const Tensor& d_q_BTHD, const Tensor& d_k_BTGD,
                             const Tensor& d_v_BTGD, const Tensor& table_PR, const Positions& positions,
                             QkvLayout layout = QkvLayout::grouped);

// ---- Attention ------------------------------------------------------------------------------------------------------

/// Which keys a query sees, and the positions of keys and queries. Positions are indices in the token stream:
///   query t has position i = query_start + t, or the value in query_position_BT;
///   key row c has position j = c for c < num_sink_positions, else j = key_start + (c - num_sink_positions).
/// A key is visible when j <= i and (j < num_sink_positions or (j >= first_key and i - j <= span_h)). A query whose
/// position is before its first key sees no key at all. The defaults give plain causal attention.
///
/// The two tensors [B,T] give each query its own position and first key. They are on the device and are read when the
/// op runs, so that recorded work stays valid as sequences grow. They serve
///   documents     first_key: the position where the query's document begins;
///   packed calls  query_position: sequences of unequal length, each at its own position in its keys;
///   padding       rows before a sequence have position -1; rows behind it have the sequence's last position and a
///                 first_key beyond it. Such a query sees nothing: its out is 0, its lse is z, and it has no gradient.
///                 (Where it is rotated, its position must still be a row of the rope table.)
/// Within a sequence neither tensor may decrease with t, because tiles of keys and queries are skipped by their first
/// and last row. A decrease is an InternalError on the CPU; a GPU may miss keys. With these tensors key positions must
/// be below 2^30.
struct AttentionMask {
    int64_t num_sink_positions = 0;  // s: always visible
    int64_t query_start = 0;
    int64_t key_start = 0;  // position of key row s; equal to s when no key is missing
    Tensor span_H;          // i32 [H]: how many earlier positions a query sees besides its own; absent or < 0: no limit
    Tensor query_position_BT = {};  // i32 [B,T]; absent: query_start + t
    Tensor first_key_BT = {};       // i32 [B,T]: the earliest visible position besides the sinks; absent: 0

    /// True when queries have their own positions or first keys.
    bool is_by_row() const { return !query_position_BT.empty() || !first_key_BT.empty(); }
};

struct AttentionParams {
    double scale = 1.0;  // multiplies q·k, usually 1/sqrt(D)
    Normaliser normaliser = Normaliser::softmax;
    Tensor sink_logit_H;   // acc [H], read only when has_learned_sink_logit(normaliser)
    Tensor alibi_slope_H;  // acc [H]; adds -slope_h * (i - j) to the scaled logit; absent: no bias
    AttentionMask mask;
    /// For keys j < s the query has position min(i, sink_query_position): ALiBi's distance to them is min(i,
    /// sink_query_position) - j. The caller rotates that query (sink_query below). For a StreamingLLM cache with s
    /// sinks and span r this value is C = s + r.
    int64_t sink_query_position = INT64_MAX;
};

/// q x [B,T,H,D]; k, v x [B,S,G,D]; head h uses key-value head h / (H/G). Any strides with a contiguous last dim.
struct AttentionInputs {
    Tensor q, k, v;
    Tensor sink_query;  // x [B,T,H,D]: the query for keys j < s (StreamingLLM's fixed angle); absent: q
};

/// out = softmax'(scale q k^T + bias) v under the mask, lse acc [B,H,T] = LSE' (natural log, sink logit included). A
/// row that sees no key gives out = 0 and lse = z. Works in tiles as FlashAttention does; the T x S scores are never
/// stored. D <= 256.
void attention_forward(Context&, const Tensor& out_BTHD, const Tensor& lse_BHT, const AttentionInputs&, const AttentionParams&);

struct AttentionGradients {
    Tensor d_q, d_k, d_v;    // like q, k, v; overwritten
    Tensor d_sink_query;     // present exactly when sink_query is
    Tensor d_sink_logit_H;   // acc [H], +=; only where has_learned_sink_logit; absent where it is not wanted
};
/// Needs the forward pass's out and lse. d_out x [B,T,H,D].
void attention_backward(Context&, const AttentionGradients&, const Tensor& d_out_BTHD, const Tensor& out_BTHD,
                        const Tensor& lse_BHT, const AttentionInputs&, const AttentionParams&);
size_t attention_backward_scratch_bytes(const Context&, const AttentionInputs&);

/// weights acc [B,H,T,S] = P', to measure attention on short sequences (never used in training).
void attention_weights(Context&, const Tensor& weights_BHTS, const Tensor& lse_BHT, const AttentionInputs&, const AttentionParams&);
/// logits acc [B,H,T,S] = scale q k^T + bias, the input of the softmax; -inf where the mask hides the key. Also for
/// measurements. The same for every normaliser.
void attention_logits(Context&, const Tensor& logits_BHTS, const AttentionInputs&, const AttentionParams&);

// ---- Paged cache ----------------------------------------------------------------------------------------------------
//
// The keys and values that decoding keeps. A block holds 64 rows of one key-value head of one layer and sequence. A
// table says which block holds which slots, so no row is ever moved. Suffixes: P blocks, R = 64 rows of a block, W
// blocks of a table's row.

constexpr int64_t kCacheBlockRows = 64;

/// Rows of keys and values in blocks, shared by layers, key-value heads and sequences. Keys are stored as attention
/// reads them: rotated at their position in the text.
struct PagedCache {
    Tensor keys_PRD, values_PRD;  // [P,64,D], contiguous: x, or bf16 or fp16 with x = f32; widened in registers
    Tensor positions_PR;          // i32 [P,64]: the position of each row's token in its text; < 0: the row is empty
};

/// The rows that a call reads for sequence b and key-value head g: slots [0, length). Slot i is row i % 64 of block
/// table[b,g,i/64]. Slots may be in any order: positions_PR gives the position of a row. Each position occurs once.
struct CacheRows {
    Tensor table_BGW;  // i32 [B,G,W]
    Tensor length_BG;  // i32 [B,G]
};

/// Row n of every key-value head is written to slots[n,g], block * 64 + row; with a value < 0 that head does not keep
/// the row. The row's position is written too. k, v x [N,G,D], rounded to the cache's dtype, any strides with a
/// contiguous last dim; slots i32 [N,G], positions i32 [N]. No slot may occur twice. A slot beyond the cache is an
/// InternalError on the CPU; a GPU skips it.
void cache_write(Context&, const PagedCache&, const Tensor& k_NGD, const Tensor& v_NGD, const Tensor& slots_NG,
                 const Tensor& positions_N);

/// Copies the rows of one sequence (B = 1) to matrices for attention_forward: position j goes to row j for j < s =
/// num_sink_positions, else to row s + (j - key_start). Positions outside the S rows are skipped. Rows without a cached
/// position are zero, and the mask must hide them. k, v x [S,G,D], any strides with a contiguous last dim; key_start >=
/// s.
void cache_read(Context&, const Tensor& k_SGD, const Tensor& v_SGD, const PagedCache&, const CacheRows&,
                int64_t num_sink_positions, int64_t key_start);

/// Chooses the slot for the next row of every sequence and key-value head when heads keep rows by their score (H2O,
/// Zhang et al. 2023). The row at p = position[b] goes to slot p while p < capacity. After that it replaces one of the
/// rows in slots [0, capacity) whose position is before p - recent: the one with the least mass, and among equal masses
/// the one that is earliest in the text. A NaN mass is the least of all. The mass of the chosen slot becomes 0, because
/// it holds a new row. slots i32 [B,G], block * 64 + row, in the form that cache_write takes; table i32 [B,G,W];
/// position i32 [B], < 0: padding, whose slots are -1; mass acc [P,64], to which cached_attention_forward adds; 0 <=
/// recent < capacity <= 64 W. A block beyond the cache, or no row before p - recent, is an InternalError on the CPU. A
/// GPU skips that row of the cache, and the slot is -1.
void lightest_slots(Context&, const Tensor& slots_BG, const Tensor& mass_PR, const Tensor& positions_PR,
                    const Tensor& table_BGW, const Tensor& position_B, int64_t capacity, int64_t recent);

/// The slots per work item of cached_attention_forward. Fixed, so that bits do not depend on the other sequences of a
/// call.
constexpr int64_t kCacheSplitSlots = 4 * kCacheBlockRows;

/// The work items of cached_attention_forward, on the device. plan_cached_attention() makes them from the lengths of
/// one step. They stay valid for every later step whose lengths need no more splits, so recorded work stays valid as
/// sequences grow.
struct CachedAttentionWork {
    Tensor items_N3;   // i32 [N,3]: (b, g, split), those with the most slots first; b < 0: an empty item
    Tensor first_BG1;  // i32 [B G + 1]: the first partial result of each (b, g); the last value: their total number
};
/// The same on the host, to be copied to the device.
struct CachedAttentionPlan {
    std::vector<int32_t> items_N3, first_BG1;
};
/// Plans lengths [B,G] >= 0. `capacity` >= the number of items pads the list to `capacity` items; 0: no padding.
CachedAttentionPlan plan_cached_attention(std::span<const int32_t> lengths_BG, int64_t num_kv_heads,
                                          int64_t capacity = 0);
/// The number of splits of a (b, g) with `length` slots; used to compute capacities.
constexpr int64_t cached_attention_splits(int64_t length) {
    return (length + kCacheSplitSlots - 1) / kCacheSplitSlots;
}

/// Where the attention that rows receive is added up: the token scores of H2O and InfLLM.
struct SlotMass {
    /// acc [P,64]: += P' of every visible slot, summed over the query heads of its key-value head. Absent: not wanted.
    Tensor mass_PR = {};
    /// Only the first so many blocks of a (b, g). Sequences may share blocks there (the queries of one text), at the
    /// same places of their tables, if they are neighbours: a row's weights are added in the order of the sequences, as
    /// if each had been a call of its own.
    int64_t blocks = INT64_MAX;
};

/// Attention of one query in each of B sequences over the cached rows, which include the query's own row (call
/// cache_write first): out = softmax'(scale q k^T + bias) v. A slot at position j is visible to the query at i =
/// query_position[b] if 0 <= j <= i and (j < num_sink_positions or i - j <= span_h). i < 0 marks a padding row, whose
/// out is 0. Of params.mask only num_sink_positions and span_H are read. For keys j < s the query is sink_query
/// (absent: q) and ALiBi's distance is min(i, sink_query_position) - j.
///
/// Each (b, g) is divided into splits of kCacheSplitSlots slots. A split computes a running maximum, a sum and weighted
/// values for every query head of the group. These partial results are merged in the order of splits; the sink logit is
/// added once, in the merge (flash-decoding, Dao et al. 2023). So a sequence's bits do not depend on the other
/// sequences, on B, on the number of threads or on the order of work.
///
/// out, q, sink_query x [B,H,D], any strides with a contiguous last dim; query_position i32 [B]. A plan with too few
/// splits, and blocks beyond the cache, are InternalErrors on the CPU; on a GPU they make out NaN. Rows that no query
/// head sees are never read.
void cached_attention_forward(Context&, const Tensor& out_BHD, const Tensor& q_BHD, const Tensor& sink_query_BHD,
                              const PagedCache&, const CacheRows&, const Tensor& query_position_B,
                              const CachedAttentionWork&, const AttentionParams&, const SlotMass& = {});
/// The scratch shape of cached_attention_forward, for at most `items` work items (padding included).
struct CachedAttentionShape {
    int64_t sequences = 0, heads = 0, kv_heads = 0, head_dim = 0, items = 0;
    bool with_mass = false;
};
size_t cached_attention_scratch_bytes(Dtype x, const CachedAttentionShape& shape);

// ---- Block memory (InfLLM) -----------------------------------------------------------------------------------------

/// The part of a text that InfLLM keeps, and how much of it a query reads (Xiao et al. 2024, section 3.2 and its
/// ContextManager). A row [W] of the table lists blocks for one sequence and key-value head. First comes a ring for the
/// last `local` positions: position p is in slot p % ring_slots(), and its key is rotated at p. The ring has one block
/// more than they need, so the 64 queries of a block can be computed together: the rows that the first of them sees and
/// the last one does not are still there. Then come the blocks of all positions, 64 positions each, in order; their
/// keys are not rotated. Position f is far from the query at p when f <= p - local, and its block is past once that of
/// p - local has begun after it. Of the past blocks, every query reads those of the first `initial` positions, and each
/// query reads the `chosen` most relevant of the others. Of the block after these, a query reads the positions that are
/// far.
struct BlockMemory {
    int64_t local = 0;    // positions, a multiple of 64, > 0
    int64_t initial = 0;  // positions, a multiple of 64
    int64_t chosen = 0;   // blocks
    int64_t representatives = 4;  // rows of a block whose mean key is its representative, <= 64

    int64_t ring_blocks() const { return local / kCacheBlockRows + 1; }
    int64_t ring_slots() const { return ring_blocks() * kCacheBlockRows; }
    int64_t initial_blocks() const { return initial / kCacheBlockRows; }
    /// The largest number of blocks that a query reads.
    int64_t read_blocks() const { return ring_blocks() + initial_blocks() + chosen + 1; }
    /// The number of slots that the query at `position` reads.
    int64_t slots(int64_t position) const;
};

/// To be called before the rows of a step are written. Where p = position[b] is a multiple of 64, the ring's block that
/// p goes to is emptied: its masses become 0 and its positions -1. The 64 positions that were in it have been far since
/// p - 1 at the latest, so no query adds to their masses any more: their block among those of the whole text gets its
/// representative, acc, unless it is one of the initial blocks. The representative is the mean of the keys of the
/// `representatives` rows with the most mass (among equal masses the earlier rows), added in the order of their
/// positions. mass acc [P,64]; representatives acc [P,D], indexed by the blocks of the whole text; position i32 [B],
/// < 0: padding; table i32 [B,G,W], or [1,G,W] for positions of one text, all in the same block of 64. A NaN mass is
/// the least. A block beyond the table or the cache is an InternalError on the CPU; a GPU skips it.
void memory_store(Context&, const Tensor& representatives_PD, const Tensor& mass_PR, const PagedCache&,
                  const Tensor& table_BGW, const Tensor& position_B, const BlockMemory&);
/// Lists the blocks that the query at p = position[b] reads; to be called after memory_store of p. relevance[b,n] = sum
/// over heads h of q[b,h] · the representative of block n, for the blocks that may be chosen. read [B,G,V] lists the
/// ring's blocks, the past initial blocks, the `chosen` most relevant blocks (among equals the
/// earlier) in the order of their positions, and the block after these. Entries after these are not written. All
/// key-value heads of a sequence read the same blocks. q x [B,H,D], any strides with a contiguous last dim; relevance
/// acc [B,N], N >= W - ring_blocks(); read i32 [B,G,V], V >= read_blocks(). Tables, NaN and errors as for memory_store.
void memory_lookup(Context&, const Tensor& read_BGV, const Tensor& relevance_BN, const Tensor& q_BHD,
                   const Tensor& representatives_PD, const Tensor& table_BGW, const Tensor& position_B,
                   const BlockMemory&);

// ---- Measuring attention's gradient -----------------------------------------------------------------------------------

/// Sums over blocks, acc [B,H,ceil(T/block),ceil(S/block)], +=; either may be absent.
struct Influence {
    Tensor absolute_BHIJ;    // of |E|
    Tensor signed_sum_BHIJ;  // of E
};
/// E_ij: the change of a loss when query i no longer sees key row j and the rest of the row is renormalised, to first
/// order in the output (MoA, Fu et al. 2024, arXiv 2406.14909, equations 3 and 13). The op sums E_ij over blocks x
/// block tiles of query and key rows, per query head. With P' = exp(s - LSE'), O = P' V, g_ij = dO_i . V_j and D_i =
/// dO_i . O_i: without key j the row's denominator is e^LSE' (1 - P'_ij), with or without a sink logit, so
///   O' = (O_i - P'_ij V_j) / (1 - P'_ij),   E_ij = dO_i . (O' - O_i) = P'_ij / (1 - P'_ij) (D_i - g_ij).
/// This is exact for a loss that is linear in O. 1 - P' is computed as -expm1(s - LSE'), and is at least the epsilon of
/// acc. Without a sink logit, a row that sees a single key (row 0) has no other key to renormalise: its output becomes
/// 0 and E = -g. Hidden entries have E = 0. For narrow x, D contains the rounding error of out: E is good to 2^-9 |g|
/// P' / (1 - P'). d_out, out x [B,T,H,D]; lse acc [B,H,T] of the forward pass. No T x S buffer. Masks by row are
/// supported.
void attention_influence(Context&, const Influence&, int64_t block, const Tensor& d_out_BTHD, const Tensor& out_BTHD,
                         const Tensor& lse_BHT, const AttentionInputs&, const AttentionParams&);

/// The effect of a shorter span on a loss, to first order in the output: effect[b,h,m-1] += sum over queries i of E_im,
/// m = 1 … M. E_im hides from query i all keys at positions j >= sinks with i - j >= m block at once, and renormalises
/// the rest of the row. With the names of attention_influence(),
///   E_im = (sum over hidden keys of P'_ij (D_i - g_ij)) / (1 - sum over hidden keys of P'_ij).
/// This is exact for a loss that is linear in O; it is neither a sum of E_ij nor of |E_ij|. The denominator is computed
/// as the sum of the weights that stay, and is at least the epsilon of acc. effect acc [B,H,M]; block >= 1; sinks >= 0,
/// independent of the mask's sinks; the rest as above. Scratch on a GPU: 2 B H T (M + 1) numbers and a little. Queries
/// are added in one order.
void attention_span_effect(Context&, const Tensor& effect_BHM, int64_t block, int64_t sinks, const Tensor& d_out_BTHD,
                           const Tensor& out_BTHD, const Tensor& lse_BHT, const AttentionInputs&, const AttentionParams&);

/// mass[b,h,c] += sum over queries of P'_ic: the accumulated scores of H2O (Zhang et al. 2023) and InfLLM (Xiao et al.
/// 2024). mass acc [B,H,S]; lse acc [B,H,T] of the forward pass. No T x S buffer. Queries are added in one order.
void attention_key_mass(Context&, const Tensor& mass_BHS, const Tensor& lse_BHT, const AttentionInputs&,
                        const AttentionParams&);

// ---- A gate for every head ------------------------------------------------------------------------------------------

/// out = x sigmoid(gate), with one gate per head and token ("Gated Attention for Large Language Models", Qiu et al.
/// 2025, arXiv:2505.06708: headwise, after the weighted values). out, x x [B,T,H,D], gate x [B,T,H], all contiguous.
/// out may be x.
void head_gate_forward(Context&, const Tensor& out_BTHD, const Tensor& x_BTHD, const Tensor& gate_BTH);
/// d_x = d_out sigmoid(gate); d_gate = sigmoid'(gate) sum over D of d_out x. Needs gate and the x from before the gate.
/// Attention's backward pass keeps that x anyway, as its out; the gated out is kept only for the next layer. d_x may be
/// d_out.
void head_gate_backward(Context&, const Tensor& d_x_BTHD, const Tensor& d_gate_BTH, const Tensor& d_out_BTHD,
                        const Tensor& x_BTHD, const Tensor& gate_BTH);

// ---- A step's scalars -----------------------------------------------------------------------------------------------

/// The values that change from step to step are on the device, so that a whole step can become a CUDA graph. The host
/// writes learning_rate, step, loss_scale and the limits before the step and reads the other fields after it.
struct StepScalars {
    static constexpr double kNoLimit = std::numeric_limits<double>::infinity();

    double learning_rate = 0;
    int64_t step = 0;              // 1-based: bias corrections use beta^step
    double loss_scale = 1;         // multiplies the loss, hence every gradient until AdamW (fp16)
    double loss_limit = kNoLimit;  // on the sum of all passes' losses
    double norm_limit = kNoLimit;  // on grad_norm
    double grad_norm = 0;          // L2 of all gradients of the loss itself, before clipping
    double clip_factor = 1;        // multiplies every gradient: applies clipping and removes loss_scale
    int64_t non_finite = 0;        // 1 when loss or grad norm is not finite; AdamW then changes nothing
    int64_t spike = 0;             // 1 when either is above its limit; AdamW then changes nothing
};
/// The scalars' place on the device: u8 [sizeof(StepScalars)].
using StepScalarsTensor = Tensor;

// ---- Fused linear + cross-entropy -----------------------------------------------------------------------------------

/// For rows with target >= 0: losses[n] = -log softmax(x[n] weight^T)[targets[n]]. Rows with target < 0 have loss 0 and
/// no gradient. With gradients: d_x = f dloss/dx, d_weight += f dloss/dweight (loss = sum of the losses). f is
/// loss_factor times the scalars' loss_scale, which is read on the device when the op runs (absent scalars: 1). x, d_x
/// x [N,C]; weight [V,C] without a bias; d_weight acc [V,C]; targets i32 [N], < V (else an InternalError on the CPU, a NaN loss on a GPU); losses acc [N]. Without d_x (evaluation)
/// d_weight must be absent too; with d_x, d_weight may be absent. Runs in chunks of rows: the full logits are never
/// stored.
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
/// out = min(max(x, -limit), limit), NaN where x is NaN: MPT's clip_qkv, applied to the whole QKV before its split.
/// limit >= 0 is first rounded to x's dtype. All x, same shape, contiguous; out may be x when the backward pass does
/// not need x.
void clamp_forward(Context&, const Tensor& out, const Tensor& x, double limit);
/// d_x = d_out where -limit <= x <= limit, else 0: PyTorch's convention. x must be the tensor from before clamping:
/// afterwards a clipped value and a value exactly at the limit are the same. d_x may be d_out.
void clamp_backward(Context&, const Tensor& d_x, const Tensor& d_out, const Tensor& x, double limit);

// ---- Optimiser ------------------------------------------------------------------------------------------------------

/// A parameter's place in the flat arrays of weights, gradients and moments.
struct ParameterSpan {
    int64_t offset = 0;  // in elements
    int64_t count = 0;
    bool decay = false;
};

/// The parameters of flat arrays, and the table of them that GPU kernels read. Made once, before the first step.
class ParameterSet {
  public:
    ParameterSet(Context&, std::vector<ParameterSpan> spans);
    std::span<const ParameterSpan> spans() const { return spans_; }
    const void* table() const { return table_.data(); }

  private:
    std::vector<ParameterSpan> spans_;
    DeviceBuffer table_;  // empty on the CPU
};

/// sum_of_squares f64 [n] = sum of g^2 for every parameter of the flat gradients g acc [P]. Processes that share the
/// gradients must add their sums before global_norm().
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
/// master, m, v, gradients acc [P]; compute x [P] receives the new weights in the compute dtype (absent when it is the
/// master itself). Changes nothing when scalars.non_finite or scalars.spike is set.
void adamw(Context&, const Tensor& master_P, const Tensor& compute_P, const Tensor& m_P, const Tensor& v_P,
           const Tensor& gradients_P, const ParameterSet& parameters, const StepScalarsTensor& scalars,
           const AdamW& options);

}  // namespace ballast::ops
