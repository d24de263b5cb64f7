"""Whole videos, windows and streams; what they hold and how they fit together."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from mmengine.config import Config
from model_fixtures import tiny_clip, tiny_sample
from stub_segmenter import CONFIG, colour_video

from referformer.apis import ReferFormerInferencer, init_model
from referformer.inference import ClipInferencer, choose_mode, segment_video
from referformer.models.linking import overlap_of, window_starts


@pytest.fixture
def colours():
    return init_model(Config.fromstring(CONFIG, '.py'))


@pytest.mark.parametrize('length', [1, 5, 11, 12, 13, 22, 23, 40])
def test_a_stream_has_every_frame_once_in_full_overlapping_windows(length):
    mode = choose_mode('stream', 12)
    parts = list(mode.divide(np.full((1, 1, 3), i) for i in range(length)))
    assert [start for start, _ in parts] == list(window_starts(length, 12, True))
    for start, frames in parts:
        assert frames[:, 0, 0, 0].tolist() == list(range(start, start + min(12, length)))
    for (a, _), (b, _) in pairwise(parts):
        assert 12 - (b - a) >= overlap_of(12) == mode.overlap == 2
    assert parts[-1][0] + len(parts[-1][1]) == length


def test_a_frame_leaves_a_stream_with_the_stated_delay(colours):
    frames, _ = colour_video(10)
    windows, mode = [], choose_mode('stream', 6)
    for start, clip in mode.divide(frames[i % 10] for i in range(50)):
        last_read = start + len(clip) - 1
        new = 0 if not windows else windows[-1] + 1
        assert last_read - new <= mode.delay
        windows.append(last_read)
    assert f'at most {mode.delay} frames' in str(mode)


@pytest.mark.parametrize(
    ('name', 'window', 'expected'),
    [
        (None, None, ('window', 36)),
        (None, 0, ('whole', 0)),
        (None, 8, ('window', 8)),
        ('whole', None, ('whole', 0)),
        ('stream', None, ('stream', 36)),
    ],
)
def test_the_window_alone_still_says_the_mode(name, window, expected):
    assert choose_mode(name, window) == expected


@pytest.mark.parametrize(
    ('name', 'window', 'why'),
    [
        ('whole', 8, 'sees all frames'),
        ('window', 0, 'at least 1'),
        ('stream', 1, 'at least 2'),
        ('film', None, "no mode 'film'"),
        (None, -1, 'got -1'),
    ],
)
def test_contradictions_are_refused(name, window, why):
    with pytest.raises(ValueError, match=why):
        choose_mode(name, window)


def test_a_stream_gives_what_the_whole_video_gives_with_a_framewise_model(colours):
    frames, masks = colour_video(23)
    result = segment_video(colours, frames, ['red', 'blue'], 8, mode='stream')
    assert len(result) == 23
    assert result.starts == [0, 8, 15, 22]
    assert (result.masks(0) == masks).all()
    assert max(length for length, _ in colours.clip_lengths) == 8


def test_the_inferencer_and_the_test_loop_stream_alike(tiny_model):
    model = tiny_model()
    clip, texts = tiny_clip(num_frames=11), ['the red dog', 'a cat on the left']
    frames = np.asarray(clip.permute(0, 2, 3, 1))
    clips = ClipInferencer(model, [{'type': 'PackClip'}])
    found = list(clips.stream(frames, texts, 6, 'stream'))
    model.test_cfg.update(window=6, stream=True)
    samples = [tiny_sample(num_frames=11, text=text) for text in texts]
    samples = model.test_step({'inputs': [clip], 'data_samples': samples})
    for i, sample in enumerate(samples):
        masks = np.concatenate([part.masks[i] for part in found])
        assert masks.shape == (11, 64, 96)
        # The sentences are read together here and there, but in other padding.
        assert (masks == sample.pred_instances.masks[0].numpy()).mean() > 0.999
    assert sum(len(part.frames) for part in found) == 11
    assert all(part.relocked is not None for part in found)


def test_sentences_are_read_once_for_all_windows(tiny_model):
    model, read = tiny_model(), []
    model.text_encoder.register_forward_hook(lambda *_: read.append(1))
    frames = np.asarray(tiny_clip(num_frames=7).permute(0, 2, 3, 1))
    clips = ClipInferencer(model, [{'type': 'PackClip'}])
    texts = ['the red dog', 'a cat']
    parts = list(clips.stream(frames, texts, window=3))
    assert (len(parts), len(read)) == (3, 1)
    for part in parts:
        alone = clips.predict(part.frames, texts)
        np.testing.assert_allclose(part.scores, alone.scores, atol=1e-6)
        assert (part.masks == alone.masks).all()


def test_what_does_not_fit_is_refused_before_the_run(tiny_model):
    model = tiny_model()
    frames = np.asarray(tiny_clip(num_frames=8).permute(0, 2, 3, 1))
    needed = model.predict_memory(8, (64, 96), (64, 96))
    seen = []
    model.backbone.register_forward_hook(lambda *_: seen.append(1))
    tight = ClipInferencer(model, [{'type': 'PackClip'}], max_memory=f'{needed - 1}B')
    with pytest.raises(ValueError, match=r'whole of 8 frames needs about .* --window 7 or mode'):
        tight.plan(8, frames[0], 1, choose_mode('whole'))
    assert not seen
    assert 'of 3 sentences together' in tight.plan(7, frames[0], 3, choose_mode('whole'))
    sizes = ((64, 96), (64, 96))
    n = model.sentences_together(7, *sizes, max_memory=f'{needed - 1}B')
    assert model.predict_memory(7, *sizes, n) < needed <= model.predict_memory(7, *sizes, n + 1)
    with pytest.raises(ValueError, match="such as '2GB' or '500MB', not 'much'"):
        ClipInferencer(model, max_memory='much')
    with pytest.raises(ValueError, match="such as '2GB' or '500MB', not '0GB'"):
        tiny_model(test_cfg={'max_memory': '0GB'})


def test_precision_is_one_argument(tiny_model):
    frames = np.asarray(tiny_clip(num_frames=3).permute(0, 2, 3, 1))
    model, types = tiny_model(), []
    model.projection.register_forward_hook(lambda _, __, out: types.append(out[0].dtype))
    scores = {}
    for dtype in ('fp32', 'bf16'):
        model.test_cfg['dtype'] = dtype
        clip = ClipInferencer(model, [{'type': 'PackClip'}]).predict(frames, ['the red dog'])
        scores[dtype] = clip.scores[0]
    assert (types[0], types[-1]) == (torch.float32, torch.bfloat16)
    assert scores['bf16'] == pytest.approx(scores['fp32'], abs=0.02)
    assert scores['bf16'] != scores['fp32']
    with pytest.raises(ValueError, match='fp16 needs CUDA, the device is cpu'):
        ReferFormerInferencer('referformer_vswin-micro_synthetic', device='cpu', dtype='fp16')
    with pytest.raises(ValueError, match="must be one of fp32, bf16, fp16, not 'int8'"):
        tiny_model(test_cfg={'dtype': 'int8'})
