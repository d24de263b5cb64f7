// The kernels for every CPU of the architecture the compiler builds for.
#define CAPABILITY baseline
#define VECTOR_BYTES 16
#include "ms_deform_attn_kernel.inl"
