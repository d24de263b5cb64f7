"""tools/publish_model.py: a folder that needs nothing else."""

import inspect
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from mmengine.config import Config
from model_fixtures import tiny_batch, tiny_clip, tiny_model, tiny_model_cfg
from PIL import Image

from referformer import zoo
from referformer.apis import ReferFormerInferencer, init_model
from referformer.commands import infer, publish
from referformer.registry import MODELS
from referformer.zoo.weights import find_checkpoint


@pytest.fixture
def work_dir(tmp_path):
    """What train.py leaves: config, checkpoint, pointer, log."""
    folder = tmp_path / 'training'
    (folder / 'run' / 'vis_data').mkdir(parents=True)
    rows = ({'loss': 2.0 / step, 'step': step, 'iter': step} for step in (1, 2))
    (folder / 'run' / 'vis_data' / 'scalars.json').write_text(
        ''.join(json.dumps(row) + '\n' for row in rows)
    )
    loader = {'dataset': {'pipeline': [{'type': 'Resize', 'shorter': 64}, {'type': 'PackClip'}]}}
    cfg = {
        'default_scope': 'referformer',
        'model': tiny_model_cfg(tmp_path / 'tokenizer'),
        'test_dataloader': loader,
    }
    Config({**cfg, 'work_dir': str(folder), 'load_from': 'first.pth'}).dump(folder / 'small.py')
    model = tiny_model(tmp_path / 'tokenizer', seed=3)
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, folder / 'iter_2.pth')
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_2.pth'))
    return folder


def test_a_published_model_is_found_by_name_and_answers_alike(work_dir, tmp_path, monkeypatch):
    out = tmp_path / 'zoo' / 'small-model'
    publish.main([str(work_dir), str(work_dir), str(out), '--command', 'train it'])
    assert {path.name for path in out.iterdir()} == {
        'README.md',
        'config.py',
        'curve.png',
        'log.jsonl',
        'model.safetensors',
        'tokenizer',
    }
    assert 'train it' in (out / 'README.md').read_text()
    log = [json.loads(row) for row in (out / 'log.jsonl').open()]
    assert [row['loss'] for row in log] == [2.0, 1.0, 2.0, 1.0]

    # Nothing of where it was made is needed.
    (tmp_path / 'tokenizer').rename(tmp_path / 'elsewhere')
    monkeypatch.setattr(zoo.names, '_FOLDER', out.parent)
    monkeypatch.chdir(tmp_path)
    assert zoo.shipped_models() == ['small-model']
    found = init_model('small-model')
    assert 'load_from' not in found.cfg
    (tmp_path / 'elsewhere').rename(tmp_path / 'tokenizer')
    trained = tiny_model(tmp_path / 'tokenizer', seed=3)
    batch = tiny_batch()
    (a,), (b,) = (model.test_step(batch) for model in (found, trained))
    assert torch.equal(a.pred_instances.scores, b.pred_instances.scores)


def test_the_readme_of_a_published_folder_works_as_it_stands(
    work_dir, tmp_path, monkeypatch, capsys
):
    """From the folder it was published in: the Python block, and the command on a video."""
    monkeypatch.chdir(tmp_path)
    publish.main(['training', 'out/pub'])
    text = Path('out/pub/README.md').read_text()
    found = {}
    exec(re.search(r'```python\n(.*?)```', text, re.S)[1], found)
    trained = tiny_model(tmp_path / 'tokenizer', seed=3)
    for name, value in found['model'].state_dict().items():
        assert torch.equal(value, trained.state_dict()[name])
    command = shlex.split(re.search(r'```bash\n(.*?)```', text, re.S)[1])
    assert command[:3] == ['referformer', 'infer', 'VIDEO']
    frames = tiny_clip().permute(0, 2, 3, 1).numpy()
    Path('video').mkdir()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(f'video/{number}.png')
    infer.main(['video', *command[3:], '--device', 'cpu', '--shorter', '64'])
    assert len(list(Path('results/masks').glob('*/*.png'))) == len(frames)


