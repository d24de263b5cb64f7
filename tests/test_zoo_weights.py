"""Weights by name, from an official file behind a local Drive to masks."""

import argparse
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures_rvos import write_ref_youtube_vos
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from model_fixtures import save_tokenizer
from PIL import Image
from safetensors import safe_open
from small_configs import write_small_config
from test_engine.test_checkpoint import Hostile
from test_tools.test_train_test import load_tool

from referformer.apis import ReferFormerInferencer, init_model
from referformer.commands import convert, get_weights, infer, test, train
from referformer.engine.checkpoint import read_checkpoint
from referformer.engine.conversion import convert_to_official
from referformer.engine.official_names import to_official
from referformer.registry import MODELS
from referformer.zoo import list_models, published_models
from referformer.zoo.download import cache_dir
from referformer.zoo.weights import find_checkpoint
from referformer.zoo.weights import get_weights as fetch_weights

NAME = 'referformer_vswin-t_ytvos'
ID = '1vkG8nyUue9XOnScUMKo__khhxvuJP9R6'
URL = f'https://drive.google.com/file/d/{ID}/view'


def save_official(config, path):
    """Random weights as a training file of the official code; the same in our names."""
    init_default_scope('referformer')
    generator = torch.Generator().manual_seed(1)
    model = MODELS.build(Config.fromfile(config).model)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            parameter.data = noise / parameter[0].numel() ** 0.5
        else:
            parameter.data = 0.1 * noise + name.endswith('weight')
    state = model.state_dict()
    content = {'model': convert_to_official(state).state, 'epoch': 5}
    torch.save({**content, 'args': argparse.Namespace(lr=1e-4)}, path)
    return state


