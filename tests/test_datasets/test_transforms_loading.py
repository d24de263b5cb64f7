"""Frame sampling, and reading of frames and masks."""

import io

import numpy as np
import pytest
from fixtures_rvos import write_ref_youtube_vos
from PIL import Image

from referformer.datasets import RVOSDataset
from referformer.datasets.transforms import (
    LoadFrames,
    LoadMasks,
    PackClip,
    PhotometricDistort,
    RandomChoice,
    RandomFlip,
    SampleFrames,
)
from referformer.datasets.transforms.loading import (
    FrameFiles,
    boxes_of_masks,
    read_half_rgb,
    read_rgb,
)
from referformer.datasets.transforms.sampling import sample_local_global, sample_successive


@pytest.fixture
def item(tmp_path):
    """A test item with all frames chosen."""
    dataset = RVOSDataset(write_ref_youtube_vos(tmp_path), split='valid')
    return SampleFrames(mode='all')(dataset.get_data_info(2))


def replace(item, folder, number, content):
    suffix = item['img_suffix' if folder == 'img_dir' else 'mask_suffix']
    path = f'{item[folder]}/{item["frame_names"][number]}{suffix}'
    with open(path, 'wb') as file:
        file.write(content)
    return path


@pytest.mark.parametrize('num_frames', [1, 2, 3, 5, 8])
@pytest.mark.parametrize('length', [1, 2, 4, 7, 30])
def test_local_global_sample_has_close_and_far_frames(num_frames, length):
    np.random.seed(0)
    for _ in range(50):
        centre = np.random.randint(length)
        inds = sample_local_global(centre, length, num_frames)
        assert len(inds) == num_frames
        assert (np.diff(inds) >= 0).all() and inds[0] >= 0 and inds[-1] < length
        assert centre in inds
        others = np.delete(inds, np.flatnonzero(inds == centre)[0])
        before = (others >= centre - 3) & (others < max(centre, 1))
        after = (others <= centre + 3) & (others > min(centre, length - 2))
        if num_frames == 2:
            assert before.any() or after.any()
        elif num_frames >= 3:
            assert before.any() and after.any()
        if length >= num_frames + 6 and 0 < centre < length - 1:  # no clamping, enough frames
            assert len(np.unique(inds)) == num_frames


def test_far_frames_lie_outside_the_span_of_the_close_ones():
    np.random.seed(0)
    seen = set()
    for _ in range(300):
        inds = sample_local_global(15, 31, 6)
        close = inds[(inds >= 12) & (inds <= 18)]
        # The centre has exactly one chosen frame on each side, nearest to it.
        before, after = inds[inds < 15].max(), inds[inds > 15].min()
        assert len(np.unique(inds)) == 6 and {before, 15, after} <= set(close)
        seen |= set(inds.tolist())
    assert seen == set(range(31))


def test_a_short_video_repeats_all_its_frames_equally():
    np.random.seed(0)
    for _ in range(20):
        inds = sample_local_global(1, 3, 13)
        rest = np.bincount(inds, minlength=3)
        assert rest.sum() == 13 and rest.min() >= 4  # one of each close frame, three of each, one


@pytest.mark.parametrize('num_frames', [1, 3, 5])
def test_successive_frames_hold_the_centre_at_any_place(num_frames):
    np.random.seed(0)
    for centre, starts in ((0, 1), (15, num_frames), (30, 1)):
        drawn = {tuple(sample_successive(centre, 31, num_frames)) for _ in range(200)}
        assert len(drawn) == starts
        for inds in drawn:
            assert (np.diff(inds) == 1).all() and inds[0] >= 0 and inds[-1] <= 30
            assert centre in inds
    assert sample_successive(1, 2, 4).tolist() == [0, 1, 1, 1]


def test_successive_frames_of_a_training_item():
    results = SampleFrames(4, mode='successive')({'frame_names': list('abcd'), 'centre': 2})
    assert results['frame_inds'].tolist() == results['key_frames'].tolist() == [0, 1, 2, 3]


