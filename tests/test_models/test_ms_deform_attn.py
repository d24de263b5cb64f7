"""Deformable attention: its definition, its backends against the definition, the module."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from torch import Tensor

from referformer.models import ms_deform_attn as module
from referformer.models.ms_deform_attn import (
    BUILD_CSRC,
    ENV,
    MSDeformAttn,
    ms_deform_attn,
    ms_deform_attn_pytorch,
    pick_backend,
)

SHAPES = [(7, 9), (4, 5), (1, 3)]
# Sums of up to 16 products of numbers of order one; coordinates reach 9 pixels.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}

needs_csrc = pytest.mark.skipif(
    bool(module._CSRC_OBSTACLE), reason=f'csrc is not built here: run `{BUILD_CSRC}`'
)


@pytest.fixture(autouse=True)
def free_choice(monkeypatch):
    monkeypatch.delenv(ENV, raising=False)
    yield
    module._obstacle.cache_clear()
    module._log_once.cache_clear()


@pytest.fixture
def set_threads():
    threads = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(threads)


@pytest.fixture(params=['torch', 'csrc', 'mmcv'])
def backend(request) -> str:
    if obstacle := module._obstacle(request.param, 'cpu'):
        pytest.skip(obstacle)
    return request.param


def random_inputs(
    B: int = 2, Lq: int = 11, M: int = 3, D: int = 8, P: int = 4, dtype=torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Value, locations (one in six outside the map), weights."""
    generator = torch.Generator().manual_seed(D)
    L, S = len(SHAPES), sum(h * w for h, w in SHAPES)
    value = torch.randn(B, S, M, D, generator=generator, dtype=dtype)
    locations = torch.rand(B, Lq, M, L, P, 2, generator=generator, dtype=dtype) * 1.2 - 0.1
    locations[:, :2] = locations[:, :2] * 10 - 5  # far outside
    weights = torch.rand(B, Lq, M, L, P, generator=generator, dtype=dtype)
    weights = weights / weights.sum((-2, -1), keepdim=True)
    return value, locations, weights


def outputs_and_gradients(inputs: tuple[Tensor, ...], backend: str) -> list[Tensor]:
    value, locations, weights = (tensor.clone().requires_grad_() for tensor in inputs)
    output = ms_deform_attn(value, SHAPES, locations, weights, backend)
    grad = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output)
    return [output.detach(), *torch.autograd.grad(output, (value, locations, weights), grad)]


def load(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        pytest.skip(f'{path} is not here')
    with np.load(path) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != 'meta'}


def test_definition_on_a_case_worked_by_hand():
    value = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)  # rows 1 2 / 3 4
    # A pixel's centre; the middle of four; the middle of the left edge; a corner; outside.
    xy = [(0.25, 0.25), (0.5, 0.5), (0.0, 0.5), (1.0, 1.0), (-0.3, 0.5)]
    locations = torch.tensor(xy).view(1, 5, 1, 1, 1, 2)
    output = ms_deform_attn_pytorch(value, [(2, 2)], locations, torch.ones(1, 5, 1, 1, 1))
    # On an edge half of the interpolated square is zero, at a corner three quarters.
    expected = torch.tensor([1.0, 2.5, (1 + 3) / 4, 4 / 4, 0.0])
    torch.testing.assert_close(output.flatten(), expected)


def test_the_official_op_is_reproduced_with_gradients(shared_dir, backend):
    case = load(shared_dir / 'parity' / 'units' / 'ms_deform_attn_core.npz')
    names = ('value', 'sampling_locations', 'attention_weights')
    value, locations, weights = (case[name].requires_grad_() for name in names)
    output = ms_deform_attn(value, case['shapes'], locations, weights, backend)
    torch.testing.assert_close(output, case['output'], rtol=1e-5, atol=1e-5)
    output.backward(case['grad_output'])
    for name in names:
        torch.testing.assert_close(case[name].grad, case[f'grad_{name}'], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('coordinates', [2, 4])
def test_the_official_module_is_reproduced(shared_dir, backend, coordinates):
    case = load(shared_dir / 'parity' / 'units' / 'ms_deform_attn_module.npz')
    attention = MSDeformAttn(embed_dim=32, num_heads=4, backend=backend)
    attention.load_state_dict({k[2:]: v for k, v in case.items() if k.startswith('w.')})
    reference, expected = case[f'ref{coordinates}'], case[f'out{coordinates}']
    shapes = [tuple(shape) for shape in case['shapes'].tolist()]
    output = attention(case['query'], reference, case['input'], shapes, case['padding_mask'])
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-5)


@needs_csrc
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('D', [1, 3, 8, 16, 20, 32, 64, 70, 130])
def test_csrc_equals_the_definition(D, dtype):
    inputs = random_inputs(D=D, dtype=dtype)
    expected = outputs_and_gradients(inputs, 'torch')
    for got, want in zip(outputs_and_gradients(inputs, 'csrc'), expected):
        # Gradients of locations sum over D channels and are scaled by the map's size.
        tolerance = TOLERANCE[dtype] * max(1.0, want.abs().max().item())
        torch.testing.assert_close(got, want, rtol=0, atol=tolerance)


