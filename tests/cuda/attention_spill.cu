// A kernel that must spill: twice as many values live as a thread of so large a block has registers.
template <class T, int kDims>
__global__ void __launch_bounds__(1024) attention_spilling_kernel(T* x) {
    T values[128];
#pragma unroll
    for (int i = 0; i < 128; ++i) values[i] = x[i * 1024 + threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 128; ++i) x[threadIdx.x * 128 + i] = values[127 - i] * values[i] + values[i * 37 % 128];
}

template __global__ void attention_spilling_kernel<float, HEAD>(float*);
