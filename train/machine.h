// What computes a rank, as numbers: a GPU from its data sheet, or this CPU as measured; and the network between ranks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/context.h"
#include "train/run_config.h"

namespace ballast::train {

/// Rates of one rank's device and the shares of them that our kernels reach.
struct Machine {
    std::string name = {};
    double flops = 0;      // FLOP/s of dense products in the compute dtype: what MFU is a share of
    double bandwidth = 0;  // bytes/s of memory, read and written
    double memory = 0;     // bytes
    double product_share = 1, attention_share = 1, memory_share = 1;
    std::string source = {};  // where the rates are from
    std::string shares = {};  // where the shares are from
};

/// Names that machine_named() knows, and "cpu".
std::vector<std::string> machine_names();

/// A GPU of the table, with the shares for heads of `head_dim`. The data sheet's rates of bf16 and fp16 products;
/// UserError for a name that is not in the table and for other dtypes.
Machine machine_named(std::string_view name, Dtype dtype, int64_t head_dim);

/// This CPU: products, attention and copies of the run's own shapes timed here for about a second on the context's
/// threads. MFU is then a share of the rate that products attain.
Machine measure_cpu(Context& context, const RunConfig& config);

/// What one of `ranks` ranks has of a machine that they share.
Machine shared_out(Machine machine, int ranks);

/// The way between any two ranks.
struct Network {
    double bandwidth = 0;           // bytes/s that a rank receives while it sends as many
    double round_seconds = 5e-6;    // of an exchange without bytes: a switch, and the host's part
    double message_seconds = 5e-7;  // that each further message of an exchange costs the host
};

/// "400Gb/s", "50GB/s", "25 Gbit/s": b and bit are bits, B bytes, k M G T powers of 1000. UserError for anything else.
Network parse_network(std::string_view text);

}  // namespace ballast::train