@needs_csrc
def test_one_head_is_shared_between_threads(set_threads):
    inputs = random_inputs(B=1, M=1, Lq=13)
    expected = outputs_and_gradients(inputs, 'torch')
    set_threads(2)
    for got, want in zip(outputs_and_gradients(inputs, 'csrc'), expected):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@needs_csrc
def test_csrc_gradients_are_derivatives(set_threads):
    set_threads(1)  # a thousand tiny calls
    # Between pixel centres, where the interpolation is smooth: fractions of 0.2 to 0.8.
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([(w, h) for h, w in SHAPES], dtype=torch.float64)
    pixel = torch.rand(1, 3, 2, len(SHAPES), 2, 2, generator=generator, dtype=torch.float64)
    pixel = (pixel * (sizes[:, None] + 1)).floor() - 0.5
    fraction = torch.rand(pixel.shape, generator=generator, dtype=torch.float64) * 0.6 + 0.2
    locations = (pixel + fraction) / sizes[:, None]
    value, _, weights = random_inputs(B=1, Lq=3, M=2, D=3, P=2, dtype=torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (value, locations, weights)]
    assert torch.autograd.gradcheck(lambda v, x, a: ms_deform_attn(v, SHAPES, x, a, 'csrc'), inputs)


@needs_csrc
def test_csrc_is_a_well_formed_operator():
    flat = [size for shape in SHAPES for size in shape]
    value, locations, weights = (t.requires_grad_() for t in random_inputs(Lq=3, D=4))
    torch.library.opcheck(
        torch.ops.referformer.ms_deform_attn.default, (value, flat, locations, weights)
    )
    inputs = [t.detach() for t in (value, locations, weights)]
    grad = torch.randn(2, 3, 12)
    torch.library.opcheck(
        torch.ops.referformer.ms_deform_attn_backward.default,
        (grad, inputs[0], flat, inputs[1], inputs[2]),
    )


@needs_csrc
def test_csrc_has_shapes_without_numbers():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        value, locations, weights = (mode.from_tensor(t) for t in random_inputs())
        output = ms_deform_attn(value, SHAPES, locations, weights, 'csrc')
    assert output.shape == (2, 11, 24) and output.dtype == torch.float32


@needs_csrc
@pytest.mark.slow
def test_the_module_compiles_without_a_graph_break():
    attention = MSDeformAttn(embed_dim=16, num_heads=2, num_levels=3, num_points=2, backend='csrc')
    query, reference = torch.randn(2, 5, 16), torch.rand(2, 5, 3, 2)
    tokens = torch.randn(2, sum(h * w for h, w in SHAPES), 16)
    compiled = torch.compile(attention, backend='aot_eager', fullgraph=True)
    expected = attention(query, reference, tokens, SHAPES)
    torch.testing.assert_close(compiled(query, reference, tokens, SHAPES), expected)


@needs_csrc
@pytest.mark.slow
@pytest.mark.parametrize('capability', ['default', 'avx2', 'avx512'])
def test_instruction_sets_agree(capability, tmp_path):
    """The kernels are chosen once a process; a CPU without one of the sets takes the next."""
    inputs = random_inputs(D=32)
    torch.save(inputs, tmp_path / 'inputs.pt')
    code = (
        'import sys, torch\n'
        'sys.path.insert(0, sys.argv[1])\n'
        'from test_ms_deform_attn import outputs_and_gradients\n'
        "inputs = torch.load(sys.argv[2] + '/inputs.pt')\n"
        "torch.save(outputs_and_gradients(inputs, 'csrc'), sys.argv[2] + '/outputs.pt')\n"
    )
    tests = Path(__file__).parent
    paths = f'{tests.parents[1]}{os.pathsep}{os.environ.get("PYTHONPATH", "")}'
    subprocess.run(
        [sys.executable, '-c', code, str(tests), str(tmp_path)],
        env={**os.environ, 'ATEN_CPU_CAPABILITY': capability, 'PYTHONPATH': paths},
        check=True,
    )
    got = torch.load(tmp_path / 'outputs.pt')
    for a, b in zip(got, outputs_and_gradients(inputs, 'torch'), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-4)  # locations: sums of 32 channels


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_values_keep_full_precision_locations(backend, dtype):
    value, locations, weights = random_inputs()
    value = value.to(dtype)
    expected = ms_deform_attn_pytorch(value.float(), SHAPES, locations, weights)
    output = ms_deform_attn(value, SHAPES, locations, weights, backend)
    assert output.dtype == dtype
    # Nothing is rounded but the result: half a unit in the last place.
    torch.testing.assert_close(output.float(), expected, rtol=torch.finfo(dtype).eps / 2, atol=1e-5)


