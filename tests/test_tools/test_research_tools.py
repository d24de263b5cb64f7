"""Comparing trainings, printing configs, and the example of docs/custom.md."""

import importlib.util
import json
import re
import runpy

import pytest
import torch
from mmengine.config import Config
from model_fixtures import tiny_model
from toy_project import REPO

from referformer.models import DiceLoss, MSDeformAttn
from referformer.registry import MODELS, build


def run(tool, *arguments):
    path = REPO / 'tools' / 'analysis_tools' / f'{tool}.py'
    spec = importlib.util.spec_from_file_location(tool, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([str(argument) for argument in arguments])


def write_run(folder, rows):
    log = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('\n'.join(json.dumps(row) for row in rows))
    return folder


@pytest.mark.parametrize(
    ('kind', 'line'),
    [
        ('markdown', '| run_a | 20 | 1.500 | 60.00 | 10 | 55.50 |'),
        ('latex', r'run\_a & 20 & 1.500 & 60.00 & 10 & 55.50 \\'),
        ('csv', 'run_a,20,1.500,60.00,10,55.50'),
    ],
)
def test_runs_are_compared_by_loss_best_and_last_score(tmp_path, capsys, kind, line):
    first = [{'loss': 2.0, 'iter': 10}, {'J&F': 60.0, 'step': 1}]
    last = [{'loss': 1.5, 'iter': 20}, {'J&F': 55.5, 'step': 2}]
    runs = write_run(tmp_path / 'run_a', first + last), write_run(tmp_path / 'run_b', first[:1])
    run('compare_runs', *runs, '--format', kind)
    out = capsys.readouterr().out.splitlines()
    assert line in out
    assert any(re.search(r'run.*b.*10.*2\.000.*-.*-.*-', other) for other in out)


def test_a_folder_without_a_log_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run('compare_runs', tmp_path)
    assert f'error: no log in {tmp_path}' in capsys.readouterr().err


def test_what_is_no_run_among_runs_is_left_out_with_a_note(tmp_path, capsys):
    first = write_run(tmp_path / 'run_a', [{'loss': 2.0, 'iter': 10}])
    (tmp_path / 'notes.txt').write_text('')
    run('compare_runs', first, tmp_path / 'notes.txt', '--format', 'csv')
    out, notes = capsys.readouterr()
    assert out.splitlines()[1:] == ['run_a,10,2.000,-,-,-']
    assert notes == f'no log, left out: {tmp_path / "notes.txt"}\n'


def test_the_printed_config_is_a_config_with_the_options(tmp_path, capsys):
    config = REPO / 'configs' / 'referformer_r50_ytvos.py'
    run('print_config', config, '--cfg-options', 'model.num_queries=3')
    (tmp_path / 'printed.py').write_text(capsys.readouterr().out)
    printed = Config.fromfile(tmp_path / 'printed.py')
    assert printed.model.num_queries == 3
    assert printed.model.backbone == Config.fromfile(config).model.backbone


def test_the_example_of_an_own_module_works(tmp_path, monkeypatch):
    blocks = re.findall(
        r'```python\n# (\w+\.py)\n(.+?)```', (REPO / 'docs/custom.md').read_text(), re.S
    )
    assert [name for name, _ in blocks] == ['my_losses.py', 'my_config.py']
    (tmp_path / 'configs').symlink_to(REPO / 'configs')
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    config = Config.fromfile(tmp_path / 'my_config.py')
    cfg = config.model.criterion.loss_dice
    logits, targets = torch.randn(2, 3, 5), torch.rand(3, 5).round()
    plain = DiceLoss(**{k: v for k, v in cfg.items() if k != 'type'})(logits, targets)
    torch.testing.assert_close(build(cfg, MODELS)(logits, targets), plain**2)


def test_operations_and_parameters_of_the_parts_add_up(capsys):
    config = 'referformer_vswin-micro_synthetic'
    run('get_flops', config, '--shape', 64, 96, '--frames', 2)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    found = {row[0]: (int(row[1].replace(',', '')), float(row[2])) for row in rows[-10:]}
    total = found.pop('total')
    assert sum(size for size, _ in found.values()) == total[0]
    assert abs(sum(flop for _, flop in found.values()) - total[1]) < 0.05
    assert found['backbone'][1] > 0.01


def test_operations_are_those_counted_by_hand_with_every_backend(tmp_path):
    path = REPO / 'tools' / 'analysis_tools' / 'get_flops.py'
    count = runpy.run_path(str(path))['count']
    found = []
    for backend in ('csrc', 'torch'):
        model = tiny_model(tmp_path / 'tokenizer').eval()
        for attention in (m for m in model.modules() if isinstance(m, MSDeformAttn)):
            attention.backend = backend
        found.append(count(model, (64, 96), 2, 6))
    assert found[0] == found[1]
    # 6 tokens of 16 channels; 4 projections, attention, 32 channels between, pooler, 2 projections.
    layer = 4 * 6 * 16 * 16 + 2 * 6 * 6 * 16 + 2 * 6 * 16 * 32
    assert found[0]['text_encoder'] == 2 * (layer + 16 * 16 + (6 + 1) * 16 * 16)
