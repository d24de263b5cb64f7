// The kernels for x86-64 CPUs with AVX2; chosen at run time.
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define CAPABILITY avx2
#define VECTOR_BYTES 32
#include "ms_deform_attn_kernel.inl"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
