// The operators of referformer::, their signatures only: each device adds its own implementation
// with TORCH_LIBRARY_IMPL. Autograd, and shapes for torch.compile, are in
// referformer/models/ms_deform_attn.py.
#include <torch/library.h>

#if __has_include(<Python.h>)
#include <Python.h>
#define WITH_PYTHON
#endif

// `spatial_shapes` is flat: height and width of each level in turn. Being numbers and not a tensor,
// they never have to come back from a GPU.
TORCH_LIBRARY(referformer, library) {
  library.def(
      "ms_deform_attn(Tensor value, int[] spatial_shapes, Tensor sampling_locations, "
      "Tensor attention_weights) -> Tensor");
  library.def(
      "ms_deform_attn_backward(Tensor grad_output, Tensor value, int[] spatial_shapes, "
      "Tensor sampling_locations, Tensor attention_weights) -> (Tensor, Tensor, Tensor)");
}

#ifdef WITH_PYTHON
// Loading the file registers the operators; this only lets `import referformer._C` do it.
PyMODINIT_FUNC PyInit__C() {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr,
                               nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
#endif
