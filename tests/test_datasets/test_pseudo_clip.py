"""Clips made of one image."""

import cv2
import numpy as np
import pytest

from referformer.datasets.transforms import PseudoClip
from referformer.datasets.transforms.loading import boxes_of_masks
from referformer.datasets.transforms.pseudo_clip import Motion, blur_kernel, homography, move

SIZE = (60, 90)


@pytest.fixture
def image():
    coarse = np.random.default_rng(0).integers(60, 190, (6, 9, 3), dtype=np.uint8)
    return cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def masks():
    masks = np.zeros((1, *SIZE), bool)
    masks[0, 20:41, 30:61] = True
    return masks


def item(image, masks):
    boxes, valid = boxes_of_masks(masks[:, None])
    return {'imgs': image[None], 'masks': masks[:, None], 'boxes': boxes, 'valid': valid}


def test_clips_hold_the_image_and_its_copies(image, masks):
    np.random.seed(0)
    places = []
    for _ in range(60):
        clip = PseudoClip(num_frames=4)(item(image, masks))
        assert clip['imgs'].shape == (4, *SIZE, 3) and clip['imgs'].dtype == np.uint8
        assert clip['masks'].shape == (1, 4, *SIZE) and clip['masks'].dtype == bool
        same = [t for t in range(4) if np.array_equal(clip['imgs'][t], image)]
        assert len(same) == 1
        np.testing.assert_array_equal(clip['masks'][0, same[0]], masks[0])
        assert clip['frame_inds'].tolist() == [0] * 4
        assert clip['key_frames'].tolist() == [0, 1, 2, 3]
        places += same
    # 15 times each on average, standard deviation 3.4
    assert np.bincount(places, minlength=4).min() >= 3


def test_boxes_and_valid_are_those_of_the_moved_masks(image):
    np.random.seed(1)
    corner = np.zeros((1, *SIZE), bool)
    corner[0, :2, :3] = True  # leaves the frame often
    invisible = 0
    for _ in range(30):
        clip = PseudoClip(num_frames=5)(item(image, corner))
        for t, mask in enumerate(clip['masks'][0]):
            rows, columns = np.where(mask)
            assert clip['valid'][0, t] == (len(rows) > 0)
            box = [columns.min(), rows.min(), columns.max(), rows.max()] if len(rows) else [0] * 4
            assert clip['boxes'][0, t].tolist() == box
        invisible += (~clip['valid']).sum()
    assert 0 < invisible < 120


def test_masks_go_where_the_image_goes(image):
    """The object is white, the rest dark: it is found again under the moved mask."""
    np.random.seed(2)
    masks = np.zeros((1, *SIZE), bool)
    cv2.ellipse(drawn := np.zeros(SIZE, np.uint8), (45, 30), (18, 11), 25, 0, 360, 1, -1)
    masks[0] = drawn
    image = image // 4
    image[masks[0]] = 255
    clip = PseudoClip(num_frames=20, blur_prob=0)(item(image, masks))
    for frame, mask in zip(clip['imgs'], clip['masks'][0]):
        white = frame.min(-1) > 140
        assert (white & mask).sum() / (white | mask).sum() > 0.9


def test_no_motion_changes_nothing(image, masks):
    same, moved = move(image, masks, Motion())
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(moved, masks)


def test_shift_and_rotation_move_points_as_they_say():
    height, width = SIZE
    shifted = homography(height, width, Motion(shift=(0.1, -0.05)))
    np.testing.assert_allclose(shifted @ [10, 20, 1], [10 + 9, 20 - 3, 1], atol=1e-5)
    centre = [(width - 1) / 2, (height - 1) / 2]
    turned = homography(height, width, Motion(rotation=20)) @ [centre[0] + 10, centre[1], 1]
    cos, sin = np.cos(np.radians(20)), np.sin(np.radians(20))
    # counter-clockwise on the screen
    np.testing.assert_allclose(turned[:2], [centre[0] + 10 * cos, centre[1] - 10 * sin], atol=1e-4)


