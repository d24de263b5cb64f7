"""Every path runs on the ``meta`` device: no tensor of another device takes part, and no branch
depends on a value. On a GPU the first is an error, and the second makes the CPU wait.

What looks at values on purpose, all outside of what is computed between pixels and masks:
``text_encoder.forward`` (lengths of sentences, before the tokens leave the CPU); transformers' own
look at the padding of sentences of different lengths; the criterion's check of labels, with more
than one class; and whoever takes results from the device.
"""

import traceback

import pytest
import torch
from model_fixtures import tiny_batch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from referformer.models import MSDeformAttn

TOKENISER = ('tokenization_utils', 'models/text_encoder.py')


class MetaOnly(TorchDispatchMode):
    """Refuses operations on tensors of another device, but for those that make the tokens."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        tensors = [x for x in pytree.tree_leaves((args, kwargs, output)) if torch.is_tensor(x)]
        if {x.device.type for x in tensors} - {'meta'}:
            stack = [frame.filename for frame in traceback.extract_stack()]
            ours = [name for name in stack if 'torch/' not in name and name != __file__]
            assert any(name in ours[-1] for name in TOKENISER), (function, ours[-1])
        return output


def prepared(model, num_clips, training=False, **meta):
    batch = model.data_preprocessor(tiny_batch(num_clips), training)
    for sample in batch['data_samples']:
        sample.set_metainfo(meta)
        sample.gt_instances = sample.gt_instances.to('meta')
    return batch


def on_meta(model):
    """The model there, with the form of deformable attention that needs no kernel of ours."""
    for attention in (m for m in model.modules() if isinstance(m, MSDeformAttn)):
        attention.backend = 'torch'
    return model.to('meta')


@pytest.mark.parametrize('meta', [{}, {'img_shape': (60, 90)}, {'key_frames': [1]}])
def test_losses(tiny_model, meta):
    model = on_meta(tiny_model()).train()
    batch = prepared(model, 2, True, **meta)
    if 'key_frames' in meta:
        for sample in batch['data_samples']:
            truth = sample.gt_instances
            parts = {name: truth[name][:, :1] for name in ('boxes', 'masks', 'valid')}
            sample.gt_instances = truth.new(labels=truth.labels, **parts)
    with MetaOnly():
        losses = model(**batch, mode='loss')
        sum(losses.values()).backward()
    assert {loss.device.type for loss in losses.values()} == {'meta'}
    assert all(p.grad is not None for p in model.transformer.parameters())


@pytest.mark.parametrize(
    ('test_cfg', 'meta'),
    [
        ({'keep_logits': True}, {}),
        ({'window': 1, 'presence_thr': 0.5}, {'video_id': 'same'}),
        ({'keep': 'all', 'resize': 'masks'}, {'img_shape': (60, 90), 'ori_shape': (120, 180)}),
        ({'keep': 'pairs', 'resize': 'probabilities'}, {'key_frames': [0]}),
    ],
)
def test_predictions(tiny_model, test_cfg, meta):
    model = on_meta(tiny_model(test_cfg=test_cfg))
    batch = prepared(model, 2, **meta)
    with MetaOnly():
        samples = model(**batch, mode='predict')
    for sample in samples:
        found = sample.pred_instances
        assert found.masks.shape[-2:] == sample.ori_shape
        assert {value.device.type for _, value in found.items()} == {'meta'}


@pytest.mark.parametrize(
    'changes',
    [
        {'transformer': {'look_first': True}},
        {'transformer': {'with_box_refine': False}, 'mask_head': {'rel_coord': False}},
        {'fusion': None, 'backbone': {'type': 'ResNet', 'base_channels': 8}},
    ],
)
def test_variants(tiny_model, changes):
    if 'backbone' in changes:
        pytest.importorskip('mmdet', reason='ResNet is of mmdet')
    model = on_meta(tiny_model(**changes))
    batch = prepared(model, 1)
    with MetaOnly():
        model(**batch, mode='predict')
        model(**batch, mode='loss')


def test_the_guard_refuses_what_it_should():
    with MetaOnly(), pytest.raises(AssertionError, match='aten'):
        torch.ones(2, device='meta') + torch.ones(())
    with pytest.raises(RuntimeError):
        bool(torch.ones((), device='meta'))
