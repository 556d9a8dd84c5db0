#include "kernels/cuda/attention_choice.h"

#include <cmath>
#include <fmt/format.h>
#include <vector>

#include "base/larger_or_nan.h"
#include "base/log.h"
#include "base/philox.h"
#include "kernels/cuda/attention_wgmma.h"
#include "kernels/ops.h"

namespace ballast::cuda {
namespace {

constexpr int64_t kBatches = 1, kSteps = 200, kHeads = 4, kKeyValueHeads = 2;

/// Tensors of one case, on the device; inputs are the same in every process.
class Case {
  public:
    Case(Device device, AttentionKernels kernels, int64_t dims) : context_(device, 1), dims_(dims) {
        context_.set_attention_kernels(kernels);
    }

    /// out, LSE', d_q, d_k, d_v and d_sink_logit.
    std::vector<std::vector<float>> run() {
        const ops::AttentionInputs in{input("q", kHeads), input("k", kKeyValueHeads), input("v", kKeyValueHeads), {}};
        ops::AttentionParams params;
        params.scale = 1 / std::sqrt(static_cast<double>(dims_));
        params.normaliser = Normaliser::sink_logit;
        params.sink_logit_H = make(Dtype::f32, {kHeads});
        const Tensor out = like(in.q), d_out = input("d_out", kHeads),
                     lse = make(Dtype::f32, {kBatches, kHeads, kSteps});
        const ops::AttentionGradients gradients{like(in.q), like(in.k), like(in.v), {}, make(Dtype::f32, {kHeads})};
        ops::attention_forward(context_, out, lse, in, params);
        ops::attention_backward(context_, gradients, d_out, out, lse, in, params);
        std::vector<std::vector<float>> results;
        for (const Tensor& x : {out, lse, gradients.d_q, gradients.d_k, gradients.d_v, gradients.d_sink_logit_H})
            results.push_back(read(x));
        return results;
    }

  private:
    Tensor make(Dtype dtype, std::initializer_list<int64_t> shape) {
        int64_t count = 1;
        for (int64_t extent : shape) count *= extent;
        buffers_.push_back(context_.allocate(static_cast<size_t>(count) * size_of(dtype)));  // zeros
        return Tensor(buffers_.back().data(), dtype, shape);
    }
    /// Of a [B,T,H,D] tensor.
    Tensor like(const Tensor& x) { return make(x.dtype, {x.dim(0), x.dim(1), x.dim(2), x.dim(3)}); }
    Tensor input(const char* name, int64_t heads) {
        const Tensor x = make(Dtype::bf16, {kBatches, kSteps, heads, dims_});
        const Philox generator(1, name);
        std::vector<bf16> values(static_cast<size_t>(x.numel()));
        for (size_t i = 0; i < values.size(); ++i) values[i] = bf16(static_cast<float>(generator.normal(i)));
        context_.copy_from_host(x, values.data());
        return x;
    }
    std::vector<float> read(const Tensor& x) const {
        if (x.dtype == Dtype::f32) return context_.read_floats(x);
        std::vector<bf16> values(static_cast<size_t>(x.numel()));
        context_.copy_to_host(values.data(), x);
        return {values.begin(), values.end()};
    }

    Context context_;
    int64_t dims_;
    std::vector<DeviceBuffer> buffers_;
};

double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
        norm += std::pow(static_cast<double>(b[i]), 2);
    }
    return std::sqrt(difference / norm);
}

bool check(Device device) {
    constexpr double kBound = 1e-2;  // two roundings to bf16, 2^-9 each, in a chain of three products
    const double difference = wgmma_difference(device);
    if (difference <= kBound) {
        log_info(fmt::format("attention runs on wgmma, which differs from mma.sync by {:.1e}", difference));
        return true;
    }
    log_warning(
        fmt::format("attention on wgmma differs from mma.sync by {:.1e} on this GPU, so it runs on mma.sync, at "
                    "about half the speed; please report this",
                    difference));
    return false;
}

}  // namespace

double wgmma_difference(Device device) {
    double worst = 0;
    for (int64_t dims : {64, 128}) {
        const auto expected = Case(device, AttentionKernels::mma, dims).run();
        const auto found = Case(device, AttentionKernels::wgmma, dims).run();
        for (size_t i = 0; i < found.size(); ++i)
            worst = larger_or_nan(worst, relative_difference(found[i], expected[i]));
    }
    return worst;
}

bool prefers_wgmma(Device device) {
    if (device != Device::cuda || !has_wgmma_attention()) return false;
    static const bool right = check(device);
    return right;
}

}  // namespace ballast::cuda