@pytest.fixture
def zoo(tmp_path, monkeypatch, server, hub_online):
    """A checkout with one small model in its index, the words of its tokenizer on the Hub, its
    weights on Drive; the state dict of ours is returned."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda code, **_: (code, True))
    data = write_ref_youtube_vos(tmp_path / 'data', num_valid=1, with_valid_truth=False)
    config = write_small_config(NAME, tmp_path, data)
    cfg = Config.fromfile(config)
    cfg.model.text_encoder.tokenizer = 'some-one/words'
    cfg.dump(config)
    (tmp_path / 'model-index.yml').write_text('Import: [metafile.yml]\n')
    (tmp_path / 'metafile.yml').write_text(
        f'Models:\n- {{Name: {NAME}, In Collection: A, Config: {config.name}, Weights: "{URL}"}}\n'
    )
    monkeypatch.setattr('referformer.zoo.names.package_root', lambda: tmp_path)
    server.hub = tmp_path / 'hub'
    save_tokenizer(server.hub / 'some-one' / 'words')
    (server.hub / 'some-one' / 'words' / 'config.json').write_text('{"model_type": "roberta"}')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub_cache'))
    server.drive[ID] = tmp_path / 'official.pth'
    return save_official(config, server.drive[ID])


def test_a_name_is_enough(zoo, server, capsys):
    assert NAME in list_models()
    model = init_model(NAME)
    assert all(torch.equal(value, zoo[name]) for name, value in model.state_dict().items())
    path = find_checkpoint(NAME)
    assert path == cache_dir() / 'models' / f'{NAME}.safetensors'
    with safe_open(path, 'pt') as file:
        assert set(file.keys()) == set(zoo) and file.metadata()['source'] == URL
    assert not list((cache_dir() / 'downloads').glob('*.pth'))  # what was fetched has done its work
    asked = len(server.asked)
    ReferFormerInferencer(NAME)
    get_weights.main([NAME, '--out', 'checkpoints/copy.pth'])
    assert not any('uc' in url or 'download' in url for url, _ in server.asked[asked:])
    assert torch.equal(
        read_checkpoint('checkpoints/copy.pth')['state_dict']['query_embed.weight'],
        zoo['query_embed.weight'],
    )
    assert f'--model {NAME}' in capsys.readouterr().out


def masks_of(folder):
    return np.stack([np.asarray(Image.open(p)) for p in sorted(folder.iterdir())]) > 0


def test_infer_by_name_gives_the_masks_of_test_on_the_converted_file(zoo, server, tmp_path):
    expressions = json.loads(
        (tmp_path / 'data/meta_expressions/valid/meta_expressions.json').read_text()
    )['videos']['valid0']['expressions']
    texts = {key: value['exp'] for key, value in expressions.items()}
    frames = 'data/valid/JPEGImages/valid0'
    infer.main([frames, *texts.values(), '--model', NAME, '--window', '0', '--out', 'found'])

    convert.main(['official.pth', 'converted.pth', '--config', f'{NAME}.py'])
    options = ['--work-dir', 'w', '--cfg-options', 'test_evaluator.out_dir=submission']
    test.main([f'{NAME}.py', 'converted.pth', *options])
    share = []
    for number, key in enumerate(texts):
        (folder,) = Path('found/masks').glob(f'{number}_*')
        expected = masks_of(Path('submission/Annotations/valid0', key))
        assert np.array_equal(masks_of(folder), expected)
        share.append(expected.mean())
    assert 0 < np.mean(share) < 1


def test_an_official_file_is_a_checkpoint_everywhere(zoo, server, tmp_path):
    """As a file, an address or a name: to init_model, to test, as the start of a training."""
    for source in ('official.pth', URL, NAME):
        model = init_model(f'{NAME}.py', source)
        assert torch.equal(model.query_embed.weight, zoo['query_embed.weight'])
    train.main([f'{NAME}.py', '--work-dir', 'w', '--cfg-options', 'load_from=official.pth'])


def test_offline_one_message_and_the_file_put_by_hand(zoo, server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('REFERFORMER_DRIVE', 'http://127.0.0.1:9')
    with pytest.raises(SystemExit) as stop:
        get_weights.main([NAME])
    error = capsys.readouterr().err
    place = cache_dir() / 'downloads' / f'{NAME}.pth'
    assert stop.value.code == 2 and error.startswith('error: ') and 'Traceback' not in error
    assert f'Open {URL}' in error and f'save the file as {place}' in error
    assert f'referformer get-weights {NAME}' in error
    shutil.copy('official.pth', place)
    get_weights.main([NAME])
    assert torch.equal(init_model(NAME).query_embed.weight, zoo['query_embed.weight'])


@pytest.mark.parametrize(
    'content, message',
    [
        ({'model': {'a': torch.ones(1)}}, 'is not .*holds no weights'),
        ({'model': Hostile(print, 'ran')}, 'could run code'),
        ('<html>', 'cannot be read as a checkpoint'),
        ('other shape', r'keys differ in shape: query_embed\.weight'),
    ],
    ids=['other', 'hostile', 'page', 'shape'],
)
def test_a_wrong_file_is_told_and_does_not_stay(zoo, server, content, message):
    right = server.drive[ID].read_bytes()
    if content == 'other shape':
        content = torch.load(server.drive[ID], weights_only=False)
        content['model']['query_embed.weight'] = torch.ones(7, 16)
    if isinstance(content, str):
        server.drive[ID].write_text(content)
    else:
        torch.save(content, server.drive[ID])
    with pytest.raises(ValueError, match=rf'(?s){message}.*set aside as .*\.wrong'):
        fetch_weights(NAME)
    assert not list((cache_dir() / 'models').glob('*.safetensors'))
    server.drive[ID].write_bytes(right)
    assert fetch_weights(NAME).is_file()


def test_a_changed_file_of_the_cache_is_refused(zoo):
    path = fetch_weights(NAME)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match='has changed since it was fetched'):
        init_model(NAME)


def test_a_missing_start_names_the_command_that_fetches_it(zoo, capsys):
    with pytest.raises(SystemExit):
        train.main([f'{NAME}.py', '--cfg-options', f'load_from=checkpoints/{NAME}.pth'])
    error = capsys.readouterr().err
    assert f'referformer get-weights {NAME} --out checkpoints/{NAME}.pth' in error


@pytest.mark.parametrize('option', ['--resume', 'load_from'])
def test_a_hostile_address_does_not_run_in_a_training(zoo, server, tmp_path, capsys, option):
    mark = tmp_path / 'ran'
    torch.save({'state_dict': Hostile(os.system, f'touch {mark}')}, tmp_path / 'hostile.pth')
    server.files['/hostile.pth'] = (tmp_path / 'hostile.pth').read_bytes()
    url = f'{server.url}/hostile.pth'
    options = ['--resume', url] if option == '--resume' else ['--cfg-options', f'load_from={url}']
    with pytest.raises(SystemExit):
        train.main([f'{NAME}.py', '--work-dir', 'w', *options])
    assert 'could run code' in capsys.readouterr().err
    with pytest.raises(ValueError, match='could run code'):
        init_model(f'{NAME}.py', url)
    assert not mark.exists() and any('/hostile.pth' in asked for asked, _ in server.asked)
    assert published_models()[NAME].weights == URL


def test_a_published_backbone_fits_in_init_cfg_from_an_address(server, tmp_path):
    """Video Swin of Kinetics as its authors name it: a patch of two frames, a classifier."""
    cfg = {'type': 'VideoSwin', 'embed_dim': 8, 'depths': (1, 1, 1, 1), 'num_heads': (1, 1, 1, 1)}
    init_default_scope('referformer')
    ours = MODELS.build(cfg).state_dict()
    theirs = {
        to_official(f'backbone.{key}', 'video_swin').removeprefix('backbone.0.body.'): torch.rand(
            value.shape
        )
        for key, value in ours.items()
    }
    patch = theirs['patch_embed.proj.weight']
    theirs['patch_embed.proj.weight'] = torch.stack([0.25 * patch, 0.75 * patch], 2)
    theirs = {f'backbone.{key}': value for key, value in theirs.items()}
    torch.save({'state_dict': {**theirs, 'cls_head.fc.weight': torch.ones(3)}}, tmp_path / 'k.pth')
    server.files['/k.pth'] = (tmp_path / 'k.pth').read_bytes()
    init_cfg = {'type': 'Pretrained', 'checkpoint': f'{server.url}/k.pth'}
    backbone = MODELS.build({**cfg, 'init_cfg': init_cfg})
    backbone.init_weights()
    assert torch.allclose(backbone.patch_embed.weight, patch)
    name = 'stages.2.0.attn.qkv.weight'
    assert torch.equal(
        backbone.state_dict()[name], theirs['backbone.layers.2.blocks.0.attn.qkv.weight']
    )


@pytest.mark.slow
def test_the_true_size_goes_the_same_way(server, hub_online, shared_dir, tmp_path, monkeypatch):
    """referformer_r50_ytvos of the real index: an official file with name-seeded weights."""
    parity = shared_dir / 'parity'
    official = load_tool(parity / 'weights.py').official_weight
    listed = json.loads((parity / 'manifest_resnet50.json').read_text())['state_dict']
    state = {
        key: torch.from_numpy(official(entry.get('alias_of') or key, entry['shape']))
        for key, entry in listed.items()
        if entry['dtype'] == 'float32'
    }
    torch.save({'model': state, 'epoch': 5}, tmp_path / 'official.pth')
    server.drive[published_models()['referformer_r50_ytvos'].weights.split('/')[-2]] = (
        tmp_path / 'official.pth'
    )
    server.hub = tmp_path / 'hub'
    words = server.hub / 'FacebookAI' / 'roberta-base'
    save_tokenizer(words)
    (words / 'config.json').write_text('{"model_type": "roberta"}')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub_cache'))
    monkeypatch.chdir(tmp_path)
    data = write_ref_youtube_vos(tmp_path / 'data', num_valid=1, num_frames=2, num_objects=1)
    frames = 'data/valid/JPEGImages/valid0'
    small = ['--window', '0', '--shorter', '64', '--device', 'cpu', '--out', 'found']
    expressions = json.loads((data / 'meta_expressions/valid/meta_expressions.json').read_text())
    texts = {k: e['exp'] for k, e in expressions['videos']['valid0']['expressions'].items()}
    infer.main([frames, *texts.values(), '--model', 'referformer_r50_ytvos', *small])

    convert.main(['official.pth', 'converted.safetensors'])
    options = {
        'test_dataloader.dataset.data_root': 'data',
        'test_dataloader.num_workers': 0,
        'test_dataloader.persistent_workers': False,
        'test_dataloader.dataset.pipeline.3.shorter': 64,
        'test_evaluator.out_dir': 'submission',
    }
    config = str(published_models()['referformer_r50_ytvos'].config)
    options = [f'{key}={value}' for key, value in options.items()]
    test.main([config, 'converted.safetensors', '--device', 'cpu', '--cfg-options', *options])
    for number, key in enumerate(texts):
        (folder,) = Path('found/masks').glob(f'{number}_*')
        expected = masks_of(Path('submission/Annotations/valid0', key))
        assert np.array_equal(masks_of(folder), expected)
        assert 0 < expected.mean() < 1