def test_corners_of_the_quadrangle_become_those_of_the_frame():
    height, width = SIZE
    corners = ((0.1, 0.05), (0.0, 0.2), (0.15, 0.0), (0.02, 0.03))
    matrix = homography(height, width, Motion(corners=corners))
    right, bottom = width - 1, height - 1
    inside = [(0.1, 0.05), (1, 0.2), (0.85, 1), (0.02, 0.97)]
    for (x, y), target in zip(inside, [(0, 0), (right, 0), (right, bottom), (0, bottom)]):
        moved = matrix @ [x * right, y * bottom, 1]
        np.testing.assert_allclose(moved[:2] / moved[2], target, atol=1e-3)


def test_brightness_is_added_and_clipped(masks):
    grey = np.full((*SIZE, 3), 230, np.uint8)
    assert (move(grey, masks, Motion(brightness=40))[0] == 255).all()
    assert (move(grey, masks, Motion(brightness=-40))[0] == 190).all()


def test_colour_turns_the_hue_and_the_saturation(masks):
    red = np.zeros((*SIZE, 3), np.uint8)
    red[:] = (200, 100, 100)
    changed, _ = move(red, masks, Motion(colour=5))
    r, g, b = changed[0, 0].astype(int)
    assert r == 200 and abs(b - 96) <= 1 and b < g < 110  # 5/255 of the saturation; towards yellow
    changed, _ = move(red, masks, Motion(colour=-5))  # round the circle, towards magenta
    r, g, b = changed[0, 0].astype(int)
    assert r == 200 and abs(g - 104) <= 1 and g < b < 115


def test_blur_keeps_the_brightness_and_has_its_direction():
    for size in (9, 11):
        kernel = blur_kernel(size, 30, 0.4)
        assert kernel.shape == (size, size) and kernel.sum() == pytest.approx(1)
        assert kernel.min() >= 0
    upright = blur_kernel(9, 0, 0)
    np.testing.assert_allclose(upright[:, 4], 1 / 9, rtol=1e-5)
    assert blur_kernel(9, 90, 0)[4].sum() == pytest.approx(1, abs=1e-5)
    fading = blur_kernel(9, 0, 1)[:, 4]
    assert (np.diff(fading) < 0).all() and fading[-1] == pytest.approx(0, abs=1e-6)


def test_draws_have_the_stated_frequencies_and_ranges():
    np.random.seed(3)
    draws = [PseudoClip().draw() for _ in range(4000)]
    blurred = np.array([d.blur for d in draws])
    assert abs((blurred > 0).mean() - 0.25) < 0.03
    assert set(blurred) == {0, 9, 11}
    changed = np.array([[d.brightness != 0, d.colour != 0] for d in draws])
    assert changed.any(1).all()
    np.testing.assert_allclose(changed.mean(0), 2 / 3, atol=0.03)
    for values, limit in (
        ([d.rotation for d in draws], 20),
        ([d.shift for d in draws], 0.1),
        ([d.brightness for d in draws], 40),
        ([d.colour for d in draws], 5),
    ):
        assert 0.98 * limit < np.abs(values).max() <= limit
        assert abs(np.mean(values)) < 0.05 * limit
    corners = np.array([d.corners for d in draws])
    assert corners.min() >= 0 and corners.max() < 0.5
    assert np.sqrt((corners**2).mean()) == pytest.approx(0.08, rel=0.05)


def test_randomness_comes_from_the_seed(image, masks):
    clips = []
    for _ in range(2):
        np.random.seed(4)
        clips.append(PseudoClip()(item(image, masks)))
    np.testing.assert_array_equal(clips[0]['imgs'], clips[1]['imgs'])
    np.testing.assert_array_equal(clips[0]['masks'], clips[1]['masks'])
    assert not np.array_equal(clips[0]['imgs'], PseudoClip()(item(image, masks))['imgs'])


def test_a_clip_cannot_be_made_of_a_clip(image, masks):
    clip = PseudoClip(num_frames=2)(item(image, masks))
    with pytest.raises(ValueError, match='of one image, not of 2 frames'):
        PseudoClip()(clip)
    with pytest.raises(ValueError, match='num_frames must be at least 1'):
        PseudoClip(num_frames=0)
    with pytest.raises(ValueError, match='blur_sizes must be odd'):
        PseudoClip(blur_sizes=(8,))
