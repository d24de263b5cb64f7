// Forward and backward of one head, for the instruction set of the including file, which defines
// CAPABILITY (namespace) and VECTOR_BYTES. Written with the vector types of GCC and Clang; each
// width of a cell (D channels) is compiled on its own, so that accumulators stay in registers.

#include "ms_deform_attn_cpu.h"

namespace referformer {
namespace CAPABILITY {

#define ALWAYS_INLINE static inline __attribute__((always_inline))

template <typename T, int W>
struct VectorOf {
  typedef T type __attribute__((vector_size(W * sizeof(T))));
};
template <typename T>
struct IndexOf;
template <>
struct IndexOf<float> {
  typedef int32_t type;
};
template <>
struct IndexOf<double> {
  typedef int64_t type;
};

// Lanes of a vector: as wide as the instruction set has them, and no wider than a cell.
template <typename T, int D>
constexpr int lanes() {
  return VECTOR_BYTES / static_cast<int>(sizeof(T)) < D ? VECTOR_BYTES / static_cast<int>(sizeof(T))
                                                        : D;
}

template <typename V, typename T>
ALWAYS_INLINE V load(const T* source) {
  V vector;
  __builtin_memcpy(&vector, source, sizeof(V));
  return vector;
}

template <typename V, typename T>
ALWAYS_INLINE void store(T* target, V vector) {
  __builtin_memcpy(target, &vector, sizeof(V));
}

// Sums of neighbouring lanes: (a0+a1, a2+a3, ..., b0+b1, b2+b3, ...).
template <typename T, int W, int... I>
struct Pairs {
  typedef typename VectorOf<T, W>::type V;
  typedef typename VectorOf<typename IndexOf<T>::type, W>::type Index;

  ALWAYS_INLINE V sum(V a, V b) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, (2 * I)...) +
           __builtin_shufflevector(a, b, (2 * I + 1)...);
#else
    return __builtin_shuffle(a, b, Index{(2 * I)...}) +
           __builtin_shuffle(a, b, Index{(2 * I + 1)...});
#endif
  }
};
template <typename T, int W>
struct PairSum;
template <typename T>
struct PairSum<T, 2> : Pairs<T, 2, 0, 1> {};
template <typename T>
struct PairSum<T, 4> : Pairs<T, 4, 0, 1, 2, 3> {};
template <typename T>
struct PairSum<T, 8> : Pairs<T, 8, 0, 1, 2, 3, 4, 5, 6, 7> {};
template <typename T>
struct PairSum<T, 16> : Pairs<T, 16, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15> {};

// The sums over the lanes of four vectors, side by side.
template <typename T, int W, typename V>
ALWAYS_INLINE void lane_sums(V a, V b, V c, V d, T* sums) {
  typedef PairSum<T, W> P;
  const V ab = P::sum(a, b);
  const V cd = P::sum(c, d);
  if (W == 2) {
    __builtin_memcpy(sums, &ab, 2 * sizeof(T));
    __builtin_memcpy(sums + 2, &cd, 2 * sizeof(T));
    return;
  }
  V abcd = P::sum(ab, cd);
  for (int width = 4; width < W; width *= 2) abcd = P::sum(abcd, abcd);
  __builtin_memcpy(sums, &abcd, 4 * sizeof(T));
}

// Scratch of one thread, and the sampling points of the query at hand (L*P of each array).
template <typename T>
struct Workspace {
  T* cells;
  T* grad_cells;
  T* width;  // of the point's level; constant over the queries, like the next three
  T* height;
  int32_t* stride;
  int32_t* base;
  int32_t* cell;  // of the top-left tap; -1 where the point does not touch the map
  T* fx;          // position between the taps
  T* fy;
  T* tap[4];   // attention weight times bilinear weight: top left, top right, bottom left, right
  T* dots;     // grad_output . value at the four taps, (L*P, 4)
};

ALWAYS_INLINE char* take(char** scratch, int64_t bytes) {
  char* start = *scratch;
  *scratch += (bytes + 63) / 64 * 64;
  return start;
}

