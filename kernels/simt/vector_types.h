// CUDA's vector types: the names, sizes and alignments of the table "Built-in Vector Types" in the CUDA C++ Programming
// Guide. may_alias: kernels move arrays of other types through them, 16 bytes at a time.
#pragma once

struct [[gnu::may_alias]] alignas(4) char4 {
    signed char x, y, z, w;
};
struct [[gnu::may_alias]] alignas(4) uchar4 {
    unsigned char x, y, z, w;
};
struct [[gnu::may_alias]] alignas(4) short2 {
    short x, y;
};
struct [[gnu::may_alias]] alignas(8) short4 {
    short x, y, z, w;
};
struct [[gnu::may_alias]] alignas(4) ushort2 {
    unsigned short x, y;
};
struct [[gnu::may_alias]] alignas(8) ushort4 {
    unsigned short x, y, z, w;
};
struct [[gnu::may_alias]] alignas(8) int2 {
    int x, y;
};
struct [[gnu::may_alias]] int3 {
    int x, y, z;
};
struct [[gnu::may_alias]] alignas(16) int4 {
    int x, y, z, w;
};
struct [[gnu::may_alias]] alignas(8) uint2 {
    unsigned int x, y;
};
struct [[gnu::may_alias]] uint3 {
    unsigned int x, y, z;
};
struct [[gnu::may_alias]] alignas(16) uint4 {
    unsigned int x, y, z, w;
};
struct [[gnu::may_alias]] alignas(16) longlong2 {
    long long x, y;
};
struct [[gnu::may_alias]] alignas(16) ulonglong2 {
    unsigned long long x, y;
};
struct [[gnu::may_alias]] alignas(8) float2 {
    float x, y;
};
struct [[gnu::may_alias]] float3 {
    float x, y, z;
};
struct [[gnu::may_alias]] alignas(16) float4 {
    float x, y, z, w;
};
struct [[gnu::may_alias]] alignas(16) double2 {
    double x, y;
};

constexpr char4 make_char4(signed char x, signed char y, signed char z, signed char w) { return {x, y, z, w}; }
constexpr uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w) {
    return {x, y, z, w};
}
constexpr short2 make_short2(short x, short y) { return {x, y}; }
constexpr short4 make_short4(short x, short y, short z, short w) { return {x, y, z, w}; }
constexpr ushort2 make_ushort2(unsigned short x, unsigned short y) { return {x, y}; }
constexpr ushort4 make_ushort4(unsigned short x, unsigned short y, unsigned short z, unsigned short w) {
    return {x, y, z, w};
}
constexpr int2 make_int2(int x, int y) { return {x, y}; }
constexpr int3 make_int3(int x, int y, int z) { return {x, y, z}; }
constexpr int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
constexpr uint2 make_uint2(unsigned int x, unsigned int y) { return {x, y}; }
constexpr uint3 make_uint3(unsigned int x, unsigned int y, unsigned int z) { return {x, y, z}; }
constexpr uint4 make_uint4(unsigned int x, unsigned int y, unsigned int z, unsigned int w) { return {x, y, z, w}; }
constexpr longlong2 make_longlong2(long long x, long long y) { return {x, y}; }
constexpr ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y) { return {x, y}; }
constexpr float2 make_float2(float x, float y) { return {x, y}; }
constexpr float3 make_float3(float x, float y, float z) { return {x, y, z}; }
constexpr float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
constexpr double2 make_double2(double x, double y) { return {x, y}; }

/// The extents of a grid or a block.
struct dim3 {
    unsigned int x, y, z;
    constexpr dim3(unsigned int x_extent = 1, unsigned int y_extent = 1, unsigned int z_extent = 1)
        : x(x_extent), y(y_extent), z(z_extent) {}
    constexpr dim3(uint3 extents) : x(extents.x), y(extents.y), z(extents.z) {}
    constexpr operator uint3() const { return {x, y, z}; }
};