@needs_csrc
def test_points_that_are_not_numbers_read_nothing():
    value, locations, weights = random_inputs()
    locations[:, 0] = float('nan')
    locations[:, 1] = float('inf')
    output = ms_deform_attn(value, SHAPES, locations, weights, 'csrc')
    assert (output[:, :2] == 0).all() and output.isfinite().all()


@needs_csrc
@pytest.mark.parametrize('B, Lq', [(0, 3), (2, 0)])
def test_nothing_in_gives_nothing_out(B, Lq):
    inputs = random_inputs(B=B, Lq=max(Lq, 2))
    inputs = inputs[0], inputs[1][:, :Lq], inputs[2][:, :Lq]
    output, grad_value, *_ = outputs_and_gradients(inputs, 'csrc')
    assert output.shape == (B, Lq, 24)
    assert (grad_value == 0).all()


@needs_csrc
def test_csrc_refuses_shapes_that_do_not_fit():
    value, locations, weights = random_inputs()
    with pytest.raises(ValueError, match=r'86 tokens.*90 pixels'):
        ms_deform_attn(value, [(7, 9), (4, 6), (1, 3)], locations, weights, 'csrc')
    with pytest.raises(ValueError, match='height and width of each of the 3 levels'):
        ms_deform_attn(value, SHAPES[:2], locations, weights, 'csrc')
    with pytest.raises(ValueError, match='attention_weights must be'):
        ms_deform_attn(value, SHAPES, locations, weights[:, 1:], 'csrc')
    with pytest.raises(ValueError, match='must agree in B'):
        ms_deform_attn(value[:1], SHAPES, locations, weights, 'csrc')


def test_environment_overrules_the_argument(monkeypatch):
    monkeypatch.setenv(ENV, 'torch')
    assert pick_backend('cpu', 'csrc') == 'torch'
    monkeypatch.setenv(ENV, 'cuda')
    with pytest.raises(ValueError, match=f"{ENV}='cuda' is unknown: choose one of"):
        pick_backend('cpu')


def test_a_forced_backend_that_cannot_run_names_the_remedy(monkeypatch):
    monkeypatch.setattr(module, '_CSRC_OBSTACLE', 'referformer._C is not built; `build it`')
    module._obstacle.cache_clear()
    with pytest.raises(RuntimeError, match=r"'csrc' cannot run on 'cpu'.*not built; `build it`"):
        ms_deform_attn(random_inputs()[0], SHAPES, *random_inputs()[1:], 'csrc')
    monkeypatch.setitem(sys.modules, 'mmcv.ops.multi_scale_deform_attn', None)
    with pytest.raises(RuntimeError, match=r'mmcv with compiled ops is missing.*install_mmcv.sh'):
        pick_backend('cpu', 'mmcv')
    with pytest.raises(ValueError, match="backend 'fast' is unknown"):
        MSDeformAttn(backend='fast')


def test_what_was_taken_is_logged_once(monkeypatch):
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    monkeypatch.setattr(module, '_CSRC_OBSTACLE', f'not built; `{BUILD_CSRC}` builds it')
    module._obstacle.cache_clear()
    module._log_once.cache_clear()
    try:
        for _ in range(2):
            assert pick_backend('cpu', 'torch') == 'torch'
            assert pick_backend('cpu') == 'torch'
    finally:
        logger.removeHandler(handler)
    assert [record.levelname for record in records] == ['INFO', 'WARNING']
    assert BUILD_CSRC in records[1].getMessage()


def test_heads_start_in_their_own_directions():
    attention = MSDeformAttn(embed_dim=32, num_heads=4, num_levels=2, num_points=3)
    offsets = attention.sampling_offsets(torch.randn(32)).view(4, 2, 3, 2)
    right, down = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    for p in range(3):
        expected = torch.stack([right, down, -right, -down]) * (p + 1)
        for level in range(2):
            torch.testing.assert_close(offsets[:, level, p], expected, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match='multiple of num_heads'):
        MSDeformAttn(embed_dim=30, num_heads=4)


def test_a_padded_token_is_not_read():
    torch.manual_seed(0)
    attention = MSDeformAttn(embed_dim=16, num_heads=2, num_levels=3, num_points=2)
    query, reference = torch.randn(1, 5, 16), torch.rand(1, 5, 3, 2)
    tokens = torch.randn(1, sum(h * w for h, w in SHAPES), 16)
    mask = torch.zeros(tokens.shape[:2], dtype=torch.bool)
    mask[:, 10:40] = True
    changed = tokens.masked_fill(mask[..., None], 100.0)
    first = attention(query, reference, tokens, SHAPES, mask)
    torch.testing.assert_close(attention(query, reference, changed, SHAPES, mask), first)
    assert not torch.allclose(attention(query, reference, tokens, SHAPES), first)
    with pytest.raises(ValueError, match='reference_points must be'):
        attention(query, reference[..., :1], tokens, SHAPES)
