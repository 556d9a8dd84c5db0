#include "train/cost_model.h"

#include <algorithm>
#include <numeric>

#include "model/products.h"

namespace ballast::train {
namespace {

using Kind = model::Product::Kind;

/// Seconds of ops, by what bounds them.
class Roofline {
  public:
    Roofline(const Machine& machine, const RunConfig& config)
        : machine_(machine),
          model_(config.model),
          element_(static_cast<double>(size_of(config.train.dtype))),
          sum_(static_cast<double>(size_of(accumulation_dtype(config.train.dtype)))),
          samples_(static_cast<double>(config.samples_per_pass())),
          length_(config.train.sequence_length),
          rows_(samples_ * static_cast<double>(length_)) {}

    double moved(double bytes) const { return bytes / (machine_.bandwidth * machine_.memory_share); }
    /// Of rows of a pass, each of so many elements in the compute dtype.
    double moved_rows(int64_t elements_a_row) const {
        return moved(rows_ * static_cast<double>(elements_a_row) * element_);
    }

    double product(const model::Product& p) const {
        const auto x = static_cast<double>(p.rows * p.inputs), weight = static_cast<double>(p.outputs * p.inputs),
                   out = static_cast<double>(p.rows * p.outputs);
        // A weight's gradient is added to what is there.
        const double bytes =
            p.kind == Kind::d_weight ? (x + out) * element_ + 2 * weight * sum_ : (x + weight + out) * element_;
        return std::max(p.flops() / (machine_.flops * machine_.product_share), moved(bytes));
    }

    /// `products` of a causal square, each of 2 D operations a pair: 2 forward, 5 backward (Dao et al. 2022).
    double attention(int64_t layer, int products) const {
        const int64_t span = model_.span_of_layer(layer);
        const auto T = static_cast<double>(length_);
        const double width = span > 0 ? std::min(T, static_cast<double>(span + 1)) : T;
        const double pairs = T * width - width * width / 2;  // the triangle is missing at the beginning alone
        const double flops = 2.0 * products * samples_ * pairs * static_cast<double>(model_.attention_dim());
        const int64_t moved_a_row =
            products == 2 ? model_.qkv_dim() + model_.attention_dim() : 2 * (model_.qkv_dim() + model_.attention_dim());
        return std::max(flops / (machine_.flops * machine_.attention_share), moved_rows(moved_a_row));
    }

    /// Rotating and splitting, norms and sums of the residual stream, what GELU keeps, the gated MLP.
    double elementwise_forward() const {
        const int64_t C = model_.hidden_size, norms = model_.parallel_residual && !model_.shared_norm ? 2 : 1;
        const int64_t residual = model_.parallel_residual ? (4 + norms) * C : 2 * 4 * C;
        const int64_t activation = model_.gated() ? 3 * model_.feed_forward_dim() : model_.mlp_up_dim();
        return moved_rows(2 * model_.qkv_dim() + residual + activation);
    }
    double elementwise_backward() const {
        const int64_t C = model_.hidden_size, norms = model_.parallel_residual && !model_.shared_norm ? 2 : 1;
        const int64_t residual =
            (model_.parallel_residual ? (3 + norms) * C : 2 * 4 * C) + (model_.shared_norm ? 3 * C : 0);
        const int64_t activation = model_.gated() ? 5 * model_.feed_forward_dim() : model_.mlp_up_dim();
        return moved_rows(2 * model_.qkv_dim() + residual + activation);
    }

    /// The head's products and what the loss does with logits: written and read in the accumulation dtype, their
    /// gradient written once and read by two products in the compute dtype; the final norm's backward pass.
    double head() const {
        double seconds = moved_rows(4 * model_.hidden_size) +
                         moved(rows_ * static_cast<double>(model_.vocab_size) * (2 * sum_ + 3 * element_));
        for (const auto& p : model::products_of_head(model_, static_cast<int64_t>(rows_))) seconds += product(p);
        return seconds;
    }
    double embedding_forward() const { return moved_rows(2 * model_.hidden_size); }
    double embedding_backward() const {
        return moved(rows_ * static_cast<double>(model_.hidden_size) * (element_ + 2 * sum_));
    }
    std::vector<model::Product> layer_products() const {
        return model::products_of_layer(model_, static_cast<int64_t>(rows_));
    }

