// Compares attention with cuDNN's on the same tensors in the same run: time and values.
//
//   bench_cudnn_attention --json OUT.json        exit code 3: the two results disagree
#include <cudnn_frontend.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <fmt/format.h>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/ending.h"
#include "bench/attention_tensors.h"
#include "bench/program.h"

namespace {

using namespace ballast;
using namespace ballast::bench;
namespace fe = cudnn_frontend;

void check(fe::error_t error) {
    if (error.is_bad()) throw std::runtime_error(error.get_message());
}

enum Uid : int64_t { kQ = 1, kK, kV, kO, kStats, kDO, kDQ, kDK, kDV, kSink, kDSink };

/// cuDNN's forward or backward pass for one case, built once.
class CudnnAttention {
  public:
    CudnnAttention(Context& context, cudnnHandle_t handle, const AttentionShape& s, const AttentionTensors& x)
        : context_(context), handle_(handle), shape_(s), case_(x) {}

    void build_forward() {
        auto options = fe::graph::SDPA_attributes()
                           .set_name("forward")
                           .set_generate_stats(true)
                           .set_attn_scale(static_cast<float>(case_.params.scale))
                           .set_causal_mask(true);
        begin();
        if (has_sink()) options.set_sink_token(sink(kSink));
        auto [o, stats] = graph_.sdpa(tensor(kQ), tensor(kK), tensor(kV), options);
        output(o, kO);
        stats->set_output(true).set_data_type(fe::DataType_t::FLOAT).set_uid(kStats);
        end();
    }
    void build_backward(bool deterministic) {
        auto options = fe::graph::SDPA_backward_attributes()
                           .set_name("backward")
                           .set_attn_scale(static_cast<float>(case_.params.scale))
                           .set_causal_mask(true)
                           .set_deterministic_algorithm(deterministic);
        begin();
        if (has_sink()) {
            const auto gradient = sink(kDSink);
            gradient->set_output(true);
            options.set_sink_token(sink(kSink)).set_dsink_token(gradient);
        }
        auto stats = graph_.tensor(fe::graph::Tensor_attributes()
                                       .set_uid(kStats)
                                       .set_dim({shape_.B, shape_.H, shape_.T, 1})
                                       .set_stride({shape_.H * shape_.T, shape_.T, 1, 1})
                                       .set_data_type(fe::DataType_t::FLOAT));
        auto [dq, dk, dv] =
            graph_.sdpa_backward(tensor(kQ), tensor(kK), tensor(kV), tensor(kO), tensor(kDO), stats, options);
        output(dq, kDQ);
        output(dk, kDK);
        output(dv, kDV);
        end();
    }
    void run() { check(graph_.execute(handle_, memory, workspace_.data())); }

    std::unordered_map<int64_t, void*> memory;

  private:
    bool has_sink() const { return has_learned_sink_logit(case_.params.normaliser); }
    void begin() {
        graph_.set_io_data_type(fe::DataType_t::BFLOAT16)
            .set_intermediate_data_type(fe::DataType_t::FLOAT)
            .set_compute_data_type(fe::DataType_t::FLOAT);
    }
    void end() {
        check(graph_.build(handle_, {fe::HeurMode_t::A}));
        int64_t bytes = 0;
        check(graph_.get_workspace_size(bytes));
        workspace_ = context_.allocate(static_cast<size_t>(bytes));
    }
    std::vector<int64_t> dims() const { return {shape_.B, shape_.H, shape_.T, shape_.D}; }
    std::vector<int64_t> strides() const { return {shape_.T * shape_.H * shape_.D, shape_.D, shape_.H * shape_.D, 1}; }
    std::shared_ptr<fe::graph::Tensor_attributes> tensor(Uid uid) {
        return graph_.tensor(fe::graph::Tensor_attributes().set_uid(uid).set_dim(dims()).set_stride(strides()));
    }
    std::shared_ptr<fe::graph::Tensor_attributes> sink(Uid uid) {
        return graph_.tensor(fe::graph::Tensor_attributes()
                                 .set_uid(uid)
                                 .set_dim({1, shape_.H, 1, 1})
                                 .set_stride({shape_.H, 1, 1, 1})
                                 .set_data_type(fe::DataType_t::FLOAT));
    }
    void output(const std::shared_ptr<fe::graph::Tensor_attributes>& t, Uid uid) const {
        t->set_output(true).set_uid(uid).set_dim(dims()).set_stride(strides());
    }