def test_all_frames_are_sampled_in_testing():
    results = SampleFrames(mode='all')({'frame_names': list('abcd')})
    assert results['frame_inds'].tolist() == results['key_frames'].tolist() == [0, 1, 2, 3]


def test_sampling_rejects_wrong_options():
    with pytest.raises(ValueError, match=r"mode must be .*, not 'dense'"):
        SampleFrames(mode='dense')
    with pytest.raises(ValueError, match='num_frames must be at least 1, but is 0'):
        SampleFrames(0)
    with pytest.raises(ValueError, match="use mode='all'"):
        SampleFrames(3)({'frame_names': list('abcd')})


def test_frames_come_in_the_order_asked_for(item):
    item['frame_inds'] = np.array([4, 0, 4, 2])
    results = LoadFrames()(item)
    assert results['imgs'].shape == (4, 48, 64, 3) and results['imgs'].dtype == np.uint8
    assert results['imgs'].flags.c_contiguous
    assert results['ori_shape'] == results['img_shape'] == (48, 64)
    for t, index in enumerate([4, 0, 4, 2]):
        expected = Image.open(f'{item["img_dir"]}/{item["frame_names"][index]}.jpg')
        np.testing.assert_array_equal(results['imgs'][t], np.asarray(expected))


def test_decoded_frames_equal_the_stored_ones(shared_dir, tmp_path):
    with np.load(shared_dir / 'parity' / 'post' / 'ytvos_end_to_end_resnet50.npz') as stored:
        for k, expected in enumerate(stored['in.decoded_rgb']):
            path = tmp_path / f'{k}.jpg'
            path.write_bytes(stored[f'in.jpeg_{k}'].tobytes())
            np.testing.assert_array_equal(read_rgb(path), expected)


def test_masks_and_boxes_of_the_referred_object(item):
    results = LoadMasks(with_control=True)(LoadFrames()(item))
    assert (results['obj_id'], results['control_obj_id']) == (2, 1)
    for key, obj_id in (('masks', 2), ('control_masks', 1)):
        assert results[key].shape == (1, 6, 48, 64) and results[key].dtype == bool
        for t, name in enumerate(item['frame_names']):
            indices = np.asarray(Image.open(f'{item["mask_dir"]}/{name}.png'))
            np.testing.assert_array_equal(results[key][0, t], indices == obj_id)
    assert results['valid'].tolist() == [[True] * 5 + [False]]
    # Rows 26 to 45 (first and last), 16 columns from 5 on.
    assert results['boxes'][0, 0].tolist() == [5, 26, 20, 45]
    assert results['boxes'][0, 5].tolist() == [0, 0, 0, 0]
    assert results['boxes'].dtype == np.float32


def test_masks_of_key_frames_only(item):
    item['key_frames'] = np.array([2, 5])
    results = LoadMasks()(LoadFrames()(item))
    assert results['imgs'].shape[0] == 6 and results['masks'].shape[:2] == (1, 2)
    assert results['valid'].tolist() == [[True, False]]
    assert 'control_masks' not in results


def test_items_without_ground_truth_or_control_pass(item):
    item = LoadFrames()(item)
    assert 'masks' not in LoadMasks()({**item, 'mask_dir': None})
    results = LoadMasks(with_control=True)({**item, 'control_obj_id': None})
    assert 'masks' in results and 'control_masks' not in results


def test_boxes_agree_with_a_search_for_pixels():
    rng = np.random.default_rng(0)
    masks = rng.random((2, 8, 11, 17)) > 0.97
    masks[1, 3] = False
    boxes, valid = boxes_of_masks(masks)
    assert boxes.dtype == np.float32
    for index in np.ndindex(2, 8):
        y, x = np.nonzero(masks[index])
        assert valid[index] == (len(x) > 0)
        expected = [x.min(), y.min(), x.max(), y.max()] if len(x) else [0, 0, 0, 0]
        assert boxes[index].tolist() == expected


