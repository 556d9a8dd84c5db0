// The speed of the machines that run ranks: a GPU from its data sheet, or this CPU as measured; and the network between
// ranks.
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
    double flops = 0;      // FLOP/s of dense products in the compute dtype: the peak that MFU refers to
    double bandwidth = 0;  // bytes/s of memory, read and written
    double memory = 0;     // bytes
    double product_share = 1, attention_share = 1, memory_share = 1;
    std::string source = {};  // where the rates are from
    std::string shares = {};  // where the shares are from
};

/// The names that machine_named() accepts, and "cpu".
std::vector<std::string> machine_names();

/// A GPU of the table, with the attainable shares for heads of `head_dim`. Its rates for bf16 and fp16 products are
/// those of the data sheet. UserError for a name that is not in the table and for other dtypes.
Machine machine_named(std::string_view name, Dtype dtype, int64_t head_dim);

/// This CPU: measures products, attention and copies with the run's own shapes for about a second on the context's
/// threads. MFU then refers to the measured rate of products.
Machine measure_cpu(Context& context, const RunConfig& config);

/// The part of a shared machine that each of `ranks` ranks has.
Machine shared_out(Machine machine, int ranks);

/// The connection between any two ranks.
struct Network {
    double bandwidth = 0;           // bytes/s that a rank receives while it sends at the same rate
    double round_seconds = 5e-6;    // latency of an exchange without bytes: a switch, and the host's part
    double message_seconds = 5e-7;  // host time of each further message of an exchange
};

/// "400Gb/s", "50GB/s", "25 Gbit/s": b and bit are bits, B bytes, k M G T powers of 1000. UserError for anything else.
Network parse_network(std::string_view text);

}  // namespace ballast::train
