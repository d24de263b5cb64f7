// The kernels for x86-64 CPUs with AVX-512; chosen at run time.
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")
#endif
#define CAPABILITY avx512
#define VECTOR_BYTES 64
#include "ms_deform_attn_kernel.inl"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
