"""The curve of presence thresholds: by hand, and from data to picture."""

import json
import runpy
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.runner import Runner
from PIL import Image
from toy_project import REPO

from referformer.apis import init_model
from referformer.datasets.synthetic import generate_dataset
from referformer.evaluation import VOSMetric

MODEL = 'referformer_vswin-micro_synthetic'


@pytest.fixture(scope='module')
def tool():
    return SimpleNamespace(**runpy.run_path(REPO / 'tools/analysis_tools/presence_curve.py'))


def frames(tool, absent, scores, jf, without, shown, found):
    arrays = (np.array(scores), np.array(jf), np.array(without))
    return tool.Frames(absent, *arrays, np.array(shown, bool), np.array(found, bool))


def test_a_threshold_empties_frames_and_is_scored_as_such(tool):
    # Present: seen and found, seen and missed, left but found.
    present = frames(tool, False, [0.9, 0.4, 0.3], [0.8, 0, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1])
    absent = frames(tool, True, [0.9, 0.2, 0.1, 0.1], [0] * 4, [1] * 4, [0] * 4, [1, 1, 1, 0])
    curve = {row['threshold']: row for row in tool.thresholds([present, absent])}
    assert len(curve) == 101
    at = [curve[t] for t in (0.0, 0.15, 0.35, 1.0)]
    assert [row['J&F'] for row in at] == pytest.approx([80 / 3, 80 / 3, 180 / 3, 100 / 3])
    assert [row['left'] for row in at] == [100, 100, 0, 0]
    assert [row['absent'] for row in at] == [75, 50, 25, 0]


def test_the_curve_at_a_threshold_is_what_a_test_with_it_measures(tool, tmp_path, capsys):
    data = tmp_path / 'data'
    generate_dataset(data, num_train=2, num_valid=3, num_frames=8, num_workers=0)
    options = {
        'test_dataloader.dataset.data_root': str(data),
        'test_dataloader.num_workers': 0,
        'test_dataloader.persistent_workers': False,
        'model.test_cfg.presence_thr': 0.65,
    }
    pairs = [f'{key}={value}' for key, value in options.items()]
    out = tmp_path / 'curve.png'
    tool.main([MODEL, '--out', str(out), '--device', 'cpu', '--cfg-options', *pairs])
    assert 'not in video' in capsys.readouterr().out
    content = json.loads(out.with_suffix('.json').read_text())
    assert content['presence_thr'] == 0.65
    assert Image.open(out).size[0] > 600

    model = init_model(MODEL, device='cpu', cfg_options=options)
    loader = model.cfg.test_dataloader
    loader.dataset.update(shuffled_kinds=(), absent_kinds=('appearance',))
    metric = VOSMetric()
    for batch in Runner.build_dataloader(loader):
        metric.process(None, [sample.to_dict() for sample in model.test_step(batch)])
    expected = metric.evaluate(0)
    row = content['curve'][65]
    assert row['J&F'] == pytest.approx(expected['J&F'])
    assert row['left'] == pytest.approx(expected.get('wrongly_found', 0))
    assert row['absent'] == pytest.approx(expected['wrongly_found_appearance_absent'])
    with pytest.raises(SystemExit):
        tool.main([MODEL, '--out', str(out)])
    assert 'already there' in capsys.readouterr().err
