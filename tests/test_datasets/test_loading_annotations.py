"""Frames from video files, masks from h5 and mat files, and clips around one annotated frame."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from fixtures_a2d import VIDEO_IDS, background, cut_video, write_a2d_sentences, write_h5
from scipy.io import savemat

from referformer.datasets.transforms import (
    LoadH5Masks,
    LoadMatMasks,
    LoadVideoFrames,
    SampleFrames,
)
from referformer.datasets.transforms.loading_annotations import (
    count_video_frames,
    read_h5_mask,
    read_mat_masks,
    read_video_frames,
)
from referformer.datasets.transforms.sampling import sample_centred
from referformer.video_io import VideoReader


@pytest.fixture
def video(tmp_path):
    """A video of 12 frames."""
    root = write_a2d_sentences(tmp_path)
    return root / 'Release' / 'clips320H' / f'{VIDEO_IDS["train"][0]}.mp4'


@pytest.fixture
def mask():
    """Wider than high, and neither symmetric nor square: a transposed one differs."""
    mask = np.zeros((6, 9), bool)
    mask[1:3, 2:8] = True
    return mask


def test_frames_are_those_asked_for(video):
    inds = [7, 0, 3, 3, 11]
    frames = read_video_frames(video, inds)
    assert frames.shape == (5, 48, 64, 3) and frames.dtype == np.uint8
    found = np.median(frames, (1, 2, 3))
    np.testing.assert_allclose(found, [background(t) for t in inds], atol=5)  # steps of 12
    # Red rectangles: the channels are RGB.
    red = frames[1][10, 10]
    assert red[0] > 150 and red[2] < 100


@pytest.mark.parametrize('name', ['bedroom.mp4', '01_dog.mp4'])
def test_frames_of_real_videos_equal_those_of_a_full_pass(shared_dir, name):
    path = shared_dir / 'real' / name
    inds = [0, 1, 17, 29, 30, 61]
    one_by_one = iter(VideoReader(path))
    expected = [frame for _, frame in zip(range(62), one_by_one)]
    assert np.array_equal(read_video_frames(path, inds), np.stack([expected[i] for i in inds]))


def test_videos_are_counted(video):
    assert count_video_frames(str(video)) == 12


def test_a_video_that_ends_early_is_named(video):
    complete = read_video_frames(video, range(12))
    cut_video(video)
    assert count_video_frames(str(video)) == 12
    results = {'video_file': str(video), 'frame_inds': np.array([0, 2])}
    assert np.array_equal(LoadVideoFrames()(results)['imgs'], complete[[0, 2]])
    message = rf'{video.name} ends after \d frames, but claims 12, and frame 12 is needed'
    with pytest.raises(ValueError, match=message):
        read_video_frames(video, [0, 11])


def test_what_is_no_video_is_named(tmp_path):
    path = tmp_path / 'v.mp4'
    path.write_bytes(b'\0' * 1000)
    with pytest.raises(ValueError, match=r'v\.mp4 is not a readable video'):
        read_video_frames(path, [0])
    with pytest.raises(FileNotFoundError, match=r'w\.mp4 not found'):
        count_video_frames(str(tmp_path / 'w.mp4'))


@pytest.mark.parametrize('instances', [(4,), (2, 4)], ids=['one', 'two'])
def test_h5_masks_are_turned_back(tmp_path, mask, instances):
    path = tmp_path / '00001.h5'
    masks = np.stack([mask] * len(instances))
    masks[:-1] = False
    write_h5(path, instances, masks)
    with h5py.File(path) as file:
        assert file['reMask'].ndim == 1 + len(instances)
    assert np.array_equal(read_h5_mask(path, 4), mask)


def test_h5_instances_may_be_a_row_of_floats(tmp_path, mask):
    path = tmp_path / '00001.h5'
    write_h5(path, (2, 4), np.stack([~mask, mask]), instance=np.array([[2.0, 4.0]]))
    assert np.array_equal(read_h5_mask(path, 4), mask)


@pytest.mark.parametrize(
    'fields, message',
    [
        ({'reMask': None}, r"the field reMask is missing; it has \['instance'\]"),
        ({'instance': None}, r"the field instance is missing; it has \['reMask'\]"),
        ({'instance': [1, 2, 4]}, r'does not fit the instances \[1, 2, 4\]'),
        ({'instance': [1, 2]}, r'the instance 4 is not there; it has \[1, 2\]'),
    ],
)
def test_h5_files_without_what_is_needed_are_named(tmp_path, mask, fields, message):
    path = tmp_path / '00001.h5'
    write_h5(path, (2, 4), np.stack([mask, mask]), **fields)
    with pytest.raises(ValueError, match=r'00001\.h5: .*' + message):
        read_h5_mask(path, 4)


def test_broken_h5_files_are_named(tmp_path, mask):
    path = tmp_path / '00001.h5'
    write_h5(path, (4,), mask[None])
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match=r'00001\.h5: .*Get or extract this file again'):
        read_h5_mask(path, 4)
    with pytest.raises(FileNotFoundError, match=r'00002\.h5 not found'):
        read_h5_mask(tmp_path / '00002.h5', 4)


def test_mat_masks_have_time_last(tmp_path, mask):
    path = tmp_path / 'puppet_mask.mat'
    savemat(path, {'part_mask': np.stack([mask, ~mask, ~mask], -1).astype(np.uint8)})
    assert np.array_equal(read_mat_masks(path), [mask, ~mask, ~mask])
    savemat(path, {'part_mask': mask.astype(np.uint8)})  # MATLAB drops a last axis of length 1
    assert np.array_equal(read_mat_masks(path), [mask])


def test_mat_files_without_what_is_needed_are_named(tmp_path, mask):
    path = tmp_path / 'puppet_mask.mat'
    with pytest.raises(FileNotFoundError, match=r'puppet_mask\.mat not found'):
        read_mat_masks(path)
    savemat(path, {'mask': mask})
    with pytest.raises(ValueError, match=r"the field part_mask is missing; it has \['mask'\]"):
        read_mat_masks(path)
    savemat(path, {'part_mask': mask}, do_compression=True)
    path.write_bytes(path.read_bytes()[:150])
    with pytest.raises(ValueError, match=r'puppet_mask\.mat is not a readable MATLAB file'):
        read_mat_masks(path)


def load_mat(folder, mask, key_frame):
    """A clip of three frames, of which ``key_frame`` is annotated."""
    savemat(folder / 'puppet_mask.mat', {'part_mask': np.stack([mask] * 2, -1)})
    results = {
        'video_id': 'v',
        'mask_dir': str(folder),
        'frame_inds': np.array([0, 1, 2]),
        'key_frames': np.array([key_frame]),
        'imgs': np.zeros((3, 6, 9, 3), np.uint8),
        'img_shape': (6, 9),
        'ori_shape': (6, 9),
    }
    return LoadMatMasks()(results)


def test_a_frame_without_mat_mask_is_named(tmp_path, mask):
    results = load_mat(tmp_path, mask, 1)
    assert np.array_equal(results['masks'], mask[None, None])
    assert results['boxes'].tolist() == [[[2, 1, 7, 2]]] and results['valid'].tolist() == [[True]]
    with pytest.raises(ValueError, match='has masks of 2 frames, but frame 3 is annotated'):
        load_mat(tmp_path, mask, 2)


def load_h5(folder: Path, mask, frame_size):
    write_h5(folder / '00001.h5', (4,), mask[None])
    results = {
        'video_id': 'v',
        'mask_dir': str(folder),
        'mask_suffix': '.h5',
        'frame_names': ['00001'],
        'obj_id': 4,
        'frame_inds': np.array([0]),
        'key_frames': np.array([0]),
        'imgs': np.full((1, *frame_size, 3), 7, np.uint8),
        'img_shape': frame_size,
        'ori_shape': frame_size,
    }
    return LoadH5Masks()(results)


def test_frames_get_the_odd_size_of_their_masks(tmp_path, mask):
    results = load_h5(tmp_path, mask, (6, 8))
    assert results['imgs'].shape == (1, 6, 9, 3) and (results['imgs'] == 7).all()
    assert results['img_shape'] == results['ori_shape'] == (6, 9)
    assert results['scale_factor'] == (1.0, 1.0)
    assert np.array_equal(results['masks'], mask[None, None])


def test_masks_of_another_size_are_refused(tmp_path, mask):
    with pytest.raises(ValueError, match=r'\(6, 9\) do not fit to frames of \(9, 6\) of video v'):
        load_h5(tmp_path, mask, (9, 6))


def sample(mode, key_frame, length=10, num_frames=5, **item):
    names = [str(t) for t in range(length)]
    results = {'frame_names': names, 'key_frame': key_frame, 'num_frames': num_frames, **item}
    results = SampleFrames(mode=mode)(results)
    return results['frame_inds'].tolist(), results['key_frames'].tolist()


@pytest.mark.parametrize(
    'num_frames, key_frame, inds, key_frames',
    [
        (5, 4, [2, 3, 4, 5, 6], [2]),
        (6, 4, [1, 2, 3, 4, 5, 6], [3]),  # an even clip has one more frame before
        (5, 0, [0, 0, 0, 1, 2], [0]),
        (5, 9, [7, 8, 9, 9, 9], [2]),
        (1, 9, [9], [0]),
    ],
)
def test_centred_clips_stand_still_at_the_ends(num_frames, key_frame, inds, key_frames):
    assert sample('centred', key_frame, num_frames=num_frames) == (inds, key_frames)


def test_videos_shorter_than_the_centred_clip_are_repeated():
    assert sample('centred', 1, length=2) == ([0, 0, 1, 1, 1], [2])
    assert sample_centred(0, 1, 4).tolist() == [0, 0, 0, 0]


def test_whole_videos_keep_their_one_annotated_frame():
    assert sample('all', 3, length=6) == ([0, 1, 2, 3, 4, 5], [3])


@pytest.mark.parametrize('length', [1, 2, 4, 30])
def test_training_clips_hold_their_annotated_frame_once(length):
    np.random.seed(0)
    for centre in range(length):
        inds, key_frames = sample('local_global', centre, length, centre=centre)
        assert len(inds) == 5 and len(key_frames) == 1
        assert inds[key_frames[0]] == centre and inds.index(centre) == key_frames[0]


def test_modes_that_do_not_fit_the_items_are_refused():
    with pytest.raises(ValueError, match="'centred' needs items with one annotated frame"):
        SampleFrames(mode='centred')({'frame_names': ['0'], 'num_frames': 5})
    with pytest.raises(ValueError, match=r"mode must be one of .*'centred'.*, not 'middle'"):
        SampleFrames(mode='middle')
