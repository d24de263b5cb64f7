"""tools/publish_model.py: a folder that needs nothing else."""

import importlib.util
import json

import pytest
import torch
from mmengine.config import Config
from model_fixtures import tiny_batch, tiny_model, tiny_model_cfg
from toy_project import REPO

from referformer import zoo
from referformer.apis import init_model

spec = importlib.util.spec_from_file_location('publish', REPO / 'tools' / 'publish_model.py')
publish = importlib.util.module_from_spec(spec)
spec.loader.exec_module(publish)


@pytest.fixture
def work_dir(tmp_path):
    """What train.py leaves: config, checkpoint, pointer, log."""
    folder = tmp_path / 'training'
    (folder / 'run' / 'vis_data').mkdir(parents=True)
    rows = ({'loss': 2.0 / step, 'step': step, 'iter': step} for step in (1, 2))
    (folder / 'run' / 'vis_data' / 'scalars.json').write_text(
        ''.join(json.dumps(row) + '\n' for row in rows)
    )
    cfg = {'default_scope': 'referformer', 'model': tiny_model_cfg(tmp_path / 'tokenizer')}
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
    monkeypatch.setattr(zoo, '_FOLDER', out.parent)
    monkeypatch.chdir(tmp_path)
    assert zoo.shipped_models() == ['small-model']
    found = init_model('small-model')
    assert 'load_from' not in found.cfg
    (tmp_path / 'elsewhere').rename(tmp_path / 'tokenizer')
    trained = tiny_model(tmp_path / 'tokenizer', seed=3)
    batch = tiny_batch()
    (a,), (b,) = (model.test_step(batch) for model in (found, trained))
    assert torch.equal(a.pred_instances.scores, b.pred_instances.scores)


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
    assert zoo.find_checkpoint('configs/a.py', None) is None
    assert zoo.find_checkpoint('configs/a.py', 'b.pth').as_posix() == 'b.pth'
    with pytest.raises(FileNotFoundError, match='come with the package'):
        init_model('referformer_unknown')