  private:
    const Machine& machine_;
    const model::ModelConfig& model_;
    double element_, sum_, samples_;
    int64_t length_;
    double rows_;
};

/// Exchanges among ranks that all send to all.
class Exchanges {
  public:
    Exchanges(const Network& network, const Distribution& distribution)
        : network_(network), others_(distribution.ranks().size() - 1) {
        const Range all{0, distribution.lanes()};
        for (int r = 0; r < distribution.ranks().size(); ++r)
            if (r != distribution.ranks().rank())
                foreign_nodes_ += static_cast<double>(whole_nodes(all, distribution.rank_lanes(r)).size());
    }

    /// Sums that other ranks make of lanes that are all theirs.
    double foreign_nodes() const { return foreign_nodes_; }
    /// Bytes that a rank receives, on average, where elements of `size` bytes are reduced, or gathered.
    double reduced(const Bucket& bucket, double size) const { return foreign_nodes_ * average_share(bucket) * size; }
    double gathered(const Bucket& bucket, double size) const { return others_ * average_share(bucket) * size; }
    /// Until the rank with the largest share has got it, or has sent it to all others.
    double reduce_seconds(const Bucket& bucket, double size) const {
        return seconds(foreign_nodes_ * static_cast<double>(bucket.most_elements()) * size, foreign_nodes_);
    }
    double gather_seconds(const Bucket& bucket, double size) const {
        return seconds(others_ * static_cast<double>(bucket.most_elements()) * size, others_);
    }

  private:
    double average_share(const Bucket& bucket) const {
        return static_cast<double>(bucket.elements().size()) / (others_ + 1);
    }
    double seconds(double bytes, double messages) const {
        if (others_ == 0) return 0;
        return network_.round_seconds + messages * network_.message_seconds + bytes / network_.bandwidth;
    }