template <typename T>
ALWAYS_INLINE Workspace<T> carve(const Shape& shape, int D, bool backward, void* scratch) {
  const int64_t cell_bytes = shape.num_cells * D * sizeof(T);
  const int64_t n = shape.num_levels * shape.num_points;
  char* rest = static_cast<char*>(scratch);
  Workspace<T> work;
  work.cells = reinterpret_cast<T*>(take(&rest, cell_bytes));
  work.grad_cells = backward ? reinterpret_cast<T*>(take(&rest, cell_bytes)) : nullptr;
  work.width = reinterpret_cast<T*>(take(&rest, n * sizeof(T)));
  work.height = reinterpret_cast<T*>(take(&rest, n * sizeof(T)));
  work.stride = reinterpret_cast<int32_t*>(take(&rest, n * sizeof(int32_t)));
  work.base = reinterpret_cast<int32_t*>(take(&rest, n * sizeof(int32_t)));
  work.cell = reinterpret_cast<int32_t*>(take(&rest, n * sizeof(int32_t)));
  work.fx = reinterpret_cast<T*>(take(&rest, n * sizeof(T)));
  work.fy = reinterpret_cast<T*>(take(&rest, n * sizeof(T)));
  for (int k = 0; k < 4; ++k) work.tap[k] = reinterpret_cast<T*>(take(&rest, n * sizeof(T)));
  work.dots = reinterpret_cast<T*>(take(&rest, 4 * n * sizeof(T)));
  for (int64_t i = 0; i < n; ++i) {
    const Level& level = shape.levels[i / shape.num_points];
    work.width[i] = static_cast<T>(level.width);
    work.height[i] = static_cast<T>(level.height);
    work.stride[i] = static_cast<int32_t>(level.width + 2);
    work.base[i] = static_cast<int32_t>(level.first_cell);
  }
  return work;
}

// Calls `visit(pointer to the D elements of a cell, token)` for every pixel of every level.
template <int D, typename T, typename Visit>
ALWAYS_INLINE void for_each_pixel(const Shape& shape, T* cells, Visit visit) {
  for (int64_t l = 0; l < shape.num_levels; ++l) {
    const Level& level = shape.levels[l];
    int64_t token = level.first_token;
    for (int64_t y = 0; y < level.height; ++y) {
      T* cell = cells + (level.first_cell + (y + 1) * (level.width + 2) + 1) * D;
      for (int64_t x = 0; x < level.width; ++x, cell += D, ++token) visit(cell, token);
    }
  }
}

// `count` of the D channels are real, the others zero.
template <typename T, int D>
ALWAYS_INLINE void copy_in(const T* source, int64_t count, T* target) {
  if (count == D) {
    __builtin_memcpy(target, source, D * sizeof(T));
  } else {
    for (int64_t d = 0; d < D; ++d) target[d] = d < count ? source[d] : T(0);
  }
}

template <typename T, int D>
ALWAYS_INLINE void copy_out(const T* source, int64_t count, T* target) {
  if (count == D) {
    __builtin_memcpy(target, source, D * sizeof(T));
  } else {
    for (int64_t d = 0; d < count; ++d) target[d] = source[d];
  }
}

// One head of `value` into cells. Without this, the rows of a head lie M*D elements apart and share
// a few sets of the caches.
template <typename T, int D>
ALWAYS_INLINE void pack(const Shape& shape, const T* value, int64_t count, T* cells) {
  const int64_t step = shape.num_heads * shape.head_dim;
  for (int64_t l = 0; l < shape.num_levels; ++l) {
    const Level& level = shape.levels[l];
    const int64_t row = (level.width + 2) * D;
    T* start = cells + level.first_cell * D;
    __builtin_memset(start, 0, row * sizeof(T));
    __builtin_memset(start + (level.height + 1) * row, 0, row * sizeof(T));
    for (int64_t y = 1; y <= level.height; ++y) {
      __builtin_memset(start + y * row, 0, D * sizeof(T));
      __builtin_memset(start + (y + 1) * row - D, 0, D * sizeof(T));
    }
  }
  for_each_pixel<D>(shape, cells, [&](T* cell, int64_t token) {
    copy_in<T, D>(value + token * step, count, cell);
  });
}

