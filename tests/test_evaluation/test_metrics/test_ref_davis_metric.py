"""RefDAVISMetric: the official label maps and scores, whatever the order and the processes."""

import importlib.util
import itertools
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from gloo_processes import run_processes, share
from PIL import Image

from referformer.evaluation import RefDAVISMetric
from referformer.models.postprocess import choose_queries, merge_objects

REPO = Path(__file__).resolve().parents[3]
SIZE = (30, 46)
# Annotated objects; 'car' has one that no sentence is about, 'dog' is shorter.
VIDEOS = {'car': (3, 4), 'dog': (1, 2), 'judo': (2, 5)}


def write_truth(root: Path) -> Path:
    for video, (num_objects, num_frames) in VIDEOS.items():
        for t in range(num_frames):
            labels = np.zeros(SIZE, np.uint8)
            for i in range(num_objects):
                labels[10 * i + 1 : 10 * i + 9, 4 + 2 * t : 16 + 2 * t] = i + 1
            save(root / video / f'{t:05d}.png', labels)
    return root


def save(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    image.putpalette(bytes(range(256)) * 3)
    image.save(path)


def make_samples() -> list[dict]:
    """Smooth noise for each sentence; those about one object are alike."""
    samples = []
    for video, (num_objects, num_frames) in VIDEOS.items():
        for exp_id in range(4 * (num_objects - (video == 'car'))):
            rng = np.random.default_rng([exp_id, num_frames])
            logits = rng.normal(-1, 0.5, (1, num_frames, 8, 12)).astype(np.float32)
            logits[..., 2 * (exp_id // 4) : 2 * (exp_id // 4) + 4, 1:7] += 2
            samples.append(sample(video, str(exp_id), torch.from_numpy(logits)))
    return samples


def sample(video: str, exp_id: str, logits: torch.Tensor, size=SIZE) -> dict:
    """A data sample as metrics receive it."""
    return {
        'video_id': video,
        'exp_id': exp_id,
        'ori_shape': size,
        'frame_names': [f'{t:05d}' for t in range(logits.shape[1])],
        'pred_instances': {'logits': logits},
    }


def make_metric(truth: Path, samples: list[dict], **kwargs) -> RefDAVISMetric:
    metric = RefDAVISMetric(**kwargs)
    expected = [(s['video_id'], s['exp_id']) for s in samples]
    metric.dataset_meta = {'expected': list(dict.fromkeys(expected)), 'mask_dir': str(truth)}
    return metric


def evaluate(metric: RefDAVISMetric, samples: list[dict]) -> dict[str, float]:
    for one in samples:
        metric.process(None, [one])
    return metric.evaluate(len(samples))


@pytest.fixture
def truth(tmp_path):
    return write_truth(tmp_path / 'truth')


def score_tree(pred: Path, gt: Path, out: Path) -> dict:
    spec = importlib.util.spec_from_file_location('score_tool', REPO / 'tools' / 'score.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    paths = ['--pred', str(pred), '--gt', str(gt), '--json', str(out)]
    tool.main([*paths, '--protocol', 'ref-davis'])
    return json.loads(out.read_text())['overall']


def test_numbers_are_those_of_the_scorer_on_the_written_label_maps(truth, tmp_path, capsys):
    samples = make_samples()
    found = evaluate(make_metric(truth, samples, out_dir=str(tmp_path / 'out')), samples)
    overall = score_tree(tmp_path / 'out', truth, tmp_path / 'scores.json')
    assert 20 < found['J&F'] < 95
    for ours, theirs in (
        ('J&F', 'J&F-Mean'),
        ('J', 'J-Mean'),
        ('F', 'F-Mean'),
        ('J_recall', 'J-Recall'),
        ('F_decay', 'F-Decay'),
    ):
        assert found[ours] == 100 * overall['mean'][theirs]
    for i in range(4):
        assert found[f'J&F_anno_{i}'] == 100 * overall[f'anno_{i}']['J&F-Mean']
    assert len({found[f'J&F_anno_{i}'] for i in range(4)}) == 4
    assert found['J&F'] == pytest.approx(np.mean([found[f'J&F_anno_{i}'] for i in range(4)]))
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        f'anno_{i}' for i in range(4)
    ]


def test_label_maps_are_those_of_all_objects_at_once(truth, tmp_path):
    samples = make_samples()
    evaluate(make_metric(truth, samples, out_dir=str(tmp_path / 'out')), samples[::-1])
    for video, annotator in itertools.product(VIDEOS, range(4)):
        logits = [
            s['pred_instances']['logits'][0]
            for s in samples
            if s['video_id'] == video and int(s['exp_id']) % 4 == annotator
        ]
        expected = merge_objects(torch.stack(logits), SIZE).numpy()
        for t, labels in enumerate(expected):
            with Image.open(tmp_path / 'out' / f'anno_{annotator}/{video}/{t:05d}.png') as image:
                assert image.mode == 'P'
                assert image.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
                assert (np.asarray(image) == labels).all()


def test_label_maps_equal_the_official_ones(shared_dir, tmp_path):
    """From the outputs of all queries: clips of 36 frames, the best query of each, merged."""
    arrays = np.load(shared_dir / 'parity' / 'post' / 'davis_merge.npz')
    size = tuple(arrays['in.original_size'].tolist())
    samples = []
    for i in range(8):
        clips = [
            torch.from_numpy(arrays[f'in.{i}.pred_{name}']).split(36, 1)
            for name in ('logits', 'masks')
        ]
        best = [choose_queries(logits, 'best')[1].item() for logits in clips[0]]
        chosen = torch.cat([masks[:, :, query] for masks, query in zip(clips[1], best)], 1)
        samples.append(sample('v', str(i), chosen, size))
    for t, labels in enumerate(arrays['out.anno_2']):
        save(tmp_path / 'truth' / 'v' / f'{t:05d}.png', labels)
    metric = make_metric(tmp_path / 'truth', samples, out_dir=str(tmp_path / 'out'))
    assert evaluate(metric, samples)['J&F_anno_2'] == 100
    for annotator in range(4):
        for t, labels in enumerate(arrays[f'out.anno_{annotator}']):
            path = tmp_path / 'out' / f'anno_{annotator}' / 'v' / f'{t:05d}.png'
            assert (np.asarray(Image.open(path)) == labels).all()


@pytest.mark.parametrize('seed', range(3))
def test_order_and_repeats_change_nothing(truth, seed):
    samples = make_samples()
    expected = evaluate(make_metric(truth, samples), samples)
    rng = np.random.default_rng(seed)
    repeated = [samples[i] for i in rng.integers(0, len(samples), 9)]
    mixed = [samples[i] for i in rng.permutation(len(samples))]
    assert evaluate(make_metric(truth, samples), [*repeated, *mixed, *repeated]) == expected


def _evaluate_shares(rank: int, world_size: int, folder: str) -> None:
    """First each process sees whole videos, then what the default sampler deals it."""
    samples = make_samples()
    whole = [s for s in samples if list(VIDEOS).index(s['video_id']) % world_size == rank]
    for name, mine in (('whole', whole), ('dealt', share(samples, rank, world_size))):
        out = Path(folder, name)
        out.mkdir(exist_ok=True)
        result = evaluate(make_metric(Path(folder, 'truth'), samples, out_dir=str(out)), mine)
        (out / f'{rank}.json').write_text(json.dumps(result))


@pytest.mark.slow
def test_processes_agree(truth, tmp_path):
    samples = make_samples()
    expected = evaluate(make_metric(truth, samples), samples)
    run_processes(_evaluate_shares, 3, str(tmp_path))
    for out in (tmp_path / 'whole', tmp_path / 'dealt'):
        for rank in range(3):
            assert json.loads((out / f'{rank}.json').read_text()) == expected
        assert len(list(out.glob('anno_*/*/*.png'))) == 4 * 11
        assert not list(out.glob('.*'))


def test_memory_is_that_of_one_video(tmp_path):
    """Sentences of a video wait as logits at stride 4, and go when it is complete."""
    names = [f'v{i}' for i in range(8)]
    labels = np.zeros((240, 320), np.uint8)
    labels[10:40, 10:60] = 1
    for name in names:
        for t in range(3):
            save(tmp_path / name / f'{t:05d}.png', labels)
    keys = [(name, str(i)) for name in names for i in range(8)]
    metric = RefDAVISMetric()
    metric.dataset_meta = {'expected': keys, 'mask_dir': str(tmp_path)}
    held = []
    tracemalloc.start()
    for name, exp_id in keys:
        logits = torch.full((1, 3, 60, 80), float(exp_id))
        metric.process(None, [sample(name, exp_id, logits, (240, 320))])
        held.append(sum(len(group) for group in metric._waiting.values()))
        if (name, exp_id) == ('v1', '7'):
            early = tracemalloc.get_traced_memory()[0]
    late = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert max(held) == 4 and held[7::8] == [0] * 8
    assert late - early < 3 * 240 * 320  # 24 of them: less than the label maps of one annotator
    metric.evaluate(len(keys))


def test_missing_sentences_are_named(truth, tmp_path):
    samples = make_samples()
    metric = make_metric(truth, samples, out_dir=str(tmp_path / 'out'))
    with pytest.raises(ValueError, match=r'1 label maps \(video/annotator\) .*: car/2\.'):
        evaluate(metric, [s for s in samples if (s['video_id'], s['exp_id']) != ('car', '6')])
    assert not list((tmp_path / 'out').iterdir()), 'nothing is left'
    with pytest.raises(ValueError, match='nothing to score'):
        evaluate(make_metric(truth, samples), [])


def test_part_of_a_video_is_refused(truth):
    samples = make_samples()[:3]
    with pytest.raises(ValueError, match=r'leaves \[1, 1, 1, 0\] expressions .* video car'):
        evaluate(make_metric(truth, samples), samples)


def test_wrong_set_ups_are_explained(truth):
    samples = make_samples()
    without = [{**samples[0], 'pred_instances': {'masks': torch.zeros(1, 4, *SIZE)}}]
    with pytest.raises(ValueError, match=r'test_cfg\.keep_logits=True'):
        evaluate(make_metric(truth, samples), without)
    metric = RefDAVISMetric()
    with pytest.raises(ValueError, match="needs 'expected' in the metainfo, as RefDAVIS has it"):
        evaluate(metric, samples)
    (truth / 'dog/00001.png').unlink()
    with pytest.raises(ValueError, match=r'The annotation .*dog cannot be used: .*00001.png'):
        evaluate(make_metric(truth, samples), samples)


def test_earlier_label_maps_are_kept_unless_told_otherwise(truth, tmp_path):
    samples = make_samples()
    out = str(tmp_path / 'out')
    expected = evaluate(make_metric(truth, samples, out_dir=out), samples)
    (tmp_path / 'out/anno_1/old.txt').write_text('old')
    with pytest.raises(FileExistsError, match='already there; name another out_dir'):
        RefDAVISMetric(out_dir=out)
    again = make_metric(truth, samples, out_dir=out, overwrite=True)
    assert evaluate(again, samples) == expected
    assert not (tmp_path / 'out/anno_1/old.txt').exists()
