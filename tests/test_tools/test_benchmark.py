"""``referformer benchmark``: what it measures is what there is."""

import json
import time

import pytest
import torch
from torch import nn

from referformer.benchmark import models
from referformer.benchmark.measure import measure, summary, timed
from referformer.commands.benchmark import main

MICRO = 'referformer_vswin-micro_synthetic'


def run(tmp_path, *arguments):
    path = tmp_path / 'out.json'
    words = [str(x) for x in arguments]
    main([*words, '--device', 'cpu', '--warmup', '0', '--repeats', '2', '--json', str(path)])
    return json.loads(path.read_text())


def test_memory_at_the_peak_is_that_of_the_step_with_its_input():
    def step():
        block = torch.ones(64, 2**20, dtype=torch.uint8)  # 64 MiB
        return block.max()

    found = measure(step, repeats=2)['memory']
    assert 60e6 < found['beyond'] < 90e6
    assert measure(lambda: torch.ones(2).sum(), repeats=2)['memory']['beyond'] < 20e6


def test_parts_add_up_over_their_modules_and_calls():
    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(0.02)
            return x

    first, second, other = Slow(), Slow(), nn.Identity()
    with timed({'slow': [first, second], 'other': [other]}, 'cpu') as spent:
        other(second(first(first(torch.ones(1)))))
    assert 0.06 <= spent['slow'] < 0.2
    assert spent['other'] < 0.01
    assert not first._forward_hooks


def test_a_summary_is_median_and_quartiles():
    assert summary([4.0, 1.0, 3.0, 2.0, 5.0]) == {'median': 3, 'low': 2, 'high': 4, 'repeats': 5}
    assert summary([2.0])['low'] == 2


def test_inference_has_a_row_for_each_of_all_options(tmp_path):
    sizes = ('--shape', 32, 64, '--frames', 1, 2, '--sentences', 1, 2)
    report = run(tmp_path, 'infer', MICRO, *sizes)
    rows = report['rows']
    assert [(row['frames'], row['sentences']) for row in rows] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert rows[2]['gflop'] > 1.8 * rows[0]['gflop']
    assert rows[1]['gflop'] < 2 * rows[0]['gflop']  # a clip is seen once
    best = max(rate for name, rate in report['matmul_gflops'].items() if name.startswith('fp32'))
    for row in rows:
        speed = row['gflop'] / row['seconds']['median']
        assert row['share'] == pytest.approx(speed / best)
        parts = {name: found['median'] for name, found in row['parts'].items()}
        assert min(parts.values()) > 0 and {'backbone', 'FPN', 'masks'} <= set(parts)


def test_training_changes_the_weights_and_shares_its_time(tmp_path):
    report = run(tmp_path, 'train', MICRO, '--shape', 32, 64, '--frames', 2, '--dtype', 'bf16')
    (row,) = report['rows']
    assert row['parts']['backward']['median'] > 0 < row['parts']['optimizer']['median']


def test_random_weights_keep_the_scale_of_what_passes():
    """No benchmark of zeros: maps of every part and the masks have values of the order of 1."""
    model = models.make_model(MICRO)
    models.use_tokens(model, 6)
    clip = models.noise_clip(2, (64, 96))
    assert 40 < clip.float().std() < 90
    data = {'inputs': [clip], 'data_samples': [models._sample(clip, 'a')]}
    with torch.no_grad():
        found = model(**model.data_preprocessor(data), mode='tensor')
    assert 0.2 < found.masks.std() < 200
    assert 0.05 < (found.masks > 0).float().mean() < 0.95


def test_backends_of_attention_agree(tmp_path, monkeypatch):
    from referformer.benchmark import attention
    from referformer.models.ms_deform_attn import pick_backend

    if pick_backend('cpu') == 'torch':
        pytest.skip('csrc is not built')
    rows = list(
        attention.attention('cpu', [1], [torch.float32], 1, 2, 8, 2, shapes=[(5, 7), (3, 4)])
    )
    assert [row['sampling'] for row in rows] == ['near', 'near', 'anywhere', 'anywhere']
    assert all(row['difference'] < 1e-3 for row in rows)


def test_scoring_and_loading_give_rates(tmp_path):
    sizes = ('--frames', 3, '--shape', 60, 80)
    (row,) = run(tmp_path, 'scoring', '--videos', 1, *sizes, '--processes', 1)['rows']
    assert row['masks_per_second'] == pytest.approx(6 / row['seconds']['median'])
    (row,) = run(tmp_path, 'loading', '--clips', 2, '--frames', 2, '--processes', 0)['rows']
    assert row['clips_per_second'] == pytest.approx(2 / row['seconds']['median'])
    assert {'LoadFrames', 'PackClip'} <= set(row['parts'])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['infer', 'no_such_model'], 'no_such_model'),
        (['infer', '--frames', '0'], '--frames must be at least 1'),
        (['infer', '--shape', '8', '8'], '--shape must be at least 32'),
        (['scoring', '--frames', '2'], '--frames must be at least 3'),
        (['scoring', '--device', 'cuda:9'], 'cuda:9 does not exist'),
    ],
)
def test_bad_input_is_refused_before_long_work(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err
