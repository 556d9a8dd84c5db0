// The functions of kernels/ops.h that every device implements: same signatures and contracts, with arguments already
// checked in dispatch/. cpu/ops.h and cuda/ops.h include this file inside the device's namespace, so that each op is
// declared once. That is why there is no include guard.

using ops::AdamW;
using ops::AttentionGradients;
using ops::AttentionInputs;
using ops::AttentionMask;
using ops::AttentionParams;
using ops::BlockMemory;
using ops::CachedAttentionWork;
using ops::CacheRows;
using ops::Gelu;
using ops::Influence;
using ops::LinearWeight;
using ops::NormGradient;
using ops::NormOutput;
using ops::PagedCache;
using ops::ParameterSet;
using ops::ParameterSpan;
using ops::Positions;
using ops::Products;
using ops::QkvLayout;
using ops::SlotMass;
using ops::StepScalars;

void embedding_forward(Context&, const Tensor& out_NC, const Tensor& weight_VC, const Tensor& ids_N,
                       const Tensor& scale_V);
void embedding_backward(Context&, const Tensor& d_weight_VC, const Tensor& d_out_NC, const Tensor& ids_N);
size_t embedding_backward_scratch_bytes(const Context&, Dtype x, int64_t rows, int64_t channels);

void residual_norm_forward(Context&, const Tensor& y_NC, std::span<const NormOutput> norms, const Tensor& mean_N,
                           const Tensor& rstd_N, const Tensor& a_NC, const Tensor& b_NC, const Tensor& c_NC, double eps);
void norm_backward(Context&, const Tensor& d_y_NC, std::span<const NormGradient> norms, const Tensor& y_NC,
                   const Tensor& mean_N, const Tensor& rstd_N);

void linear_forward(Context&, const Tensor& out_NO, const Tensor& x_NI, const LinearWeight& weight, Products products);
void linear_backward(Context&, const Tensor& d_x_NI, const Tensor& d_weight_OI, const Tensor& d_bias_O,
                     const Tensor& d_out_NO, const Tensor& x_NI, const Tensor& weight_OI);
Dtype product_dtype(const Context&, Dtype x);
size_t linear_scratch_bytes(const Context&, Dtype x, Dtype weight, int64_t rows, int64_t outputs, int64_t inputs,
                            Products products);

void linear_gelu_forward(Context&, const Tensor& out_NF, const Tensor& pre_NF, const Tensor& x_NI,
                         const LinearWeight& weight, Gelu kind, Products products);
void gelu_linear_backward(Context&, const Tensor& d_pre_NF, const Tensor& d_weight_OF, const Tensor& d_bias_O,
                          const Tensor& d_out_NO, const Tensor& hidden_NF, const Tensor& pre_NF,
                          const Tensor& weight_OF, Gelu kind);

void swiglu_forward(Context&, const Tensor& out_NF, const Tensor& gate_up_N2F);
void swiglu_backward(Context&, const Tensor& d_gate_up_N2F, const Tensor& d_out_NF, const Tensor& gate_up_N2F);

void rope_table(Context&, const Tensor& table_PR, std::span<const double> inv_freq, double attention_factor);
void rope_forward(Context&, const Tensor& out_BTHD, const Tensor& x_BTHD, const Tensor& table_PR, const Positions& positions);
void rope_backward(Context&, const Tensor& d_x_BTHD, const Tensor& d_out_BTHD, const Tensor& table_PR,
                   const Positions& positions);
void qkv_split_rope_forward(Context&, const Tensor& q_BTHD, const Tensor& k_BTGD, const Tensor& v_BTGD,
                            const Tensor& qkv_BTM, const Tensor& table_PR, const Positions& positions, QkvLayout layout);
void qkv_split_rope_backward(Context&, const Tensor& d_qkv_BTM, const Tensor& d_q_BTHD, const Tensor& d_k_BTGD,
                             const Tensor& d_v_BTGD, const Tensor& table_PR, const Positions& positions,
                             QkvLayout layout);

void attention_forward(Context&, const Tensor& out_BTHD, const Tensor& lse_BHT, const AttentionInputs&, const AttentionParams&);
void attention_backward(Context&, const AttentionGradients&, const Tensor& d_out_BTHD, const Tensor& out_BTHD,
                        const Tensor& lse_BHT, const AttentionInputs&, const AttentionParams&);
