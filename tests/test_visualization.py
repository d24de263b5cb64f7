"""Pictures, pixel by pixel where that can be said."""

import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from PIL import Image

from referformer.structures import RVOSDataSample
from referformer.text_drawing import legend_patch
from referformer.visualization import (
    EvenSample,
    RVOSVisualizer,
    compare,
    contact_sheet,
    draw_tile,
    overlay,
    palette,
    resize_mask,
    spread,
)


@pytest.fixture
def frame():
    return np.full((96, 160, 3), 100, np.uint8)


@pytest.fixture
def mask():
    mask = np.zeros((96, 160), bool)
    mask[40:80, 60:120] = True
    return mask


def test_overlay_mixes_colours_inside_and_leaves_the_rest(frame, mask):
    out = overlay(frame, mask[None], colors=[(200, 0, 50)], alpha=0.5)
    inside = np.zeros_like(mask)
    inside[45:75, 65:115] = True
    assert np.abs(out[inside].astype(int) - (150, 50, 75)).max() <= 1
    far = np.ones_like(mask)
    far[36:84, 56:124] = False
    assert (out[far] == 100).all()
    outline = out[40, 61:119].astype(int)
    assert np.abs(outline - (200, 0, 50)).max() < 20, 'the outline has the full colour'
    assert (frame == 100).all(), 'the input is changed'


def test_each_sentence_has_its_colour(frame, mask):
    other = np.zeros_like(mask)
    other[50:70, 5:40] = True
    out = overlay(frame, np.stack([mask, other]), alpha=1.0)
    assert tuple(out[60, 90]) == palette(2)[0]
    assert tuple(out[60, 20]) == palette(2)[1]
    assert len(set(palette(8))) == 8


def test_the_spotlight_keeps_the_colours_of_the_object(frame, mask):
    frame[..., 0] = 200
    out = overlay(frame, mask[None], spotlight=True)
    assert (out[45:75, 65:115] == frame[45:75, 65:115]).all()
    assert (out[:30] < 80).all()
    assert (np.ptp(out[:30], axis=-1) == 0).all(), 'the rest is grey'


def test_holes_of_a_mask_stay_open(frame, mask):
    mask[55:65, 80:100] = False
    out = overlay(frame, mask[None])
    assert (out[58:62, 84:96] == 100).all()


def test_nothing_is_drawn_where_nothing_is_found(frame):
    nothing = np.zeros((1, 96, 160), bool)
    out = overlay(frame, nothing, np.zeros((1, 4)), np.full((1, 2), np.nan))
    assert (out == frame).all()


def test_boxes_and_points_are_drawn_at_their_place(frame):
    out = overlay(frame, boxes=np.array([[20, 30, 90, 70]]), reference_points=np.array([[120, 50]]))
    changed = (out != frame).any(-1)
    assert changed[30, 20:90].all()
    assert changed[30:70, 90].all()
    assert not changed[40:60, 30:80].any()
    assert changed[50, 120]
    assert not changed[:, 130:].any()


@pytest.mark.parametrize('size', [(96, 160), (240, 320), (720, 1280), (1280, 720)])
@pytest.mark.parametrize('texts', [['the dog'], ['the big red star that moves to the left'] * 4])
def test_the_legend_covers_at_most_a_quarter_of_the_height(size, texts):
    patch = legend_patch(tuple(texts), tuple(palette(len(texts))), *size)
    assert patch.shape[0] <= size[0] / 4
    assert patch.shape[1] <= size[1]


def test_long_words_and_other_alphabets_are_drawn(frame):
    out = overlay(frame, texts=['ü' * 300, 'собака бежит'])
    assert (out[:20] != frame[:20]).any()
    assert (out[24:] == frame[24:]).all()


def test_small_frames_grow_by_a_whole_factor_and_large_ones_shrink(frame, mask):
    assert draw_tile(frame, mask[None], width=400).shape == (192, 320, 3)
    assert draw_tile(np.zeros((720, 1280, 3), np.uint8), width=400).shape == (225, 400, 3)


def test_resized_masks_keep_their_share(mask):
    assert resize_mask(mask, (48, 80)).mean() == pytest.approx(mask.mean(), abs=0.01)
    assert (resize_mask(mask, (192, 320)) == mask.repeat(2, 0).repeat(2, 1)).all()


def test_a_sheet_holds_every_tile(frame):
    tiles = [np.full_like(frame, 10 * i) for i in range(1, 8)]
    sheet = contact_sheet(tiles, [str(i) for i in range(7)], ['the dog', 'a cat'], notes=['0.9'])
    for i in range(1, 8):
        assert (sheet == 10 * i).all(-1).sum() >= 96 * 160
    for color in palette(2):
        assert (sheet == color).all(-1).sum() > 50, 'the legend has a patch of each colour'
    with pytest.raises(ValueError, match='at least one'):
        contact_sheet([], [])


def test_comparison_has_truth_above_prediction(mask):
    frames = np.full((9, 96, 160, 3), 100, np.uint8)
    empty = np.zeros((9, 96, 160), bool)
    sheet = compare(frames, np.stack([mask] * 9), empty, 'the dog', max_frames=3)
    assert sheet.shape[1] == 14 + 3 * (320 + 14)
    lit = (sheet[80:, :334] == 100).all(-1).any(1)  # what the masks leave as it was
    rows = np.flatnonzero(lit)
    # 40 rows, twice as large, less the outline.
    assert len(rows) == pytest.approx(76, abs=6)
    assert rows.max() < 96 * 2


@pytest.mark.parametrize('length', [1, 5, 12, 13, 100, 289, 1000])
def test_an_even_sample_spans_the_stream(length):
    sample = EvenSample(12)
    for i in range(length):
        if sample.wants(i):
            sample.add(i)
    kept = sample.result()
    assert len(kept) == min(12, length)
    assert kept == sorted(set(kept))
    assert kept[0] == 0
    assert kept[-1] > 0.9 * (length - 1) or length == 1
    steps = np.diff(kept)
    assert length < 24 or steps.max() <= 1.7 * steps.mean()


def test_spread_includes_both_ends():
    assert spread(10, 3) == [0, 4, 9]
    assert spread(2, 6) == [0, 1]


def test_the_visualizer_writes_one_picture(tmp_path, mask):
    sample = RVOSDataSample(
        metainfo={
            'text': 'the dog',
            'kind': 'motion',
            'video_id': 'v',
            'exp_id': '0',
            'ori_shape': (96, 160),
            'key_frames': [0, 2],
            'frame_names': ['00000', '00010'],
        }
    )
    masks = torch.from_numpy(np.stack([mask, mask]))[None]
    sample.gt_instances = InstanceData(masks=masks)
    sample.pred_instances = InstanceData(
        scores=torch.tensor([0.7]),
        masks=masks,
        boxes=torch.tensor([[[60.0, 40, 120, 80]] * 2]),
        reference_points=torch.tensor([[[90.0, 60]] * 2]),
    )
    clip = np.full((3, 48, 80, 3), 100, np.uint8)  # half the size on disk
    out_file = tmp_path / 'vis' / 'v_0.png'
    RVOSVisualizer().add_datasample('v_0', clip, sample, out_file=out_file)
    assert [path.name for path in out_file.parent.iterdir()] == ['v_0.png']
    picture = np.asarray(Image.open(out_file))
    assert picture.shape[1] == 14 + 2 * (320 + 14), 'two annotated frames, not three'
