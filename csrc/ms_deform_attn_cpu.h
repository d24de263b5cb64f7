// Multi-scale deformable attention on CPU: what the kernels of one instruction set offer.
//
// No header of PyTorch and no inline function of the standard library may come in here: the kernels
// are compiled once per instruction set, and the linker would be free to use such a function's
// AVX-512 copy everywhere.
#pragma once

#include <cstdint>

namespace referformer {

// The tokens of a level are its pixels in raster order. A kernel packs one head of them into cells
// with a border of zeros, so that no tap of an interpolation needs a test of its own.
struct Level {
  int64_t height;
  int64_t width;
  int64_t first_token;
  int64_t first_cell;
};

struct Shape {
  const Level* levels;
  int64_t num_levels;
  int64_t num_points;
  int64_t num_queries;
  int64_t num_tokens;
  int64_t num_cells;  // (height + 2) * (width + 2), over all levels
  int64_t num_heads;
  int64_t head_dim;
};

// Contiguous arrays, B = batch, Q = queries, S = tokens, M = heads, D = channels of a head,
// L = levels, P = points.
template <typename T>
struct Arrays {
  const T* value;        // (B, S, M, D)
  const T* locations;    // (B, Q, M, L, P, 2): x, y in [0, 1], top-left (0, 0)
  const T* weights;      // (B, Q, M, L, P)
  T* output;             // (B, Q, M, D); forward only, the rest backward only
  const T* grad_output;  // (B, Q, M, D)
  T* grad_value;
  T* grad_locations;
  T* grad_weights;
};

// One head of one batch element; the queries [begin, end).
struct Task {
  int64_t batch;
  int64_t head;
  int64_t begin;
  int64_t end;
};

template <typename T>
struct Kernels {
  // Both need `scratch` of scratch_bytes() bytes, aligned to 64.
  void (*forward)(const Shape&, const Arrays<T>&, const Task&, void* scratch);
  void (*backward)(const Shape&, const Arrays<T>&, const Task&, void* scratch);
};

// Enough for either direction and either type.
inline int64_t scratch_bytes(const Shape& shape, int64_t element_size, bool backward) {
  int64_t width = 8;  // of a packed cell, in elements: as in the kernels' dispatch
  while (width < shape.head_dim && width < 64) width *= 2;
  const int64_t cells = shape.num_cells * width * (backward ? 2 : 1);
  const int64_t points = shape.num_levels * shape.num_points * 16;
  return cells * element_size + points * 8 + 64 * 16;
}

namespace baseline {
template <typename T>
Kernels<T> kernels();
}
namespace avx2 {
template <typename T>
Kernels<T> kernels();
}
namespace avx512 {
template <typename T>
Kernels<T> kernels();
}

}  // namespace referformer