size_t attention_backward_scratch_bytes(const Context&, const AttentionInputs&);
void attention_weights(Context&, const Tensor& weights_BHTS, const Tensor& lse_BHT, const AttentionInputs&,
                       const AttentionParams&);
void attention_logits(Context&, const Tensor& logits_BHTS, const AttentionInputs&, const AttentionParams&);

void cache_write(Context&, const PagedCache&, const Tensor& k_NGD, const Tensor& v_NGD, const Tensor& slots_NG,
                 const Tensor& positions_N);
void cache_read(Context&, const Tensor& k_SGD, const Tensor& v_SGD, const PagedCache&, const CacheRows&,
                int64_t num_sink_positions, int64_t key_start);
void lightest_slots(Context&, const Tensor& slots_BG, const Tensor& mass_PR, const Tensor& positions_PR,
                    const Tensor& table_BGW, const Tensor& position_B, int64_t capacity, int64_t recent);
void cached_attention_forward(Context&, const Tensor& out_BHD, const Tensor& q_BHD, const Tensor& sink_query_BHD,
                              const PagedCache&, const CacheRows&, const Tensor& query_position_B,
                              const CachedAttentionWork&, const AttentionParams&, const SlotMass&);
void memory_store(Context&, const Tensor& representatives_PD, const Tensor& mass_PR, const PagedCache&,
                  const Tensor& table_BGW, const Tensor& position_B, const BlockMemory&);
void memory_lookup(Context&, const Tensor& read_BGV, const Tensor& relevance_BN, const Tensor& q_BHD,
                   const Tensor& representatives_PD, const Tensor& table_BGW, const Tensor& position_B,
                   const BlockMemory&);
void attention_influence(Context&, const Influence&, int64_t block, const Tensor& d_out_BTHD, const Tensor& out_BTHD,
                         const Tensor& lse_BHT, const AttentionInputs&, const AttentionParams&);
void attention_span_effect(Context&, const Tensor& effect_BHM, int64_t block, int64_t sinks, const Tensor& d_out_BTHD,
                           const Tensor& out_BTHD, const Tensor& lse_BHT, const AttentionInputs&,
                           const AttentionParams&);
void attention_key_mass(Context&, const Tensor& mass_BHS, const Tensor& lse_BHT, const AttentionInputs&,
                        const AttentionParams&);

void head_gate_forward(Context&, const Tensor& out_BTHD, const Tensor& x_BTHD, const Tensor& gate_BTH);
void head_gate_backward(Context&, const Tensor& d_x_BTHD, const Tensor& d_gate_BTH, const Tensor& d_out_BTHD,
                        const Tensor& x_BTHD, const Tensor& gate_BTH);

void linear_cross_entropy(Context&, const Tensor& losses_N, const Tensor& d_x_NC, const Tensor& d_weight_VC,
                          const Tensor& x_NC, const LinearWeight& weight, const Tensor& targets_N, double loss_factor,
                          const Tensor& scalars);
size_t linear_cross_entropy_scratch_bytes(const Context&, Dtype x, Dtype weight, int64_t rows, int64_t vocabulary,
                                          int64_t channels);

void add(Context&, const Tensor& out, const Tensor& a, const Tensor& b, const Tensor& c);
void cast(Context&, const Tensor& out, const Tensor& in);
void copy(Context&, const Tensor& out, const Tensor& in);
void sum(Context&, const Tensor& out_1, const Tensor& x);
/// The same with the limit already rounded to x's dtype.
void clamp_forward(Context&, const Tensor& out, const Tensor& x, double limit);
void clamp_backward(Context&, const Tensor& d_x, const Tensor& d_out, const Tensor& x, double limit);

/// The parameter table that the device's kernels read.
DeviceBuffer parameter_table(Context&, std::span<const ParameterSpan> spans);
void sums_of_squares(Context&, const Tensor& sum_of_squares_n, const Tensor& gradients_P,
                     const ParameterSet& parameters);
void global_norm(Context&, const Tensor& scalars, const Tensor& sum_of_squares_n, const Tensor& losses_K,
                 double clip_norm);
void adamw(Context&, const Tensor& master_P, const Tensor& compute_P, const Tensor& m_P, const Tensor& v_P,
           const Tensor& gradients_P, const ParameterSet& parameters, const Tensor& scalars,
           const AdamW& options);
