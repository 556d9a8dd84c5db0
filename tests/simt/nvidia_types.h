// NVIDIA's data types seen over raw bits, so that a test can hold ours beside them: the two have the same names and
// cannot meet in one file. type_operations-inl.h fills the same tables for either.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ballast::test {

struct NamedBits {
    const char* name;
    uint64_t bits;
    bool operator==(const NamedBits& other) const { return bits == other.bits; }
};

struct TypeLayout {
    std::string name, member;  ///< the member's type as the compiler mangles it
    size_t size, alignment;
    bool operator==(const TypeLayout&) const = default;
};

/// One of the 16-bit types with its pair. Every result is the bits of what one intrinsic or conversion returns.
struct Float16Operations {
    std::vector<NamedBits> traits;  ///< sizes, alignments, and which expressions compile
    void (*from_floats)(const float* values, uint16_t* results, size_t count);
    void (*from_double)(double value, std::vector<NamedBits>& results);
    void (*from_integer)(uint64_t bits, std::vector<NamedBits>& results);
    void (*unary)(uint16_t a, std::vector<NamedBits>& results);
    void (*binary)(uint16_t a, uint16_t b, std::vector<NamedBits>& results);
    void (*pairs)(uint32_t a, uint32_t b, std::vector<NamedBits>& results);
};

struct CudaTypes {
    std::vector<TypeLayout> layouts;
    Float16Operations bf16, fp16;
};

/// Null when this build found no CUDA toolkit.
const CudaTypes* nvidia_types();

}  // namespace ballast::test
