"""Key frames are the surest ones; what is lost is found again; both masks become one."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from stub_segmenter import CONFIG, colour_video

from referformer.apis import ReferFormerInferencer
from referformer.refine import KeyFrames, Refiner
from referformer.refine.propagator import Propagator

T = 12


class Copies(Propagator):
    """The mask of the nearest key frame, surer the nearer it is, and nothing 4 frames away."""

    def tracker(self):
        raise AssertionError

    def shrink(self, frame):
        raise AssertionError

    def propagate(self, frames, objects):
        masks, scores = [], []
        for keys in objects:
            near = [min(keys, key=lambda k: abs(k - t)) for t in range(T)]
            score = np.array([max(0, 1 - abs(k - t) / 4) for t, k in enumerate(near)])
            masks.append([keys[k] & (s > 0) for k, s in zip(near, score)])
            scores.append(score)
        return np.array(masks), np.array(scores)


def moving():
    masks = np.zeros((1, T, 8, 20), bool)
    for t in range(T):
        masks[0, t, 2:6, t : t + 8] = True
    return masks


def test_the_surest_frame_is_chosen():
    masks, scores = moving()[0], np.full(T, 0.5)
    scores[7] = 0.9
    chosen = KeyFrames(gap=3)
    assert chosen.choose(chosen.quality(masks, scores)) == [7]
    certain = np.ones(T)
    certain[7] = 0.1
    assert chosen.choose(chosen.quality(masks, scores, certain)) != [7]
    masks[7] = False  # no mask, no key frame
    assert KeyFrames().quality(masks, scores)[7] == 0
    jumpy = moving()[0]
    jumpy[7] = jumpy[7, :, ::-1]
    assert KeyFrames().quality(jumpy, scores)[7] < KeyFrames(stability=0).quality(jumpy, scores)[7]


def test_several_key_frames_keep_their_distance():
    quality = np.linspace(0.1, 1, 30)
    assert KeyFrames(count=3, gap=8).choose(quality) == [13, 21, 29]
    assert KeyFrames(count=5).choose(np.zeros(30)) == []


def test_a_lost_object_is_detected_again():
    masks, scores = moving(), np.full((1, T), 0.8)
    scores[0, 0] = 0.9
    alone = Refiner(Copies(), {'stability': 0, 'gap': 2}, 'propagated', rounds=0)
    once = alone([], masks, scores)
    assert once.key_frames == [[0]] and not once.masks[0, 8].any()
    again = Refiner(Copies(), {'stability': 0, 'gap': 2}, 'propagated', rounds=2)([], masks, scores)
    assert len(again.key_frames[0]) == 3 and again.masks[0].any((1, 2)).sum() > 9


def test_the_surer_mask_wins_where_both_disagree():
    masks, scores = moving(), np.full((1, T), 0.6)
    scores[0, 0] = 0.9
    options = {'key_frames': {'stability': 0}, 'rounds': 0}
    found = Refiner(Copies(), fuse='surer', **options)([], masks, scores).masks[0]
    assert np.array_equal(found[1], masks[0, 0])  # they overlap: the propagated one
    assert np.array_equal(found[8], masks[0, 8])  # nothing was propagated: the model's


def test_a_sentence_without_any_mask_has_no_key_frame():
    masks = np.concatenate([moving(), np.zeros_like(moving())])
    refined = Refiner(Copies())([], masks, np.full((2, T), 0.5))
    assert refined.key_frames[0] and refined.key_frames[1] == []
    assert not refined.masks[1].any() and not refined.scores[1].any()


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        ({'fuse': 'surer'}, 'refine needs type'),
        ({'type': 'FlowPropagator', 'fuse': 'both'}, "propagated, surer, not 'both'"),
        ({'type': 'FlowPropagator', 'key_frames': {'best': 1}}, "refine.key_frames: .*'best'"),
    ],
)
def test_options_that_do_not_exist_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        Refiner.from_config(config)


def test_the_inferencer_writes_key_frames(tmp_path):
    inferencer = ReferFormerInferencer(Config.fromstring(CONFIG, '.py'))
    frames, _ = colour_video(9)
    refine = {'type': 'FlowPropagator', 'fuse': 'propagated'}
    out = tmp_path / 'out'
    result = inferencer(frames, ['the red one', 'the green one'], out, window=4, refine=refine)
    summary = json.loads((out / 'scores.json').read_text())
    assert [s['key_frames'] for s in summary['sentences']] == result.key_frames
    assert len(result.key_frames[0]) == 1 and result.key_frames[1] == []
    plain = inferencer(frames, ['the red one'], window=4)
    assert plain.key_frames is None
    a, b = result.masks(0), plain.masks(0)
    assert (a & b).sum() / (a | b).sum() > 0.9
    with pytest.raises(ValueError, match='read twice'):
        inferencer(iter(frames), ['the red one'], refine=refine)


def test_samples_get_refined_masks_and_logits(tiny_model):
    from model_fixtures import tiny_batch

    batch = tiny_batch()
    model = tiny_model(test_cfg={'keep_logits': True}).eval()
    data = model.data_preprocessor(batch)
    with torch.no_grad():
        plain = model(**data, mode='predict')
    before = [sample.pred_instances.masks.clone() for sample in plain]
    assert all(sample.get('refined_from') is None for sample in plain)
    model.refiner = Refiner.from_config({'type': 'FlowPropagator', 'fuse': 'propagated'})
    refined = model(**data, mode='predict')
    for sample, masks in zip(refined, before):
        keys = sample.refined_from
        found = sample.pred_instances
        assert found.masks.shape == masks.shape and found.masks.dtype == torch.bool
        for t in keys:
            assert torch.equal(found.masks[0, t], masks[0, t])
        assert found.logits.shape[-2] == max(1, masks.shape[-2] // 2)
        assert torch.equal((found.logits > 0).flatten(2).any(2), found.masks.flatten(2).any(2))
