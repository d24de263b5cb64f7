"""Scores of MeViS v2, Long-RVOS and ReVOS from PNG files: those of the metric, and the rules."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fixtures_recent import save_mask, write_long_rvos, write_mevis_v2, write_revos
from mmengine.structures import InstanceData

from referformer.commands import score
from referformer.datasets import LongRVOS, MeViS, ReVOS
from referformer.datasets.transforms import (
    LoadFrames,
    LoadObjectMasks,
    LoadRLEMasks,
    PackClip,
    SampleFrames,
)
from referformer.evaluation import SubmissionMetric, VOSMetric

SETS = {
    'mevis-v2': (write_mevis_v2, MeViS, {'split': 'valid_u', 'version': 2}, LoadRLEMasks()),
    'long-rvos': (write_long_rvos, LongRVOS, {'split': 'valid'}, LoadObjectMasks()),
    'revos': (write_revos, ReVOS, {'split': 'valid'}, LoadRLEMasks()),
}
MEASURES = {
    'mevis-v2': ('N-acc', 'T-acc', 'final'),
    'long-rvos': ('tIoU', 'vIoU'),
    'revos': ('R',),
}


def build(protocol, root):
    write, dataset, options, load = SETS[protocol]
    pipeline = (SampleFrames(mode='all'), LoadFrames(), load, PackClip())
    return dataset(write(root), **options, pipeline=pipeline)


def predict(sample, rng):
    """The truth, moved and with holes, sometimes nothing: (1, T, H, W)."""
    masks = np.roll(sample.gt_instances.masks.numpy(), 3, -1)
    masks[..., ::5] = False
    masks[:, rng.random(masks.shape[1]) < 0.3] = False
    if rng.random() < 0.5:
        masks[:, -1, :2, :7] = True
    return masks


def evaluate(dataset, metrics, seed=0):
    """Predict every item for each of the metrics; what each of them says."""
    rng = np.random.default_rng(seed)
    for metric in metrics:
        metric.dataset_meta = dataset.metainfo
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        masks = sample.gt_instances.masks.new_tensor(predict(sample, rng))
        sample.pred_instances = InstanceData(masks=masks)
        for metric in metrics:
            metric.process(None, [sample.to_dict()])
    return [metric.evaluate(len(dataset)) for metric in metrics]


def run(protocol, root, pred, *options):
    out = Path(root).parent / 'scores'
    arguments = ['--pred', str(pred), '--gt', str(root), '--protocol', protocol, '--overwrite']
    files = ['--json', f'{out}.json', '--csv', f'{out}.csv']
    score.main([*arguments, *files, *options])
    return json.loads(Path(f'{out}.json').read_text())


@pytest.mark.parametrize('protocol', SETS)
def test_scores_of_files_are_those_of_the_metric(protocol, tmp_path, capsys):
    """From the dataset through VOSMetric, and from the archive of a test through ``score``."""
    dataset = build(protocol, tmp_path / 'data')
    prefix = str(tmp_path / 'val_')
    metrics = [
        VOSMetric(protocol=protocol, outfile_prefix=prefix),
        SubmissionMetric(str(tmp_path / 'out')),
    ]
    expected, _ = evaluate(dataset, metrics, seed=4)
    assert expected.get('N-acc', 50) == 50  # one of two sentences about nothing has a mask
    found = run(protocol, tmp_path / 'data', tmp_path / 'out/submission.zip', '--nproc', '2')
    kinds = {'mevis-v2': [], 'long-rvos': ['dynamic', 'hybrid', 'static']}
    kinds = kinds.get(protocol, ['nothing', 'reasoning', 'referring'])
    assert set(found['overall']) == {'mean', *kinds}
    for row, suffix in [('mean', ''), *((kind, f'_{kind}') for kind in kinds)]:
        names = {'J&F-Mean': 'J&F', 'J-Mean': 'J', 'F-Mean': 'F'}
        for name in (*names, *MEASURES[protocol]):
            value = expected[names.get(name, name) + suffix]
            assert found['overall'][row][name] == pytest.approx(value / 100, abs=1e-9), (row, name)
            assert 0 <= value <= 100
    table = capsys.readouterr().out
    assert all(name in table for name in MEASURES[protocol])
    # One line a sentence in both tables, with the same numbers.
    lines, own = (
        list(csv.DictReader((tmp_path / name).open()))
        for name in ('scores.csv', 'val_per_expression.csv')
    )
    assert len(lines) == len(own) == len(dataset)
    by_key = {(line['sequence'], line['name']): line for line in lines}
    for line in own:
        other = by_key[line['video_id'], line['exp_id']]
        for name in MEASURES[protocol][:2]:
            assert (line[name] == '') == (other[name] == '')
            if line[name]:
                assert float(line[name]) == pytest.approx(100 * float(other[name]), abs=1e-3)


def write_truth(dataset, folder, leave_out=()):
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        if sample.video_id not in leave_out:
            for name, mask in zip(sample.frame_names, sample.gt_instances.masks[0].numpy()):
                save_mask(folder / sample.video_id / sample.exp_id / f'{name}.png', mask)


@pytest.mark.parametrize('protocol', SETS)
def test_the_truth_has_full_marks(protocol, tmp_path):
    write_truth(build(protocol, tmp_path / 'data'), tmp_path / 'pred')
    overall = run(protocol, tmp_path / 'data', tmp_path / 'pred')['overall']
    for row in overall.values():
        assert all(row[name] == 1 for name in ('J&F-Mean', *MEASURES[protocol]))


def test_a_sentence_about_nothing_that_gets_a_mask_is_wrong(tmp_path):
    write_truth(build('mevis-v2', tmp_path / 'data'), tmp_path / 'pred')
    mask = np.zeros((48, 64), bool)
    mask[0, 0] = True
    save_mask(tmp_path / 'pred/nobody/3/00001.png', mask)  # one pixel on one of two frames
    row = run('mevis-v2', tmp_path / 'data', tmp_path / 'pred')['overall']['mean']
    assert (row['N-acc'], row['T-acc']) == (0.5, 1)
    assert row['J-Mean'] == pytest.approx((4 + 0.5) / 5)
    assert row['final'] == pytest.approx((row['J&F-Mean'] + 0.5 + 1) / 3)


@pytest.mark.parametrize(('protocol', 'video'), [('long-rvos', 'two'), ('revos', 'TAO/b')])
def test_a_video_that_is_not_predicted_scores_0(protocol, video, tmp_path, capsys):
    """Also on frames that do not show the object, where an empty mask would be right."""
    write_truth(build(protocol, tmp_path / 'data'), tmp_path / 'pred', leave_out=[video])
    with pytest.raises(SystemExit):
        run(protocol, tmp_path / 'data', tmp_path / 'pred')
    assert 'missing folders' in capsys.readouterr().err
    found = run(protocol, tmp_path / 'data', tmp_path / 'pred', '--allow-missing')
    lost = [row for key, row in found['objects'].items() if key.startswith(video)]
    assert len(lost) == 3
    for row in lost:
        assert all(row[name] == 0 for name in ('J-Mean', 'F-Mean', *MEASURES[protocol]))
    assert found['overall']['mean']['J&F-Mean'] == 0.5


def test_pictures_show_the_frames_of_folders_in_folders(tmp_path):
    write_truth(build('revos', tmp_path / 'data'), tmp_path / 'pred')
    picture = tmp_path / 'p.png'
    seen = []
    for _ in range(2):
        run('revos', tmp_path / 'data', tmp_path / 'pred', '--picture', str(picture))
        seen.append(picture.read_bytes())
        shutil.rmtree(tmp_path / 'data/JPEGImages', ignore_errors=True)
    assert seen[0] != seen[1]


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


WRONG = {
    'no foreground': (
        'revos',
        lambda root: (root / 'mask_dict_foreground.json').unlink(),
        'mask_dict_foreground.json not found',
    ),
    'a video without foreground': (
        'revos',
        lambda root: edit(root / 'mask_dict_foreground.json', lambda c: c.pop('TAO/b')),
        'mask_dict_foreground.json: TAO/b is missing',
    ),
    'foreground of fewer frames': (
        'revos',
        lambda root: edit(
            root / 'mask_dict_foreground.json', lambda c: c['TAO/b']['masks_rle'].pop()
        ),
        'another number of frames than the video: foreground',
    ),
    'foreground that is no list': (
        'revos',
        lambda root: edit(
            root / 'mask_dict_foreground.json', lambda c: c['TAO/b'].update(masks_rle=5)
        ),
        'another number of frames than the video: foreground',
    ),
    'no type_id': (
        'revos',
        lambda root: edit(
            root / 'meta_expressions_valid_.json',
            lambda c: c['videos']['TAO/b']['expressions']['0'].pop('type_id'),
        ),
        'videos.TAO/b.expressions.0.type_id is missing',
    ),
    'an object without masks': (
        'long-rvos',
        lambda root: shutil.rmtree(root / 'valid/Annotations/two/2'),
        '1 annotated objects without masks',
    ),
    'masks of two sizes': (
        'long-rvos',
        lambda root: save_mask(root / 'valid/Annotations/two/2/00003.png', np.ones((9, 9), bool)),
        'masks of another size than the truth',
    ),
    'no frames of a video that shows nothing': (
        'mevis-v2',
        lambda root: shutil.rmtree(root / 'valid_u/JPEGImages'),
        r'nobody/00000.jpg is needed',
    ),
}


@pytest.mark.parametrize('name', WRONG)
def test_annotations_that_are_wrong_are_named(name, tmp_path, capsys):
    protocol, change, message = WRONG[name]
    write_truth(build(protocol, tmp_path / 'data'), tmp_path / 'pred')
    change(tmp_path / 'data')
    with pytest.raises(SystemExit) as end:
        run(protocol, tmp_path / 'data', tmp_path / 'pred')
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_metrics_refuse_unknown_protocols_and_samples_without_foreground(tmp_path):
    with pytest.raises(ValueError, match='protocol must be one of mevis-v2, long-rvos, revos'):
        VOSMetric(protocol='mevis')
    dataset = build('mevis-v2', tmp_path / 'data')
    with pytest.raises(ValueError, match='has no gt_foreground, which R needs'):
        evaluate(dataset, [VOSMetric(protocol='revos')])
