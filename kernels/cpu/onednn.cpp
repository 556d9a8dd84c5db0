#include "kernels/cpu/onednn.h"

#include <algorithm>
#include <cstring>
#include <dnnl.h>
#include <dnnl.hpp>
#include <fmt/format.h>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/cpu_features.h"
#include "base/error.h"

extern "C" void omp_set_num_threads(int);  // as in omp.h, which clang lacks for the runtime that oneDNN uses

namespace ballast::cpu {
namespace {

/// oneDNN parallelises with OpenMP. Our own threads are the parallelism, so each asks OpenMP for one thread, once.
void stay_on_this_thread() {
    thread_local const bool done = [] {
        omp_set_num_threads(1);
        return true;
    }();
    static_cast<void>(done);
}

const dnnl::engine& engine() {
    static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
    return cpu;
}

dnnl::memory::data_type data_type(Dtype dtype) {
    require(dtype == Dtype::f32 || dtype == Dtype::bf16, "oneDNN products are f32 or bf16");
    return dtype == Dtype::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

bool uses_amx(const dnnl::matmul::primitive_desc& description) {
    return std::strstr(description.impl_info_str(), "amx") != nullptr;
}

/// The primitive of one shape with its operands' descriptions.
struct Matmul {
    dnnl::memory::desc a, b, c, bias;
    dnnl::matmul::primitive_desc description;

    explicit Matmul(const MatmulShape& s)
        : a({s.m, s.k}, data_type(s.dtype), dnnl::memory::dims{s.a_row, s.a_column}),
          b({s.k, s.n}, data_type(s.dtype), dnnl::memory::dims{s.b_row, s.b_column}),
          c({s.m, s.n}, data_type(s.c_dtype), dnnl::memory::dims{s.c_row, 1}),
          bias(s.bias ? dnnl::memory::desc({1, s.n}, data_type(s.dtype), dnnl::memory::dims{s.n, 1}) : dnnl::memory::desc()),
          description(describe(s)) {}

  private:
    dnnl::matmul::primitive_desc describe(const MatmulShape& s) const {
        dnnl::primitive_attr attributes;
        if (s.accumulate) {
            dnnl::post_ops add;
            add.append_sum(1.0f);
            attributes.set_post_ops(add);
        }
        const auto find = [&]<class... Memories>(const Memories&... memories) {
#if DNNL_VERSION_MAJOR >= 3
            dnnl::matmul::primitive_desc found(engine(), memories..., attributes);
#else
            const dnnl::matmul::desc operation(memories...);  // next_impl() reads it
            dnnl::matmul::primitive_desc found(operation, attributes, engine());
#endif
            // oneDNN 2.6.3's AMX kernel for k = 63 sets its tiles up wrongly and raises SIGILL (docs/log.md).
            while (s.k == 63 && uses_amx(found) && found.next_impl()) {
            }
            return found;
        };
        return s.bias ? find(a, b, bias, c) : find(a, b, c);
    }
};

struct ShapeHash {
    size_t operator()(const MatmulShape& s) const {
        uint64_t hash = static_cast<uint64_t>(s.dtype) * 64 + static_cast<uint64_t>(s.c_dtype) * 4 + s.accumulate * 2 + s.bias;
        for (int64_t x : {s.m, s.n, s.k, s.a_row, s.a_column, s.b_row, s.b_column, s.c_row})
            hash = (hash ^ static_cast<uint64_t>(x)) * 0x9E3779B97F4A7C15ull;
        return static_cast<size_t>(hash ^ (hash >> 32));
    }
};

/// Ready to run. Its operands are made once as well: made anew they took 0.6 us of a small product's 1.3.
class CachedMatmul {
  public:
    explicit CachedMatmul(const MatmulShape& shape) : matmul_(shape), primitive_(matmul_.description) {
        add(DNNL_ARG_SRC, matmul_.a);
        add(DNNL_ARG_WEIGHTS, matmul_.b);
        add(DNNL_ARG_DST, matmul_.c);
        if (shape.bias) add(DNNL_ARG_BIAS, matmul_.bias);
    }
    void run(const dnnl::stream& stream, const void* a, const void* b, const void* bias, void* c) {
        set(DNNL_ARG_SRC, a);
        set(DNNL_ARG_WEIGHTS, b);
        set(DNNL_ARG_DST, c);
        if (operands_.contains(DNNL_ARG_BIAS)) set(DNNL_ARG_BIAS, bias);
        primitive_.execute(stream, operands_);
    }

  private:
    void add(int operand, const dnnl::memory::desc& description) {
        operands_.emplace(operand, dnnl::memory(description, engine(), nullptr));
    }
    /// oneDNN reads its inputs through pointers that are not const.
    void set(int operand, const void* data) { operands_.at(operand).set_data_handle(const_cast<void*>(data)); }

    Matmul matmul_;
    dnnl::matmul primitive_;
    std::unordered_map<int, dnnl::memory> operands_;
};

/// One thread at a time: what orders the threads in oneDNN's own cache of primitives was not compiled with
/// ThreadSanitizer, which takes it for a race.
std::unique_ptr<CachedMatmul> make_matmul(const MatmulShape& shape) {
    static std::mutex one_at_a_time;
    const std::lock_guard lock(one_at_a_time);
    return std::make_unique<CachedMatmul>(shape);
}

}  // namespace

void onednn_sgemm(const MatmulShape& s, const float* a, const float* b, float* c) {
    require(s.dtype == Dtype::f32 && s.c_dtype == Dtype::f32 && !s.bias, "sgemm is f32, without bias");
    stay_on_this_thread();
    // BLAS's leading dimension of an operand with so many rows and columns; a single one may come with any stride.
    const auto leading = [](int64_t row, int64_t column, int64_t rows, int64_t columns) {
        return column != 1 ? std::max(column, rows) : std::max(row, columns);
    };
    const dnnl_status_t status =
        dnnl_sgemm(s.a_column != 1 ? 'T' : 'N', s.b_column != 1 ? 'T' : 'N', s.m, s.n, s.k, 1.0f, a,
                   leading(s.a_row, s.a_column, s.m, s.k), b, leading(s.b_row, s.b_column, s.k, s.n), s.accumulate ? 1.0f : 0.0f,
                   c, s.c_row);
    require(status == dnnl_success, "dnnl_sgemm failed");
}

void onednn_matmul(const MatmulShape& shape, const void* a, const void* b, const void* bias, void* c) {
    if (shape.m == 1 && shape.a_column != 1) {
        // oneDNN 3.7.2 reads a single row as if its elements lay side by side (docs/log.md), so they are made to.
        const size_t size = size_of(shape.dtype), step = size * static_cast<size_t>(shape.a_column);
        std::vector<char> row(size * static_cast<size_t>(shape.k));
        for (size_t i = 0; i < static_cast<size_t>(shape.k); ++i)
            std::memcpy(row.data() + i * size, static_cast<const char*>(a) + i * step, size);
        MatmulShape packed = shape;
        packed.a_row = shape.k;
        packed.a_column = 1;
        return onednn_matmul(packed, row.data(), b, bias, c);
    }
    // A training run has a few dozen shapes; serving sequences of every length must not pile primitives up for ever.
    constexpr size_t kMaxCached = 512;
    stay_on_this_thread();
    thread_local std::unordered_map<MatmulShape, std::unique_ptr<CachedMatmul>, ShapeHash> cache;
    thread_local dnnl::stream stream(engine());
    if (cache.size() >= kMaxCached && !cache.contains(shape)) cache.clear();
    auto& cached = cache[shape];
    if (!cached) cached = make_matmul(shape);
    cached->run(stream, a, b, bias, c);
    stream.wait();
}

Bf16Units onednn_bf16_units() {
    // What oneDNN would pick says more than the processor's flags: the kernel may withhold the tile state.
    static const Bf16Units answer = [] {
        try {
            const Matmul probe({Dtype::bf16, Dtype::bf16, 128, 128, 128, 128, 1, 128, 1, 128, false, false});
            if (uses_amx(probe.description)) return Bf16Units::amx;
            const bool dot_products = std::strstr(probe.description.impl_info_str(), "avx512_core_bf16") != nullptr;
            return dot_products && cpu_features().has_fast_bf16_dot_products() ? Bf16Units::avx512_bf16 : Bf16Units::none;
        } catch (const dnnl::error&) {
            return Bf16Units::none;  // no bf16 at all
        }
    }();
    return answer;
}

std::string onednn_version() {
    const dnnl_version_t& version = *dnnl_version();
    return fmt::format("{}.{}.{}", version.major, version.minor, version.patch);
}

}  // namespace ballast::cpu