def test_a_config_beside_weights_never_has_random_ones(work_dir, tmp_path):
    publish.main([str(work_dir), str(tmp_path / 'pub')])
    trained = tiny_model(tmp_path / 'tokenizer', seed=3).query_embed.weight
    for source in ('pub', 'pub/config.py', 'pub/'):
        assert torch.equal(
            init_model(str(tmp_path / source), device='cpu').query_embed.weight, trained
        )
    (tmp_path / 'pub' / 'model.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match=r'no model\.safetensors beside it'):
        init_model(tmp_path / 'pub')
    (tmp_path / 'pub' / 'config.py').unlink()
    with pytest.raises(FileNotFoundError, match=r'is no published model: it has no config\.py'):
        init_model(tmp_path / 'pub')


def test_model_and_inferencer_choose_the_same_device():
    default = inspect.signature(init_model).parameters['device'].default
    assert (
        default == inspect.signature(ReferFormerInferencer).parameters['device'].default == 'auto'
    )


def test_only_the_newest_run_is_logged_and_no_place_is_kept(work_dir, tmp_path):
    older = work_dir / '20200101_000000' / 'vis_data'
    older.mkdir(parents=True)
    (older / 'scalars.json').write_text('{"loss": 9.0, "iter": 1}\n')
    config = Config.fromfile(work_dir / 'small.py')
    config.launcher, config.model_wrapper_cfg = 'pytorch', {'type': 'MMDistributedDataParallel'}
    config.model.backbone.init_cfg = {'type': 'Pretrained', 'checkpoint': 'work_dirs/a.pth'}
    config.model.text_encoder.pretrained, config.resume = 'checkpoints/roberta', True
    config.dump(work_dir / 'small.py')
    publish.main([str(work_dir), str(tmp_path / 'out')])
    log = [json.loads(row) for row in (tmp_path / 'out' / 'log.jsonl').open()]
    assert [row['loss'] for row in log] == [2.0, 1.0]
    made = Config.fromfile(tmp_path / 'out' / 'config.py')
    assert made.model.backbone.init_cfg is None and made.model.text_encoder.pretrained is None
    assert not {'launcher', 'load_from', 'model_wrapper_cfg', 'resume', 'work_dir'} & set(made)


def test_what_is_missing_or_there_is_named(work_dir, tmp_path, capsys):
    def refused(*arguments):
        with pytest.raises(SystemExit):
            publish.main([str(argument) for argument in arguments])
        return capsys.readouterr().err

    out = tmp_path / 'out'
    out.mkdir()
    assert 'already there' in refused(work_dir, out)
    assert 'last_checkpoint' in refused(tmp_path / 'tokenizer', tmp_path / 'new')
    (tmp_path / 'unlogged').mkdir()
    assert 'no log in' in refused(tmp_path / 'unlogged', work_dir, tmp_path / 'new')
    whole = (work_dir / 'small.py').read_text()
    Config({'model': {'type': 'BackbonePretraining'}}).dump(work_dir / 'small.py')
    assert 'BackbonePretraining, which reads no sentences' in refused(work_dir, tmp_path / 'new')
    (work_dir / 'small.py').write_text(whole)
    (work_dir / 'iter_2.pth').write_bytes(b'PK')
    assert 'iter_2.pth' in refused(work_dir, tmp_path / 'new')
    assert not (tmp_path / 'new').exists()


def test_names_that_are_not_shipped_are_paths(tmp_path):
    assert zoo.find_config('configs/a.py').as_posix() == 'configs/a.py'
    assert find_checkpoint('configs/a.py') is None
    with pytest.raises(FileNotFoundError, match=r'checkpoint b\.pth does not exist; check'):
        find_checkpoint('configs/a.py', 'b.pth')
    with pytest.raises(FileNotFoundError, match='no model has this name'):
        init_model('referformer_unknown')


def test_encoders_by_name_need_no_name_once_published(work_dir, tmp_path):
    [config] = work_dir.glob('*.py')
    cfg = Config.fromfile(config)
    words = transformers.BertConfig(
        vocab_size=1000,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    named = tmp_path / 'bert'
    transformers.BertModel(words).save_pretrained(named)
    shutil.copytree(tmp_path / 'tokenizer', named, dirs_exist_ok=True)
    cfg.model.text_encoder = {'type': 'TransformersTextEncoder', 'name': str(named)}
    cfg.dump(config)
    model = MODELS.build(cfg.model).eval()
    expected = model.text_encoder(['the dog'])
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, work_dir / 'iter_2.pth')
    out = tmp_path / 'published'
    publish.main([str(work_dir), str(out)])
    shutil.rmtree(named)
    published = init_model(out, device='cpu')
    torch.testing.assert_close(published.text_encoder(['the dog']), expected)


def test_half_of_the_bytes_and_nearly_the_same_answers(work_dir, tmp_path, monkeypatch):
    folder = tmp_path / 'zoo'
    for name, options in (('whole', []), ('half', ['--half'])):
        publish.main([str(work_dir), str(folder / name), *options])
    sizes = [(folder / n / 'model.safetensors').stat().st_size for n in ('whole', 'half')]
    assert sizes[1] < 0.55 * sizes[0]
    monkeypatch.setattr(zoo.names, '_FOLDER', folder)
    models = [init_model(name) for name in ('whole', 'half')]
    assert all(p.dtype == torch.float32 for p in models[1].parameters())
    (a,), (b,) = (model.test_step(tiny_batch()) for model in models)
    torch.testing.assert_close(a.pred_instances.scores, b.pred_instances.scores, atol=5e-3, rtol=0)
