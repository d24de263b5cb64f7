"""Flip, resize, crop, choice and visibility: the numbers of the reference, and properties."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from referformer.datasets.transforms import (
    FilterVisible,
    PackClip,
    RandomChoice,
    RandomCrop,
    RandomFlip,
    RandomResize,
    Resize,
)
from referformer.datasets.transforms.geometry import (
    crop_clip,
    flip_clip,
    resize_clip,
    resize_frames,
    resize_nearest,
    resized_shape,
    swap_sides,
)
from referformer.datasets.transforms.loading import boxes_of_masks


def make_clip(height=48, width=70, num_frames=4, seed=0):
    rng = np.random.default_rng(seed)
    masks = np.zeros((1, num_frames, height, width), bool)
    for t in range(num_frames - 1):  # absent on the last frame
        top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
        masks[0, t, top : top + height // 3, left : left + width // 3] = True
    boxes, valid = boxes_of_masks(masks)
    return {
        'imgs': rng.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8),
        'img_shape': (height, width),
        'ori_shape': (height, width),
        'masks': masks,
        'boxes': boxes,
        'valid': valid,
        'text': 'the cleft rock left of the bright bird',
    }


@pytest.fixture(scope='module')
def stored(shared_dir):
    with np.load(shared_dir / 'parity' / 'units' / 'clip_transforms.npz') as file:
        return dict(file)


@pytest.fixture
def stored_clip(stored):
    frames = stored['in.frames']
    return {
        'imgs': frames,
        'img_shape': frames.shape[1:3],
        'ori_shape': frames.shape[1:3],
        'masks': stored['in.masks'][None] > 0,
        'boxes': stored['in.boxes'][None],
        'valid': stored['in.valid'][None] > 0,
        'text': 'the left dog right of the left cat',
    }


def crop_resize_check(clip):
    crop_clip(clip, 0, 0, 20, 30)
    Resize(32)(clip)
    assert FilterVisible()(clip) is None


@pytest.mark.parametrize(
    'name, transform',
    [
        ('hflip', flip_clip),
        ('resize48', Resize(48)),
        ('resize90max100', Resize(90, max_size=100)),
        ('crop_5_30_40_50', lambda clip: crop_clip(clip, 5, 30, 40, 50)),
        ('crop_0_0_20_30_resize32_check', crop_resize_check),
    ],
)
def test_transformed_clip_equals_the_stored_one(stored, stored_clip, name, transform):
    transform(stored_clip)
    np.testing.assert_array_equal(stored_clip['imgs'], stored[f'{name}.frames'])
    np.testing.assert_array_equal(stored_clip['masks'][0], stored[f'{name}.masks'] > 0)
    np.testing.assert_array_equal(stored_clip['valid'][0], stored[f'{name}.valid'] > 0)
    np.testing.assert_allclose(stored_clip['boxes'][0], stored[f'{name}.boxes'], rtol=1e-6)
    assert stored_clip['boxes'].dtype == np.float32
    assert stored_clip['img_shape'] == tuple(stored[f'{name}.size'])
    assert stored_clip['text'] == str(stored[f'{name}.caption'])

    item = {'video_id': 'v', 'exp_id': '0', 'kind': None, 'obj_id': 1, 'label': 15}
    item |= {'frame_names': list('abc'), 'frame_inds': np.arange(3), 'key_frames': np.arange(3)}
    truth = PackClip()(item | stored_clip)['data_samples'].gt_instances
    np.testing.assert_allclose(
        truth.boxes[0], stored[f'{name}.normalized_boxes'], rtol=1e-6, atol=1e-7
    )
    assert truth.labels.tolist() == [15]


def test_resized_images_equal_the_stored_ones(shared_dir):
    with np.load(shared_dir / 'parity' / 'units' / 'preprocess.npz') as file:
        for k in range(4):
            frame = file[f'{k}.rgb']
            clip = {'imgs': frame[None], 'img_shape': frame.shape[:2]}
            Resize(int(file[f'{k}.size']))(clip)
            np.testing.assert_array_equal(clip['imgs'][0], file[f'{k}.resized_rgb'])


def test_sizes_equal_the_stored_tables(shared_dir):
    with np.load(shared_dir / 'parity' / 'units' / 'preprocess.npz') as file:
        for h, w, new_h, new_w in file['inference_resize360'].tolist():
            assert resized_shape(h, w, 360) == (new_h, new_w)
        for h, w, size, max_size, new_h, new_w in file['dataset_resize'].tolist():
            limit = None if max_size < 0 else max_size
            assert resized_shape(h, w, size, limit) == (new_h, new_w)


def test_flipping_twice_is_identity():
    clip = make_clip()
    twice = copy.deepcopy(clip)
    flip_clip(twice)
    assert not np.array_equal(twice['imgs'], clip['imgs'])
    flip_clip(twice)
    for key, value in clip.items():
        np.testing.assert_array_equal(twice[key], value)


@pytest.mark.parametrize(
    'text, swapped',
    [
        ('the left dog', 'the right dog'),
        ('cleft rock in bright light', 'cleft rock in bright light'),
        ('leftmost of two, right-hand side', 'rightmost of two, left-hand side'),
        ('moving leftwards to the right', 'moving rightwards to the left'),
        ('upright copyright lefty', 'upright copyright lefty'),
        ('on the left, then right.', 'on the right, then left.'),
    ],
)
def test_sides_are_swapped_as_words(text, swapped):
    assert swap_sides(text) == swapped
    assert swap_sides(swapped) == text


def test_flip_moves_image_masks_and_boxes_alike():
    clip = make_clip()
    before = copy.deepcopy(clip)
    flip_clip(clip)
    np.testing.assert_array_equal(clip['imgs'], before['imgs'][:, :, ::-1])
    np.testing.assert_array_equal(clip['masks'], before['masks'][..., ::-1])
    measured, valid = boxes_of_masks(clip['masks'])
    # Boxes end at the last pixel, and the reference mirrors them as if they ended after it.
    assert np.abs(clip['boxes'] - measured)[valid].max() <= 1
    assert clip['text'] == 'the cleft rock right of the bright bird'


def test_flip_happens_as_often_as_asked():
    np.random.seed(0)
    texts = [RandomFlip(0.3)(make_clip(8, 8, 2))['text'] for _ in range(400)]
    assert 85 < sum('right of' in text for text in texts) < 155


@pytest.mark.parametrize('shorter', [20, 37, 48, 96])
@pytest.mark.parametrize('seed', range(4))
def test_resized_masks_and_boxes_agree_within_a_pixel(shorter, seed):
    clip = Resize(shorter)(make_clip(seed=seed))
    measured, valid = boxes_of_masks(clip['masks'])
    # A box ends at the last pixel: enlarged, that pixel covers `scale` new ones.
    tolerance = max(1, shorter / 48)
    assert np.abs(clip['boxes'] - measured)[valid].max() <= tolerance
    np.testing.assert_array_equal(valid, clip['valid'])


def test_masks_stay_for_scoring_while_boxes_follow_the_frames():
    clip = make_clip()
    before = copy.deepcopy(clip)
    Resize(24, resize_masks=False)(clip)
    assert clip['imgs'].shape == (4, 24, 35, 3) and clip['img_shape'] == (24, 35)
    np.testing.assert_array_equal(clip['masks'], before['masks'])
    np.testing.assert_allclose(clip['boxes'], before['boxes'] / 2)
    assert clip['scale_factor'] == (0.5, 0.5)


def test_scale_factors_multiply():
    clip = make_clip()
    Resize(24)(clip)
    Resize(12)(clip)
    assert clip['img_shape'] == (12, 17)
    np.testing.assert_allclose(clip['scale_factor'], (17 / 70, 12 / 48))


@pytest.mark.parametrize('height, width', [(7, 5), (48, 31), (96, 140), (13, 70), (101, 199)])
def test_nearest_takes_the_pixels_of_torch(height, width):
    masks = np.random.default_rng(0).random((1, 2, 48, 70)) > 0.5
    expected = torch.nn.functional.interpolate(torch.from_numpy(masks).float(), (height, width))
    resized = resize_nearest(masks, height, width)
    assert resized.dtype == bool
    np.testing.assert_array_equal(resized, expected.numpy() > 0.5)


def test_resize_to_the_same_size_changes_nothing():
    clip = make_clip()
    before = copy.deepcopy(clip)
    resize_clip(clip, 48, 70)
    for key, value in before.items():
        np.testing.assert_array_equal(clip[key], value)


def test_random_resize_draws_all_scales():
    np.random.seed(0)
    sizes = {RandomResize([20, 30, 40], 50)(make_clip())['img_shape'] for _ in range(40)}
    assert sizes == {(20, 29), (30, 43), (34, 49)}  # the last one by the limit of 50


def test_crop_is_a_window_of_the_clip():
    np.random.seed(1)
    for seed in range(30):
        clip = make_clip(seed=seed)
        before = copy.deepcopy(clip)
        crop = RandomCrop(20, 30)(clip)
        height, width = crop['img_shape']
        assert 20 <= height <= 30 and 20 <= width <= 30
        windows = np.lib.stride_tricks.sliding_window_view(
            before['imgs'][0, ..., 0], (height, width)
        )
        places = np.argwhere((windows == crop['imgs'][0, ..., 0]).all((-2, -1)))
        assert len(places) == 1
        top, left = places[0]
        inside = before['masks'][..., top : top + height, left : left + width]
        np.testing.assert_array_equal(crop['masks'], inside)
        measured, _ = boxes_of_masks(crop['masks'])
        agree = np.abs(crop['boxes'] - measured).max(-1) <= 1
        assert agree[crop['valid']].all()
        assert not crop['boxes'][~crop['valid']].any()


def photographs(height, width, num_frames=2):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (num_frames, 9, 13, 3), dtype=np.uint8)
    clip = {'imgs': coarse, 'img_shape': (9, 13)}
    resize_clip(clip, height, width)
    return (clip['imgs'] + rng.integers(0, 9, clip['imgs'].shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize('size', [(36, 64), (29, 51), (72, 128), (50, 89), (90, 160)])
def test_fast_resize_differs_by_rounding_only(size):
    frames = photographs(72, 128)
    exact = resize_frames(frames, *size).astype(int)
    fast = resize_frames(frames, *size, exact=False)
    assert fast.flags.c_contiguous and fast.dtype == np.uint8
    assert np.abs(fast - exact).max() <= 1
    assert (fast != exact).mean() < 0.03


def test_testing_is_exact_and_training_fast_by_default():
    clips = [{'imgs': photographs(72, 128), 'img_shape': (72, 128)} for _ in range(2)]
    Resize(41)(clips[0])
    np.testing.assert_array_equal(clips[0]['imgs'], resize_frames(photographs(72, 128), 41, 72))
    RandomResize([41])(clips[1])
    fast = resize_frames(photographs(72, 128), 41, 72, exact=False)
    np.testing.assert_array_equal(clips[1]['imgs'], fast)


def random_chain():
    """Every geometric transform, in the order of a recipe."""
    crop = RandomCrop(24, 40, shorter=(30, 36, 48))
    return [
        RandomChoice(
            [
                [RandomResize((30, 48, 61), 80)],
                [crop, RandomResize((30, 48, 61), 80)],
                [RandomResize((36, 60)), RandomCrop(24, 40), RandomResize((30, 48, 61), 80)],
            ]
        ),
        RandomFlip(),
    ]


@pytest.mark.parametrize('seed', range(40))
def test_boxes_are_those_of_the_transformed_masks(seed):
    clip = make_clip(seed=seed)
    np.random.seed(seed)
    for transform in random_chain():
        clip = transform(clip)
    assert clip['masks'].shape[2:] == clip['img_shape'] == clip['imgs'].shape[1:3]
    measured, shown = boxes_of_masks(clip['masks'])
    # 1 px for each of up to four steps that round, times the enlargement of what came before.
    scale = max(1, *clip['scale_factor'])
    both = shown & clip['valid']
    assert np.abs(clip['boxes'] - measured)[both].max(initial=0) <= 1 + 2 * scale
    # A box without extent may keep a line of pixels in the mask; anything larger counts as shown.
    extent = measured[..., 2:] - measured[..., :2]
    assert clip['valid'][(extent > 1 + 2 * scale).all(-1)].all()


@pytest.mark.parametrize('height, width', [(720, 1280), (480, 854), (61, 47)])
def test_windows_in_pixels_of_a_resized_frame(height, width):
    """As large and as spread as those of resize, then crop, within rounding."""
    np.random.seed(0)
    crop = RandomCrop(384, 600, shorter=(400, 500, 600))
    seen = np.array([crop.draw(height, width) for _ in range(2000)])
    bottom, right = seen[:, 0] + seen[:, 2], seen[:, 1] + seen[:, 3]
    assert (seen[:, :2] >= 0).all() and bottom.max() == height and right.max() == width

    expected = []
    for _ in range(2000):
        shorter = np.random.choice((400, 500, 600))
        shape = resized_shape(height, width, shorter)
        plain = RandomCrop(384, 600).draw(*shape)
        expected.append(np.divide(plain, np.tile(np.divide(shape, (height, width)), 2)))
    for mine, theirs in zip(seen.T, np.array(expected).T):
        assert ks_2samp(mine, theirs.round()).pvalue > 1e-3


def test_crop_draws_both_ends_and_keeps_small_frames_whole():
    np.random.seed(0)
    sizes = {RandomCrop(46, 60)(make_clip(48, 70, 2))['img_shape'] for _ in range(300)}
    assert {h for h, _ in sizes} == {46, 47, 48}
    assert {w for _, w in sizes} == set(range(46, 61))
    assert RandomCrop(100, 120)(make_clip())['img_shape'] == (48, 70)
    with pytest.raises(ValueError, match='min_size <= max_size'):
        RandomCrop(30, 20)


def test_choice_follows_the_probabilities():
    np.random.seed(0)
    choice = RandomChoice([[{'type': 'Resize', 'shorter': 24}], []], prob=[0.25, 0.75])
    shapes = [choice(make_clip(num_frames=2))['img_shape'] for _ in range(200)]
    assert 30 < shapes.count((24, 35)) < 70 and shapes.count((48, 70)) > 130
    with pytest.raises(ValueError, match='2 sequences of transforms have 1 probabilities'):
        RandomChoice([[], []], prob=[1.0])


def test_choice_passes_on_that_nothing_is_visible():
    clip = make_clip()
    clip['boxes'][:] = 0
    assert RandomChoice([[FilterVisible()]])(clip) is None


def test_visible_needs_both_extents():
    clip = make_clip()
    clip['boxes'][0, 0] = [5, 5, 5, 9]
    clip['boxes'][0, 1] = [5, 9, 8, 9]
    clip['valid'][:] = True
    assert FilterVisible()(clip)['valid'].tolist() == [[False, False, True, False]]


def test_transforms_work_without_ground_truth():
    clip = {k: v for k, v in make_clip().items() if k not in ('masks', 'boxes', 'valid')}
    for transform in (RandomFlip(1.0), Resize(40), RandomCrop(20, 30)):
        clip = transform(clip)
    assert clip['imgs'].shape[1:3] == clip['img_shape']