// Where the points of a query lie and what their taps weigh.
template <typename T>
ALWAYS_INLINE void locate(const Workspace<T>& work, int64_t n, const T* __restrict locations,
                          const T* __restrict weights) {
  int32_t* __restrict cell = work.cell;
  T* __restrict fx = work.fx;
  T* __restrict fy = work.fy;
  T* __restrict top_left = work.tap[0];
  T* __restrict top_right = work.tap[1];
  T* __restrict bottom_left = work.tap[2];
  T* __restrict bottom_right = work.tap[3];
  for (int64_t i = 0; i < n; ++i) {
    const T x = locations[2 * i] * work.width[i] - T(0.5);
    const T y = locations[2 * i + 1] * work.height[i] - T(0.5);
    // False for NaN too.
    const bool inside = (x >= T(-1)) & (x < work.width[i]) & (y >= T(-1)) & (y < work.height[i]);
    const T xc = inside ? x : T(0);
    const T yc = inside ? y : T(0);
    // The conversion cuts towards zero; this makes it the floor.
    const int32_t xt = static_cast<int32_t>(xc);
    const int32_t yt = static_cast<int32_t>(yc);
    const int32_t x0 = xt - (xc < static_cast<T>(xt) ? 1 : 0);
    const int32_t y0 = yt - (yc < static_cast<T>(yt) ? 1 : 0);
    const T dx = xc - static_cast<T>(x0);
    const T dy = yc - static_cast<T>(y0);
    const T bottom = weights[i] * dy;
    const T top = weights[i] - bottom;
    cell[i] = inside ? work.base[i] + (y0 + 1) * work.stride[i] + x0 + 1 : -1;
    fx[i] = dx;
    fy[i] = dy;
    top_right[i] = top * dx;
    top_left[i] = top - top_right[i];
    bottom_right[i] = bottom * dx;
    bottom_left[i] = bottom - bottom_right[i];
  }
}

// Channels [channel, channel + count) of one head; D >= count.
template <typename T, int D>
void forward_block(const Shape& shape, const Arrays<T>& arrays, const Task& task, int64_t channel,
                   int64_t count, void* scratch) {
  constexpr int W = lanes<T, D>();
  constexpr int N = D / W;
  typedef typename VectorOf<T, W>::type V;
  const int64_t n = shape.num_levels * shape.num_points;
  const int64_t M = shape.num_heads;
  const Workspace<T> work = carve<T>(shape, D, false, scratch);
  const int64_t first = (task.batch * shape.num_tokens * M + task.head) * shape.head_dim + channel;
  pack<T, D>(shape, arrays.value + first, count, work.cells);

  for (int64_t q = task.begin; q < task.end; ++q) {
    const int64_t row = (task.batch * shape.num_queries + q) * M + task.head;
    locate(work, n, arrays.locations + row * n * 2, arrays.weights + row * n);
    V top[N] = {};
    V bottom[N] = {};
    for (int64_t i = 0; i < n; ++i) {
      if (work.cell[i] < 0) continue;
      const T* upper = work.cells + static_cast<int64_t>(work.cell[i]) * D;
      const T* lower = upper + static_cast<int64_t>(work.stride[i]) * D;
      const T w0 = work.tap[0][i], w1 = work.tap[1][i], w2 = work.tap[2][i], w3 = work.tap[3][i];
      for (int k = 0; k < N; ++k) {
        top[k] += w0 * load<V>(upper + k * W);
        bottom[k] += w2 * load<V>(lower + k * W);
        top[k] += w1 * load<V>(upper + D + k * W);
        bottom[k] += w3 * load<V>(lower + D + k * W);
      }
    }
    T sums[D];
    for (int k = 0; k < N; ++k) store<V>(sums + k * W, top[k] + bottom[k]);
    copy_out<T, D>(sums, count, arrays.output + row * shape.head_dim + channel);
  }
}

// Gradients of locations and weights of a query, from the dot products at its taps. They are sums
// over the channels: every block of channels but the first adds to them.
template <typename T>
ALWAYS_INLINE void point_gradients(const Workspace<T>& work, int64_t n, bool add,
                                   const T* __restrict weights, T* __restrict grad_locations,
                                   T* __restrict grad_weights) {
  const T* __restrict dots = work.dots;
  if (!add) {
    __builtin_memset(grad_locations, 0, 2 * n * sizeof(T));
    __builtin_memset(grad_weights, 0, n * sizeof(T));
  }
  for (int64_t i = 0; i < n; ++i) {
    const T dx = work.fx[i], dy = work.fy[i];
    const T upper = dots[4 * i] + dx * (dots[4 * i + 1] - dots[4 * i]);
    const T lower = dots[4 * i + 2] + dx * (dots[4 * i + 3] - dots[4 * i + 2]);
    const T left = dots[4 * i + 2] - dots[4 * i];
    const T right = dots[4 * i + 3] - dots[4 * i + 1];
    const T along_x = (T(1) - dy) * (dots[4 * i + 1] - dots[4 * i]) +
                      dy * (dots[4 * i + 3] - dots[4 * i + 2]);
    const T along_y = (T(1) - dx) * left + dx * right;
    grad_weights[i] += upper + dy * (lower - upper);
    grad_locations[2 * i] += weights[i] * work.width[i] * along_x;
    grad_locations[2 * i + 1] += weights[i] * work.height[i] * along_y;
  }
}