def test_missing_frame_names_the_file(item):
    item['frame_names'][3] = '99999'
    with pytest.raises(FileNotFoundError, match=r'valid0/99999\.jpg not found'):
        LoadFrames()(item)


@pytest.mark.parametrize('keep', [0, 10, 400])
def test_truncated_jpeg_names_the_file(item, keep):
    path = f'{item["img_dir"]}/{item["frame_names"][2]}.jpg'
    with open(path, 'rb') as file:
        content = file.read()
    replace(item, 'img_dir', 2, content[: min(keep, len(content) // 2)])
    with pytest.raises(ValueError, match=rf'{item["frame_names"][2]}\.jpg cannot be read'):
        LoadFrames()(item)


def test_truncated_png_names_the_file(item):
    path = f'{item["mask_dir"]}/{item["frame_names"][1]}.png'
    with open(path, 'rb') as file:
        content = file.read()
    replace(item, 'mask_dir', 1, content[: len(content) - 30])
    with pytest.raises(ValueError, match=rf'{item["frame_names"][1]}\.png cannot be read'):
        LoadMasks()(LoadFrames()(item))


def encode(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_sizes_must_agree(item):
    small = Image.new('P', (32, 48))
    replace(item, 'img_dir', 1, encode(small.convert('RGB'), 'JPEG'))
    with pytest.raises(
        ValueError, match=r'00005\.jpg has height and width \(48, 32\), but .*00000'
    ):
        LoadFrames()(item)


def test_masks_must_have_the_size_of_their_frames(item):
    item['frame_inds'], item['key_frames'] = np.array([1]), np.array([0])
    replace(item, 'mask_dir', 1, encode(Image.new('P', (32, 48)), 'PNG'))
    with pytest.raises(
        ValueError, match=r'00005\.png has .* \(48, 32\), but its frame .* \(48, 64\)'
    ):
        LoadMasks()(LoadFrames()(item))


def test_masks_must_be_index_maps(item):
    replace(item, 'mask_dir', 1, encode(Image.new('RGB', (64, 48)), 'PNG'))
    with pytest.raises(ValueError, match=r'00005\.png cannot be read: a palette image .* mode RGB'):
        LoadMasks()(LoadFrames()(item))


def photograph(height, width, mode='RGB'):
    """A smooth picture with some noise, as JPEGs have."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = smooth + rng.integers(-9, 10, smooth.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize(
    'size, mode, options',
    [
        ((72, 128), 'RGB', {}),
        ((61, 83), 'RGB', {'subsampling': 2, 'quality': 60}),
        ((61, 83), 'RGB', {'subsampling': 1}),
        ((61, 83), 'RGB', {'subsampling': 0, 'progressive': True}),
        ((45, 1), 'RGB', {}),
        ((61, 83), 'L', {'quality': 95}),
        ((61, 83), 'CMYK', {}),
    ],
)
def test_both_decoders_give_the_same_numbers(tmp_path, size, mode, options):
    path = tmp_path / 'frame.jpg'
    photograph(*size, mode).save(path, **options)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_rgb(path), np.asarray(image.convert('RGB')))


def test_orientation_tags_are_ignored_by_both_decoders(tmp_path):
    image = photograph(40, 64)
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    path = tmp_path / 'turned.jpg'
    image.save(path, exif=exif)
    assert read_rgb(path).shape == (40, 64, 3)
    assert read_half_rgb(path).shape == (20, 32, 3)


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
@pytest.mark.parametrize('size', [(72, 128), (61, 83)])
def test_half_size_is_close_to_the_mean_of_pixels(tmp_path, suffix, size):
    path = tmp_path / f'frame{suffix}'
    photograph(*size).save(path)
    half = read_half_rgb(path)
    assert half.shape == (-(-size[0] // 2), -(-size[1] // 2), 3)
    with Image.open(path) as image:
        expected = np.asarray(image.convert('RGB').reduce(2), int)
    assert np.abs(half - expected)[:-1, :-1].mean() < (1 if suffix == '.png' else 2.5)


@pytest.fixture
def files(tmp_path):
    """Four JPEGs of 61x83 px and what is in them."""
    paths = [tmp_path / f'{t}.jpg' for t in range(4)]
    for t, path in enumerate(paths):
        photograph(61, 83 + t).crop((t, 0, 83 + t, 61)).save(path)
    return paths, np.stack([read_rgb(path) for path in paths])


def test_draft_frames_are_those_of_the_files(files):
    paths, frames = files
    draft = FrameFiles(paths)
    assert draft.shape == frames.shape
    np.testing.assert_array_equal(np.asarray(draft), frames)
    cropped = draft.crop(slice(3, 40), slice(10, 71))
    assert cropped.shape == (4, 37, 61, 3)
    np.testing.assert_array_equal(np.asarray(cropped), frames[:, 3:40, 10:71])
    twice = cropped.crop(slice(1, 20), slice(2, 30))
    np.testing.assert_array_equal(np.asarray(twice), frames[:, 4:23, 12:40])
    assert draft.shape == frames.shape  # is left alone


def test_draft_frames_are_halved_only_where_that_is_enough(files):
    paths, frames = files
    draft = FrameFiles(paths)
    assert draft.read(30, 41).shape == (4, 31, 42, 3)
    for height, width in ((31, 41), (30, 42)):
        np.testing.assert_array_equal(draft.read(height, width), frames)
    cropped = draft.crop(slice(0, 50), slice(0, 60))
    assert cropped.read(10, 10).shape == (4, 50, 60, 3)


def test_draft_and_decoded_frames_go_the_same_way(item):
    """Geometry, masks and boxes are equal, and pixels as good as."""
    sides = [{'type': 'RandomResize', 'scales': [17, 23, 30]}]
    crop = {'type': 'RandomCrop', 'min_size': 20, 'max_size': 40, 'shorter': [30, 40]}
    transforms = [
        RandomChoice([sides, [crop, *sides]]),
        RandomFlip(),
        PhotometricDistort(clip=True),
        PackClip(),
    ]
    item['label'] = 0
    differences = []
    for seed in range(12):
        results = []
        for draft in (False, True):
            np.random.seed(seed)
            clip = LoadMasks()(LoadFrames(draft=draft)(dict(item)))
            assert isinstance(clip['imgs'], FrameFiles) == draft
            for transform in transforms:
                clip = transform(clip)
            results.append(clip)
        full, draft = results
        assert full['inputs'].shape == draft['inputs'].shape
        for key in ('masks', 'boxes', 'valid'):
            truth, same = (clip['data_samples'].gt_instances[key] for clip in results)
            assert (truth == same).all()
        assert full['data_samples'].text == draft['data_samples'].text
        differences.append((full['inputs'].int() - draft['inputs'].int()).abs().float().mean())
    assert np.mean(differences) < 3


def test_draft_frames_name_broken_files(item):
    path = f'{item["img_dir"]}/{item["frame_names"][2]}.jpg'
    with open(path, 'rb') as file:
        content = file.read()
    replace(item, 'img_dir', 2, content[:-100])
    draft = LoadFrames(draft=True)(item)['imgs']
    for decode in (np.asarray, lambda imgs: imgs.read(10, 10)):
        with pytest.raises(ValueError, match=rf'{item["frame_names"][2]}\.jpg cannot be read'):
            decode(draft)
    replace(item, 'img_dir', 0, b'')
    with pytest.raises(ValueError, match=r'00000\.jpg cannot be read'):
        LoadFrames(draft=True)(item)


def test_drafts_are_for_training_only():
    with pytest.raises(ValueError, match='keep_last is for testing, draft for training'):
        LoadFrames(keep_last=True, draft=True)