    Context& context_;
    cudnnHandle_t handle_;
    const AttentionShape& shape_;
    const AttentionTensors& case_;
    fe::graph::Graph graph_;
    DeviceBuffer workspace_;
};

std::vector<float> values(const Context& context, const Tensor& tensor) {
    if (tensor.dtype == Dtype::f32) return context.read_floats(tensor);
    std::vector<bf16> narrow(static_cast<size_t>(tensor.numel()));
    context.copy_to_host(narrow.data(), tensor);
    return {narrow.begin(), narrow.end()};
}

/// ‖a - b‖ / ‖b‖, NaN when anything is.
double difference(const Context& context, const Tensor& a, const Tensor& b) {
    const auto x = values(context, a), y = values(context, b);
    double distance = 0, norm = 0;
    for (size_t i = 0; i < x.size(); ++i) {
        const double d = static_cast<double>(x[i]) - static_cast<double>(y[i]);
        distance += d * d;
        norm += static_cast<double>(y[i]) * static_cast<double>(y[i]);
    }
    return std::sqrt(distance / norm);
}

class Comparison {
  public:
    Comparison(double seconds, std::string path)
        : context_(Device::cuda), timer_(context_, seconds), path_(std::move(path)) {
        if (cudnnCreate(&handle_) != CUDNN_STATUS_SUCCESS) throw std::runtime_error("cuDNN does not start");
        cudnnSetStream(handle_, reinterpret_cast<cudaStream_t>(context_.stream()));
        report_["cudnn"] = cudnnGetVersion();
        report_["device"] = device_description(context_);
        report_["attention"] = nlohmann::ordered_json::array();
    }
    ~Comparison() { cudnnDestroy(handle_); }
    Comparison(const Comparison&) = delete;
    Comparison& operator=(const Comparison&) = delete;

    void run(double budget) {
        const auto begin = std::chrono::steady_clock::now();
        for (const AttentionShape& shape : attention_shapes(false))
            for (const Normaliser normaliser : {Normaliser::softmax, Normaliser::sink_logit}) {
                const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
                if (spent.count() < budget)
                    compare(shape, normaliser);
                else
                    report_["left_out"].push_back(fmt::format("{} T {}", shape.model, shape.T));
            }
        save();
    }
    bool agree() const { return agree_; }

