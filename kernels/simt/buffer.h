// Memory for kernels in tests that run on the executor and on a GPU.
#pragma once

#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "kernels/simt/simt.cuh"

namespace ballast::simt {

/// `count` elements, aligned to 256 bytes and without padding at the end, so that AddressSanitizer detects an overrun.
/// All bits are set (NaN) unless the buffer is made from values.
template <class T>
class Buffer {
  public:
    explicit Buffer(size_t count) : count_(count) {
        void* memory = nullptr;
#if BALLAST_SIMT_HOST
        if (posix_memalign(&memory, 256, bytes() == 0 ? 1 : bytes()) != 0) throw std::bad_alloc();
        std::memset(memory, 0xff, bytes());
#else
        check(cudaMalloc(&memory, bytes()));
        check(cudaMemset(memory, 0xff, bytes()));
#endif
        data_ = static_cast<T*>(memory);
    }
    explicit Buffer(const std::vector<T>& values) : Buffer(values.size()) {
#if BALLAST_SIMT_HOST
        std::memcpy(static_cast<void*>(data_), values.data(), bytes());
#else
        check(cudaMemcpy(data_, values.data(), bytes(), cudaMemcpyHostToDevice));
#endif
    }
    ~Buffer() {
#if BALLAST_SIMT_HOST
        std::free(data_);
#else
        cudaFree(data_);
#endif
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    T* data() { return data_; }
    const T* data() const { return data_; }
    size_t size() const { return count_; }
    size_t bytes() const { return count_ * sizeof(T); }

    std::vector<T> values() const {
        std::vector<T> out(count_);
#if BALLAST_SIMT_HOST
        std::memcpy(static_cast<void*>(out.data()), data_, bytes());
#else
        check(cudaMemcpy(out.data(), data_, bytes(), cudaMemcpyDeviceToHost));
#endif
        return out;
    }

  private:
#if !BALLAST_SIMT_HOST
    static void check(cudaError_t error) {
        if (error != cudaSuccess) throw_cuda_error(error, "test memory");
    }
#endif
    size_t count_;
    T* data_ = nullptr;
};

}  // namespace ballast::simt
