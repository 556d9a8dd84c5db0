// A token's products in every layer and the head, as decoding makes them (few rows, by row of the weight), beside the
// roof: the bytes of the weights at the speed at which all threads read memory in the same run. Of every layer in turn,
// so that no cache holds them from token to token.
//
//   bench_decode --model MODEL --dtype f32 --weights int8 --threads 2 --json OUT.json
//   bench_decode --matrix 3072x768 --dtype f32 --weights same --rows 1
#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "bench/measure.h"
#include "bench/program.h"
#include "kernels/backend.h"

namespace {

using namespace ballast;

struct Settings : bench::ModelSettings {
    std::string weights = "same", matrix;
    int64_t rows = 1;
    double seconds = 3;

    std::optional<Dtype> matrices() const {
        if (weights == "same") return std::nullopt;
        return weights == "int8" ? Dtype::i8 : bench::dtype_of_option(weights);
    }
};

/// Products of x [N,I] with weights that follow one another.
class Products {
  public:
    Products(Context& context, Dtype dtype, int64_t rows)
        : context_(context), tensors_(context), dtype_(dtype), rows_(rows) {}

    void add(const ops::LinearWeight& weight) {
        if (weight.weight.empty()) return;
        const int64_t outputs = weight.weight.dim(0), inputs = weight.weight.dim(1);
        steps_.push_back({weight, tensors_.make(dtype_, {rows_, inputs}), tensors_.zeros(dtype_, {rows_, outputs})});
        for (const Tensor* read : {&weight.weight, &weight.bias, &weight.scale})
            if (!read->empty()) bytes_ += read->bytes();
    }
    void run() {
        for (const Step& step : steps_)
            ops::linear_forward(context_, step.out, step.x, step.weight, ops::Products::by_row);
    }
    size_t bytes() const { return bytes_; }

  private:
    struct Step {
        ops::LinearWeight weight;
        Tensor x, out;
    };
    Context& context_;
    bench::Tensors tensors_;
    Dtype dtype_;
    int64_t rows_;
    size_t bytes_ = 0;
    std::vector<Step> steps_;
};

/// Outputs and inputs of "3072x768".
std::pair<int64_t, int64_t> shape_of(const std::string& matrix) {
    int64_t outputs = 0, inputs = 0;
    const char* end = matrix.data() + matrix.size();
    const auto first = std::from_chars(matrix.data(), end, outputs);
    const bool cross = first.ec == std::errc() && first.ptr != end && *first.ptr == 'x';
    if (!cross || std::from_chars(first.ptr + 1, end, inputs).ptr != end || outputs < 1 || inputs < 1)
        throw UserError(fmt::format("--matrix {}: give outputs and inputs, such as 3072x768", matrix));
    return {outputs, inputs};
}

/// Copies of a matrix [O,I], half a GiB of them: more than any cache holds.
void add_copies(Products& products, bench::Tensors& tensors, int64_t outputs, int64_t inputs, Dtype dtype) {
    const bool bytes = dtype == Dtype::i8;
    const size_t each = static_cast<size_t>(outputs * inputs) * size_of(dtype);
    const size_t copies = std::max<size_t>(1, (size_t{512} << 20) / each);
    for (size_t i = 0; i < copies; ++i) {
        ops::LinearWeight weight{
            bytes ? tensors.zeros(dtype, {outputs, inputs}) : tensors.make(dtype, {outputs, inputs}), {}};
        if (bytes) weight.scale = tensors.make(Dtype::f32, {outputs});
        products.add(weight);
    }
}

nlohmann::ordered_json measure(const Settings& s) {
    Context context(device_of_backend(s.backend), s.threads);
    const Dtype dtype = bench::dtype_of_option(s.dtype);
    Products products(context, dtype, s.rows);
    bench::Tensors tensors(context);
    std::unique_ptr<model::Transformer> model;
    if (s.matrix.empty()) {
        model = bench::make_model(context, s, bench::config_of(s).model, s.matrices());
        for (int64_t l = 0; l < model->config().num_layers; ++l) {
            const model::LayerParameters& p = model->layer(l);
            for (const auto* weight :
                 {&p.query_key_value, &p.attention_dense, &p.attention_gate, &p.mlp_up, &p.mlp_down})
                products.add(*weight);
        }
        products.add(model->head());
    } else {
        const auto [outputs, inputs] = shape_of(s.matrix);
        add_copies(products, tensors, outputs, inputs, s.matrices().value_or(dtype));
    }
    const double before = bench::read_limit(context, false);
    const bench::Timing time = bench::Timer(context, s.seconds)([&] { products.run(); });
    const double limit = std::max(before, bench::read_limit(context, false));
    const auto bytes = static_cast<double>(products.bytes());
    const double rate = static_cast<double>(s.rows) / time.least, roof = static_cast<double>(s.rows) * limit / bytes;
    return {{"shape", s.matrix.empty() ? s.name() : s.matrix},
            {"dtype", s.dtype},
            {"weights", s.weights},
            {"rows", s.rows},
            {"device", bench::device_description(context)},
            {"threads", context.pool().num_threads()},
            {"weight_bytes", products.bytes()},
            {"kv_bytes", 0},  // products alone read no cache
            {"read_gb_per_s", limit * 1e-9},
            {"gb_per_s", bytes / time.least * 1e-9},
            {"median_seconds", time.median},
            {"tokens_per_s", rate},
            {"roof", roof},
            {"share", rate / roof}};
}

}  // namespace

int main(int argc, char** argv) {
    Settings s;
    CLI::App app("Times the products of decoding beside the speed of memory", "bench_decode");
    s.add_to(app);
    app.add_option("--weights", s.weights, "the matrices' dtype; same: --dtype")
        ->check(CLI::IsMember({"same", "f32", "bf16", "int8"}));
    app.add_option("--matrix", s.matrix, "copies of a matrix, outputs x inputs, instead of a model: 3072x768");
    app.add_option("--rows", s.rows, "sequences that decode together")->check(CLI::PositiveNumber);
    app.add_option("--seconds", s.seconds, "no further run is begun after so long")->check(CLI::PositiveNumber);
    return bench::run_benchmark(app, argc, argv, [&] { return bench::report(s.json, [&] { return measure(s); }); });
}
