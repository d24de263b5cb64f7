"""Pre-training of a backbone on the attributes of all objects."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from referformer.engine.checkpoint import check_keys
from referformer.engine.muon import MuonAdamW
from referformer.models.backbones import VideoSwin
from referformer.registry import MODELS
from referformer.structures import RVOSDataSample

BACKBONE = {
    'type': 'VideoSwin',
    'embed_dim': 16,
    'depths': (0, 1, 1, 1),
    'num_heads': (2, 2, 2, 2),
    'drop_path': 0.0,
    'patch_frames': 3,
    'conv_channels': 8,
}
ATTRIBUTES = {'colour': ('red', 'blue'), 'motion': ('still', 'left', 'right')}
CONFIG = {'type': 'BackbonePretraining', 'backbone': BACKBONE, 'attributes': ATTRIBUTES}


@pytest.fixture
def model():
    init_default_scope('referformer')
    torch.manual_seed(0)
    model = MODELS.build(CONFIG)
    model.init_weights()
    return model


def batch(B=2, T=3, size=(32, 48)):
    """Squares, red or blue, that stand or move; the truth is one row smaller than the input."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(B, T, 3, *size, generator=generator) * 0.2
    samples = []
    for b in range(B):
        labels = torch.tensor([[b % 2, b % 3], [1 - b % 2, (b + 1) % 3]])
        masks = torch.zeros(2, T, size[0] - 1, size[1], dtype=torch.bool)
        for n, (colour, motion) in enumerate(labels.tolist()):
            for t in range(T):
                left = 18 + (0, -4, 4)[motion] * t
                masks[n, t, 16 * n + 2 : 16 * n + 14, left : left + 12] = True
                inputs[b, t, 2 * colour, :-1][masks[n, t]] = 1
        sample = RVOSDataSample()
        sample.gt_instances = InstanceData(labels=labels, masks=masks)
        samples.append(sample)
    return inputs, samples


def test_losses_by_hand(model):
    inputs, samples = batch()
    logits = model(inputs, samples)
    assert logits.shape == (2 * 3, 1 + 2 + 3, 8, 12)
    results = model(inputs, samples, mode='loss')
    objects, scores, labels = [], [], []
    for frame in range(6):
        gt = samples[frame // 3].gt_instances
        for row in range(8):
            for column in range(12):
                y, x = 4 * row + 2, 4 * column + 2
                inside = [n for n in range(2) if gt.masks[n, frame % 3, y, x]]
                objects.append(float(bool(inside)))
                for n in inside:
                    scores.append(logits[frame, :, row, column])
                    labels.append(gt.labels[n])
    scores, labels = torch.stack(scores), torch.stack(labels)
    flat = logits[:, 0].flatten()
    expected = {
        'loss_object': F.binary_cross_entropy_with_logits(flat, torch.tensor(objects)),
        'right_object': ((flat > 0) == torch.tensor(objects).bool()).float().mean(),
        'loss_colour': F.cross_entropy(scores[:, 1:3], labels[:, 0]),
        'right_colour': (scores[:, 1:3].argmax(1) == labels[:, 0]).float().mean(),
        'loss_motion': F.cross_entropy(scores[:, 3:], labels[:, 1]),
        'right_motion': (scores[:, 3:].argmax(1) == labels[:, 1]).float().mean(),
    }
    assert results.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(results[name], value)


def test_clips_without_objects_have_no_loss_of_attributes(model):
    inputs, samples = batch()
    for sample in samples:
        sample.gt_instances.masks[:] = False
    results = model(inputs, samples, mode='loss')
    assert results['loss_colour'] == results['loss_motion'] == 0
    sum(v for k, v in results.items() if 'loss' in k).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_colours_and_motions_are_learned(model):
    inputs, samples = batch(B=6)
    optimizer = MuonAdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        results = model(inputs, samples, mode='loss')
        optimizer.zero_grad()
        sum(v for k, v in results.items() if 'loss' in k).backward()
        optimizer.step()
    assert results['right_object'] > 0.95
    assert results['right_colour'] > 0.95
    assert results['right_motion'] > 0.9


def test_a_later_model_takes_the_backbone(model, tmp_path):
    path = tmp_path / 'iter_1.pth'
    torch.save({'state_dict': model.state_dict()}, path)
    options = {k: v for k, v in BACKBONE.items() if k != 'type'}
    later = VideoSwin(
        **options, init_cfg={'type': 'Pretrained', 'checkpoint': str(path), 'prefix': 'backbone.'}
    )
    later.init_weights()
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(later.state_dict()[name], value)


def test_weights_that_do_not_fit_are_refused(model, tmp_path):
    path = tmp_path / 'iter_1.pth'
    torch.save({'state_dict': model.state_dict()}, path)
    start = {'type': 'Pretrained', 'checkpoint': str(path), 'prefix': 'backbone.'}
    options = {k: v for k, v in BACKBONE.items() if k != 'type'}
    with pytest.raises(ValueError, match=r'3 keys differ in shape: patch_embed.0.weight'):
        VideoSwin(
            **{**options, 'patch_frames': 5, 'conv_channels': 4}, init_cfg=start
        ).init_weights()
    with pytest.raises(ValueError, match=r'[1-9]\d* keys of the model are missing'):
        VideoSwin(**{**options, 'depths': (0, 1, 2, 1)}, init_cfg=start).init_weights()


@pytest.mark.parametrize('depths', [(0, 1, 2, 1), (0, 1, 0, 1)])
def test_published_weights_of_another_depth_are_refused(model, tmp_path, depths):
    """A classifier may come with them."""
    path = tmp_path / 'backbone.pth'
    torch.save({**model.backbone.state_dict(), 'head.fc.weight': torch.ones(2, 2)}, path)
    start = {'type': 'Pretrained', 'checkpoint': str(path)}
    options = {k: v for k, v in BACKBONE.items() if k != 'type'}
    VideoSwin(**options, init_cfg=start).init_weights()
    with pytest.raises(ValueError, match=r'[1-9]\d* keys of the (model are missing|file are not)'):
        VideoSwin(**{**options, 'depths': depths}, init_cfg=start).init_weights()


def test_counters_of_batch_norm_may_be_there_or_not():
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2))
    state = module.state_dict()
    check_keys({k: v for k, v in state.items() if 'num_batches' not in k}, state, 'file')
    check_keys(state, {k: v for k, v in state.items() if 'num_batches' not in k}, 'file')


@pytest.mark.parametrize('names', [(), ('object',), ('gloss',)])
def test_attributes_must_be_there_and_leave_other_losses_alone(names):
    attributes = dict.fromkeys(names, ('yes', 'no'))
    with pytest.raises(ValueError, match='attributes must be at least one, none of them named'):
        MODELS.build({**CONFIG, 'attributes': attributes})


def test_a_backbone_of_single_frames_is_refused():
    options = {'embed_dim': 8, 'depths': (1, 1, 1, 1), 'num_heads': (1, 1, 1, 1)}
    with pytest.raises(ValueError, match='Swin takes single frames'):
        MODELS.build({**CONFIG, 'backbone': {'type': 'Swin', **options}})


def test_masks_of_another_size_are_refused(model):
    inputs, samples = batch()
    with pytest.raises(ValueError, match='masks of 31x48 are larger than the input, 28x48'):
        model(inputs[..., :28, :], samples, mode='loss')


def test_there_is_nothing_to_predict(model):
    with pytest.raises(ValueError, match="mode must be 'loss' or 'tensor', not 'predict'"):
        model(*batch(), mode='predict')