  private:
    void compare(const AttentionShape& s, Normaliser normaliser) {
        const AttentionTensors x(context_, s, Dtype::bf16, normaliser);
        // cuDNN's results go elsewhere.
        Tensors theirs(context_);
        const auto like = [&](const Tensor& t) { return theirs.zeros(t.dtype, {t.numel()}); };
        const Tensor out = like(x.out), stats = like(x.lse), d_q = like(x.out), d_k = like(x.out), d_v = like(x.out),
                     d_sink = theirs.zeros(Dtype::f32, {s.H});
        std::unordered_map<int64_t, void*> memory{{kQ, x.in.q.data},    {kK, x.in.k.data},
                                                  {kV, x.in.v.data},    {kO, out.data},
                                                  {kStats, stats.data}, {kDO, x.d_out.data},
                                                  {kDQ, d_q.data},      {kDK, d_k.data},
                                                  {kDV, d_v.data},      {kSink, x.params.sink_logit_H.data},
                                                  {kDSink, d_sink.data}};
        if (!has_learned_sink_logit(normaliser)) memory.erase(kSink), memory.erase(kDSink);

        auto forward = line(s, normaliser, "forward");
        forward["seconds"] = timer_([&] { x.forward(context_); }).median;
        const bool has_forward = attempt(forward, "default", [&] {
            CudnnAttention cudnn(context_, handle_, s, x);
            cudnn.build_forward();
            cudnn.memory = memory;
            cudnn.run();
            judge(forward, {{"out", difference(context_, x.out, out)}});
            if (!has_learned_sink_logit(normaliser)) judge(forward, {{"lse", difference(context_, x.lse, stats)}});
            return timer_([&] { cudnn.run(); }).median;
        });
        print(forward);

        auto backward = line(s, normaliser, "backward");
        x.backward(context_);
        backward["seconds"] = timer_([&] { x.backward(context_); }).median;
        for (const bool deterministic : {true, false}) {
            if (!has_forward) break;
            attempt(backward, deterministic ? "deterministic" : "default", [&] {
                CudnnAttention cudnn(context_, handle_, s, x);
                cudnn.build_backward(deterministic);
                cudnn.memory = memory;
                cudnn.run();
                judge(backward, {{"d_q", difference(context_, x.gradients.d_q, d_q)},
                                 {"d_k", difference(context_, x.gradients.d_k, d_k)},
                                 {"d_v", difference(context_, x.gradients.d_v, d_v)}});
                return timer_([&] { cudnn.run(); }).median;
            });
        }
        print(backward);
    }

    static nlohmann::ordered_json line(const AttentionShape& s, Normaliser normaliser, const char* direction) {
        return {{"model", s.model},
                {"B", s.B},
                {"T", s.T},
                {"H", s.H},
                {"D", s.D},
                {"direction", direction},
                {"normaliser", kNormaliserNames[static_cast<size_t>(normaliser)]}};
    }

    /// What cuDNN cannot do is written down, and no failure.
    template <class Run>
    bool attempt(nlohmann::ordered_json& line, const std::string& how, const Run& run) {
        try {
            const double seconds = run();
            line["cudnn_" + how] = seconds;
            line["ratio_" + how] = line["seconds"].template get<double>() / seconds;
            return true;
        } catch (const std::exception& error) {
            line["cudnn_" + how] = nullptr;
            line["why_" + how] = error.what();
            return false;
        }
    }

    /// Two computations in bf16 of the same thing differ by their roundings, some 4e-3. (Whether cuDNN's saved
    /// statistics hold the sink is its own affair, so lse is compared without one.)
    void judge(nlohmann::ordered_json& line, const std::vector<std::pair<std::string, double>>& differences) {
        constexpr double kTolerance = 2e-2;
        for (const auto& [name, value] : differences) {
            line["difference_" + name] = value;
            if (!(value <= kTolerance)) {
                agree_ = false;
                line["disagrees"] = true;
            }
        }
    }

    void print(const nlohmann::ordered_json& line) {
        report_["attention"].push_back(line);
        std::cout << line.dump() << '\n' << std::flush;
        save();
    }
    /// After every figure: a run that is stopped leaves what it has. (The front end has a JSON library of its own.)
    void save() const {
        if (!path_.empty()) write_file(path_, report_.dump(2) + "\n");
    }

    Context context_;
    Timer timer_;
    std::string path_;
    cudnnHandle_t handle_ = nullptr;
    nlohmann::ordered_json report_;
    bool agree_ = true;
};

}  // namespace

int main(int argc, char** argv) {
    double seconds = 0.2, budget = 1e9;
    std::string path;
    CLI::App app("Times attention beside cuDNN's and compares their values", "bench_cudnn_attention");
    app.add_option("--seconds", seconds, "for each measurement");
    app.add_option("--budget", budget, "seconds in all; what does not fit is named in left_out");
    app.add_option("--json", path, "write the figures there");
    return bench::run_benchmark(app, argc, argv, [&] {
        if (!path.empty()) require_writable(path);
        Comparison comparison(seconds, path);
        comparison.run(budget);
        return comparison.agree() ? exit_code::kDone : 3;
    });
}