template <typename T, int D>
void backward_block(const Shape& shape, const Arrays<T>& arrays, const Task& task, int64_t channel,
                    int64_t count, void* scratch) {
  constexpr int W = lanes<T, D>();
  constexpr int N = D / W;
  typedef typename VectorOf<T, W>::type V;
  const int64_t n = shape.num_levels * shape.num_points;
  const int64_t M = shape.num_heads;
  const int64_t first = (task.batch * shape.num_tokens * M + task.head) * shape.head_dim + channel;
  const Workspace<T> work = carve<T>(shape, D, true, scratch);
  pack<T, D>(shape, arrays.value + first, count, work.cells);
  __builtin_memset(work.grad_cells, 0, shape.num_cells * D * sizeof(T));

  for (int64_t q = task.begin; q < task.end; ++q) {
    const int64_t row = (task.batch * shape.num_queries + q) * M + task.head;
    const T* weights = arrays.weights + row * n;
    locate(work, n, arrays.locations + row * n * 2, weights);
    T channels[D];
    copy_in<T, D>(arrays.grad_output + row * shape.head_dim + channel, count, channels);
    V grad[N];
    for (int k = 0; k < N; ++k) grad[k] = load<V>(channels + k * W);
    for (int64_t i = 0; i < n; ++i) {
      if (work.cell[i] < 0) {
        __builtin_memset(work.dots + 4 * i, 0, 4 * sizeof(T));
        continue;
      }
      const int64_t upper = static_cast<int64_t>(work.cell[i]) * D;
      const int64_t lower = upper + static_cast<int64_t>(work.stride[i]) * D;
      const int64_t at[4] = {upper, upper + D, lower, lower + D};
      V dot[4] = {};
      for (int t = 0; t < 4; ++t) {
        const T weight = work.tap[t][i];
        T* target = work.grad_cells + at[t];
        for (int k = 0; k < N; ++k) {
          dot[t] += grad[k] * load<V>(work.cells + at[t] + k * W);
          store<V>(target + k * W, load<V>(target + k * W) + weight * grad[k]);
        }
      }
      lane_sums<T, W>(dot[0], dot[1], dot[2], dot[3], work.dots + 4 * i);
    }
    point_gradients(work, n, channel > 0, weights, arrays.grad_locations + row * n * 2,
                    arrays.grad_weights + row * n);
  }

  const int64_t step = M * shape.head_dim;
  T* grad_value = arrays.grad_value + first;
  for_each_pixel<D>(shape, work.grad_cells, [&](T* cell, int64_t token) {
    copy_out<T, D>(cell, count, grad_value + token * step);
  });
}

// Heads wider than 64 channels go block by block; a block takes the narrowest cell that holds it.
#define FOR_EACH_BLOCK(function)                                              \
  for (int64_t channel = 0; channel < shape.head_dim; channel += 64) {        \
    const int64_t rest = shape.head_dim - channel;                            \
    if (rest > 32)                                                            \
      function<T, 64>(shape, arrays, task, channel, rest < 64 ? rest : 64, scratch); \
    else if (rest > 16)                                                       \
      function<T, 32>(shape, arrays, task, channel, rest, scratch);           \
    else if (rest > 8)                                                        \
      function<T, 16>(shape, arrays, task, channel, rest, scratch);           \
    else                                                                      \
      function<T, 8>(shape, arrays, task, channel, rest, scratch);            \
  }

template <typename T>
void forward(const Shape& shape, const Arrays<T>& arrays, const Task& task, void* scratch) {
  FOR_EACH_BLOCK(forward_block)
}

template <typename T>
void backward(const Shape& shape, const Arrays<T>& arrays, const Task& task, void* scratch) {
  FOR_EACH_BLOCK(backward_block)
}

template <typename T>
Kernels<T> kernels() {
  return {forward<T>, backward<T>};
}
template Kernels<float> kernels<float>();
template Kernels<double> kernels<double>();

}  // namespace CAPABILITY
}  // namespace referformer
