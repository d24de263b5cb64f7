// Multi-scale deformable attention (Deformable DETR, eq. 3) on CPU: checks, threads, dispatch.
#include "ms_deform_attn_cpu.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <tuple>
#include <vector>

namespace referformer {
namespace {

using at::Tensor;

struct Problem {
  std::vector<Level> levels;
  Shape shape;
  int64_t batch;
};

Problem check_shapes(const Tensor& value, at::IntArrayRef spatial_shapes, const Tensor& locations,
                     const Tensor& weights) {
  TORCH_CHECK_VALUE(value.dim() == 4, "value must be (B, S, M, D), got ", value.sizes());
  TORCH_CHECK_VALUE(locations.dim() == 6 && locations.size(5) == 2,
                    "sampling_locations must be (B, Q, M, L, P, 2), got ", locations.sizes());
  TORCH_CHECK_VALUE(weights.dim() == 5 && weights.sizes() == locations.sizes().slice(0, 5),
                    "attention_weights must be (B, Q, M, L, P) like sampling_locations ",
                    locations.sizes(), ", got ", weights.sizes());
  TORCH_CHECK_VALUE(value.size(0) == locations.size(0) && value.size(2) == locations.size(2),
                    "value ", value.sizes(), " and sampling_locations ", locations.sizes(),
                    " must agree in B (first) and M (third)");
  const int64_t num_levels = locations.size(3);
  TORCH_CHECK_VALUE(static_cast<int64_t>(spatial_shapes.size()) == 2 * num_levels,
                    "spatial_shapes must hold height and width of each of the ", num_levels,
                    " levels of sampling_locations, got ", spatial_shapes);
  Problem problem;
  int64_t tokens = 0, cells = 0;
  for (int64_t l = 0; l < num_levels; ++l) {
    const int64_t height = spatial_shapes[2 * l], width = spatial_shapes[2 * l + 1];
    TORCH_CHECK_VALUE(height > 0 && width > 0, "level ", l, " of spatial_shapes is empty: ", height,
                      " x ", width);
    problem.levels.push_back({height, width, tokens, cells});
    tokens += height * width;
    cells += (height + 2) * (width + 2);
  }
  TORCH_CHECK_VALUE(value.size(1) == tokens, "value has ", value.size(1), " tokens, but ",
                    "spatial_shapes ", spatial_shapes, " has ", tokens, " pixels");
  TORCH_CHECK_VALUE(cells <= std::numeric_limits<int32_t>::max(), "spatial_shapes is too large");
  problem.batch = value.size(0);
  problem.shape = {problem.levels.data(), num_levels,    locations.size(4), locations.size(1),
                   tokens,                cells,         value.size(2),     value.size(3)};
  return problem;
}

// PyTorch's own variable, so that one setting rules both. Read once.
template <typename T>
Kernels<T> pick_kernels() {
#if defined(__x86_64__)
  static const char* wanted = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string limit = wanted ? wanted : "avx512";
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  if (has_avx512 && limit == "avx512") return avx512::kernels<T>();
  if (has_avx2 && limit != "default") return avx2::kernels<T>();
#endif
  return baseline::kernels<T>();
}

struct AlignedDelete {
  void operator()(char* memory) const { operator delete[](memory, std::align_val_t(64)); }
};

// Runs `kernel` on every (batch, head), each cut into `parts` ranges of queries.
template <typename T, typename Kernel>
void run(const Problem& problem, const Arrays<T>& arrays, Kernel kernel, int64_t parts,
         bool backward) {
  const Shape& shape = problem.shape;
  const int64_t heads = problem.batch * shape.num_heads;
  const int64_t bytes = scratch_bytes(shape, sizeof(T), backward);
  at::parallel_for(0, heads * parts, 1, [&](int64_t begin, int64_t end) {
    std::unique_ptr<char[], AlignedDelete> scratch(new (std::align_val_t(64)) char[bytes]);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t head = i / parts, part = i % parts;
      const Task task = {head / shape.num_heads, head % shape.num_heads,
                         shape.num_queries * part / parts, shape.num_queries * (part + 1) / parts};
      kernel(shape, arrays, task, scratch.get());
    }
  });
}

// Half precisions are computed in single precision.
at::ScalarType compute_type(const Tensor& value) {
  const auto type = value.scalar_type();
  TORCH_CHECK_TYPE(at::isFloatingType(type), "value must be of a floating point type, got ", type);
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

template <typename T>
Tensor forward(const Problem& problem, const Tensor& value, const Tensor& locations,
               const Tensor& weights) {
  Tensor output = at::empty({problem.batch, problem.shape.num_queries,
                             problem.shape.num_heads * problem.shape.head_dim},
                            value.options());
  Arrays<T> arrays = {};
  arrays.value = value.const_data_ptr<T>();
  arrays.locations = locations.const_data_ptr<T>();
  arrays.weights = weights.const_data_ptr<T>();
  arrays.output = output.mutable_data_ptr<T>();
  // Fewer heads than threads: the queries are shared out too.
  const int64_t heads = std::max<int64_t>(problem.batch * problem.shape.num_heads, 1);
  const int64_t parts = (at::get_num_threads() + heads - 1) / heads;
  run(problem, arrays, pick_kernels<T>().forward, parts, false);
  return output;
}

template <typename T>
std::tuple<Tensor, Tensor, Tensor> backward(const Problem& problem, const Tensor& grad_output,
                                            const Tensor& value, const Tensor& locations,
                                            const Tensor& weights) {
  Tensor grad_value = at::empty_like(value);
  Tensor grad_locations = at::empty_like(locations);
  Tensor grad_weights = at::empty_like(weights);
  Arrays<T> arrays = {};
  arrays.value = value.const_data_ptr<T>();
  arrays.locations = locations.const_data_ptr<T>();
  arrays.weights = weights.const_data_ptr<T>();
  arrays.grad_output = grad_output.const_data_ptr<T>();
  arrays.grad_value = grad_value.mutable_data_ptr<T>();
  arrays.grad_locations = grad_locations.mutable_data_ptr<T>();
  arrays.grad_weights = grad_weights.mutable_data_ptr<T>();
  // One owner for the gradient of a head's value, so that nothing needs to be atomic.
  run(problem, arrays, pick_kernels<T>().backward, 1, true);
  return {grad_value, grad_locations, grad_weights};
}

Tensor ms_deform_attn(const Tensor& value, at::IntArrayRef spatial_shapes,
                      const Tensor& sampling_locations, const Tensor& attention_weights) {
  const Problem problem =
      check_shapes(value, spatial_shapes, sampling_locations, attention_weights);
  const auto type = compute_type(value);
  const Tensor v = value.to(type).contiguous();
  const Tensor x = sampling_locations.to(type).contiguous();
  const Tensor a = attention_weights.to(type).contiguous();
  const Tensor output =
      type == at::kDouble ? forward<double>(problem, v, x, a) : forward<float>(problem, v, x, a);
  return output.to(value.scalar_type());
}

std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward(const Tensor& grad_output,
                                                           const Tensor& value,
                                                           at::IntArrayRef spatial_shapes,
                                                           const Tensor& sampling_locations,
                                                           const Tensor& attention_weights) {
  const Problem problem =
      check_shapes(value, spatial_shapes, sampling_locations, attention_weights);
  const Shape& shape = problem.shape;
  TORCH_CHECK_VALUE(
      grad_output.sizes() ==
          at::IntArrayRef({problem.batch, shape.num_queries, shape.num_heads * shape.head_dim}),
      "grad_output must be (B, Q, M*D) as the output, got ", grad_output.sizes());
  const auto type = compute_type(value);
  const Tensor g = grad_output.to(type).contiguous();
  const Tensor v = value.to(type).contiguous();
  const Tensor x = sampling_locations.to(type).contiguous();
  const Tensor a = attention_weights.to(type).contiguous();
  const auto [grad_value, grad_locations, grad_weights] =
      type == at::kDouble ? backward<double>(problem, g, v, x, a)
                          : backward<float>(problem, g, v, x, a);
  return {grad_value.to(value.scalar_type()), grad_locations.to(sampling_locations.scalar_type()),
          grad_weights.to(attention_weights.scalar_type())};
}

}  // namespace

TORCH_LIBRARY_IMPL(referformer, CPU, library) {
  library.impl("ms_deform_attn", &ms_deform_attn);
  library.impl("ms_deform_attn_backward", &ms_deform_attn_backward);
}

}  // namespace referformer