    const Network& network_;
    double others_, foreign_nodes_ = 0;
};

/// Of a gradient on the network.
double sent_bytes(const RunConfig& config) {
    return static_cast<double>(
        std::min(size_of(accumulation_dtype(config.train.dtype)), size_of(config.train.reduction_dtype)));
}

double sum(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

int64_t most_passes(const RunConfig& config, const Distribution& distribution) {
    if (distribution.is_trivial()) return config.train.global_batch / config.samples_per_pass();
    int64_t most = 0;
    for (int r = 0; r < distribution.ranks().size(); ++r) most = std::max(most, distribution.rank_passes(r).size());
    return most;
}

}  // namespace

double PassCost::total() const { return forward + sum(backward); }

PassCost cost_of_pass(const Machine& machine, const RunConfig& config) {
    const Roofline roofline(machine, config);
    double forward_products = 0, backward_products = 0, qkv = 0, down = 0;
    for (const model::Product& p : roofline.layer_products()) {
        const double seconds = roofline.product(p);
        (p.kind == Kind::forward ? forward_products : backward_products) += seconds;
        if (p.kind == Kind::forward && p.layer == "query_key_value") qkv = seconds;
        if (p.kind == Kind::forward && p.layer == "mlp down") down = seconds;
    }
    PassCost cost;
    cost.forward = roofline.embedding_forward();
    cost.backward.push_back(roofline.head());
    const int64_t L = config.model.num_layers;
    for (int64_t l = L - 1; l >= 0; --l) {
        const double attention = roofline.attention(l, 2),
                     forward = forward_products + attention + roofline.elementwise_forward();
        cost.forward += forward;
        double again = 0;
        if (l < L - 1 && config.train.recompute == model::Recompute::attention) again = qkv + attention;
        if (l < L - 1 && config.train.recompute == model::Recompute::full) again = forward - down;
        cost.backward.push_back(again + backward_products + roofline.attention(l, 5) + roofline.elementwise_backward());
    }
    cost.backward.push_back(roofline.embedding_backward());
    return cost;
}

StepCost cost_of_step(const Machine& machine, const Network& network, const RunConfig& config,
                      const Distribution& distribution) {
    const Roofline roofline(machine, config);
    const PassCost pass = cost_of_pass(machine, config);
    const Exchanges exchanges(network, distribution);
    const Shards shards(model::ParameterTable(config.model), distribution);
    const Dtype dtype = config.train.dtype;
    const auto narrow = static_cast<double>(size_of(dtype)),
               wide = static_cast<double>(size_of(accumulation_dtype(dtype))), sent = sent_bytes(config);
    const auto own_lanes = static_cast<double>(distribution.own_lanes().size());
    const auto own_nodes = static_cast<double>(whole_nodes({0, distribution.lanes()}, distribution.own_lanes()).size());
    const bool sharded = distribution.shards_optimizer();

    StepCost cost;
    cost.passes = static_cast<double>(most_passes(config, distribution)) * pass.total();
    double parameters = 0, share = 0;                 // a rank's
    double reducing = 0, last_pass = 0, free_at = 0;  // seconds; the latter two since the last backward pass began
    int64_t part = config.model.num_layers;
    for (const Bucket& bucket : shards.buckets()) {
        parameters += static_cast<double>(bucket.elements().size());
        share += static_cast<double>(bucket.most_elements());
        for (; part >= bucket.last_part; --part)
            last_pass += pass.backward[static_cast<size_t>(config.model.num_layers - part)];
        const double seconds =
            exchanges.reduce_seconds(bucket, sent) + (sharded ? 0 : exchanges.gather_seconds(bucket, sent));
        free_at = std::max(free_at, last_pass) + seconds;
        reducing += seconds;
        if (sharded) cost.communication += exchanges.gather_seconds(bucket, narrow);
    }
    if (distribution.overlaps()) cost.hidden = reducing - (free_at - last_pass);
    cost.communication += reducing;
    cost.overlap_ceiling = 1 - static_cast<double>(shards.buckets().back().elements().size()) / parameters;

    const double added = (own_lanes - own_nodes) * parameters + (own_nodes + exchanges.foreign_nodes() - 1) * share;
    cost.adding = roofline.moved(3 * wide * added);
    // Gradients are cleared, squared and read; the master and both moments are read and written; so is a narrow copy.
    cost.optimizer = roofline.moved(own_lanes * parameters * wide + share * wide +
                                    (sharded ? share : parameters) * (7 * wide + (narrow < wide ? narrow : 0)));
    return cost;
}

double received_bytes(const RunConfig& config, const Distribution& distribution) {
    const Network network;
    const Exchanges exchanges(network, distribution);
    const auto narrow = static_cast<double>(size_of(config.train.dtype)), sent = sent_bytes(config);
    const Shards shards(model::ParameterTable(config.model), distribution);
    double bytes = 0;
    for (const Bucket& bucket : shards.buckets())
        bytes += exchanges.reduced(bucket, sent) +
                 exchanges.gathered(bucket, distribution.shards_optimizer() ? narrow : sent);
    return bytes;
}

double model_flops_utilisation(const Machine& machine, const RunConfig& config, int ranks, double seconds) {
    const model::ParameterTable table(config.model);
    const double flops =
        model::flops_per_token(config.model, table.num_parameters(), config.train.sequence_length).palm;
    return flops * static_cast<double>(config.train.global_batch * config.train.sequence_length) /
           (seconds * ranks * machine.flops);
}

}  // namespace ballast::train
