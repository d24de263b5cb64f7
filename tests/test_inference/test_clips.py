"""One path from frames to masks, whatever the window and the number of sentences."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures_rvos import write_ref_youtube_vos
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from model_fixtures import tiny_clip
from PIL import Image
from stub_segmenter import CONFIG, colour_video

from referformer.apis import ReferFormerInferencer, check_device, init_model
from referformer.datasets.synthetic.tokenizer import train_tokenizer
from referformer.inference import ClipInferencer, VideoPrediction, check_texts, segment_video
from referformer.inference.clips import _clip_transforms
from referformer.inference.writer import ResultWriter, check_output
from referformer.registry import DATASETS
from referformer.video_io import VideoReader, VideoWriter

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def model():
    return init_model(Config.fromstring(CONFIG, '.py'))


@pytest.fixture
def video():
    return colour_video(10)


@pytest.mark.parametrize('window', [0, 1, 4, 10, 36])
def test_masks_do_not_depend_on_the_window_of_a_framewise_model(model, video, window):
    frames, masks = video
    result = segment_video(model, frames, ['the red square', 'a blue bar'], window)
    assert (result.masks(0) == masks).all()
    assert (result.masks(1) == (frames == (0, 0, 255)).all(-1)).all()
    expected = (
        [10] if window in (0, 10, 36) else [window] * (10 // window) + [10 % window or window]
    )
    expected = expected if sum(expected) == 10 else expected[:-1]
    assert [length for length, _ in model.clip_lengths] == expected
    assert len(result) == 10
    assert result.scores.shape == (len(expected), 2)
    assert result.starts == [sum(expected[:i]) for i in range(len(expected))]
    assert result.boxes[0, 3].tolist() == [10, 8, 25, 23]


def test_the_clip_goes_in_once_for_all_sentences(model, video):
    frames, masks = video
    clip = ClipInferencer(model).predict(frames, ['red', 'blue', 'red thing', 'green', 'the red'])
    assert model.clip_lengths == [(10, 5)]
    assert clip.masks.shape == (5, 10, 48, 64)
    for i in (0, 2, 4):
        assert (clip.masks[i] == masks).all()
    assert not clip.masks[3].any()


def test_the_pipeline_of_the_config_resizes_and_shorter_overrides_it(model):
    frames, _ = colour_video(2, (96, 128))
    seen = []
    model.register_forward_pre_hook(
        lambda _, args, kw: seen.append(kw['inputs'].shape), with_kwargs=True
    )
    clip = ClipInferencer(model).predict(frames, ['red'])
    ClipInferencer(model, shorter=32).predict(frames, ['red'])
    assert [tuple(shape[-2:]) for shape in seen] == [(48, 64), (32, 42)]
    assert clip.masks.shape == (1, 2, 96, 128), 'masks have the size on disk'


def test_no_more_than_three_clips_of_a_stream_are_held(model, video):
    """One that is predicted, one that waits, one that is read."""
    frames, _ = video
    read = []
    source = (read.append(i) or frames[i % 10] for i in range(60))
    for i, _ in enumerate(ClipInferencer(model).stream(source, ['red'], window=4), 1):
        assert len(read) <= 4 * (i + 2)
    assert len(read) == 60


def test_low_scores_hide_what_was_found(model, video):
    frames, masks = video
    clip = ClipInferencer(model).predict(frames, ['red', 'green'])
    shown = clip.hide(below=0.1)
    assert clip.scores[0] > 0.1 > clip.scores[1]
    assert (shown.masks[0] == masks).all()
    assert not shown.masks[1].any()
    assert np.isnan(shown.reference_points[1]).all()


def test_frames_below_the_presence_threshold_hide_what_was_found(model, video):
    frames, masks = video
    frames[4:6] = 90  # the object is away
    result = segment_video(model, frames, ['red'], window=4, presence_thr=0.5)
    away = np.arange(10) // 2 == 2
    assert (result.frame_scores == [np.where(away, 0, 1)]).all()
    assert (result.masks(0) == masks & ~away[:, None, None]).all()
    assert (np.isnan(result.reference_points[0]).all(1) == away).all()
    assert (result.boxes[0].any(1) == ~away).all()


def test_the_threshold_of_the_call_goes_before_that_of_the_model(tiny_model):
    model = tiny_model(test_cfg={'presence_thr': 1.0})
    frames = np.asarray(tiny_clip().permute(0, 2, 3, 1))
    found = {
        thr: ClipInferencer(model, [{'type': 'PackClip'}], presence_thr=thr).predict(
            frames, ['the red dog', 'a cat']
        )
        for thr in (None, 0.0, 0.5)
    }
    assert not found[None].masks.any()
    assert found[0.0].masks.flatten().any()
    low = found[0.0].frame_scores < 0.5
    assert (found[0.5].masks == found[0.0].masks & ~low[..., None, None]).all()
    with pytest.raises(ValueError, match=r'presence_thr must be a score in \[0, 1\], not 2'):
        tiny_model(test_cfg={'presence_thr': 2})
    with pytest.raises(ValueError, match=r'presence_thr must be a score in \[0, 1\], got -1'):
        ClipInferencer(model, presence_thr=-1)


def test_bad_input_is_refused(model, video):
    frames, _ = video
    with pytest.raises(ValueError, match='sentence 2 of 2 is empty'):
        segment_video(model, frames, ['red', '  \t'])
    with pytest.raises(ValueError, match='no sentence'):
        check_texts([])
    with pytest.raises(ValueError, match='no frames'):
        segment_video(model, frames[:0], ['red'])
    with pytest.raises(ValueError, match='window'):
        segment_video(model, frames, ['red'], window=-1)
    with pytest.raises(ValueError, match='shorter'):
        segment_video(model, frames, ['red'], shorter=0)
    with pytest.raises(ValueError, match='training mode'):
        segment_video(model.train(), frames, ['red'])
    with pytest.raises(ValueError, match='pipeline'):
        ClipInferencer(torch.nn.Linear(1, 1).eval())


def test_devices_are_checked():
    assert check_device('cpu') == torch.device('cpu')
    assert check_device('auto').type in ('cpu', 'cuda')
    for name in ('cuda:99', 'gpu', 'meta', 'cuda:-1'):
        with pytest.raises(ValueError, match=f'{name} does not exist here; available: cpu'):
            check_device(name)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'config.*nowhere'):
        init_model(tmp_path / 'nowhere.py')
    config = tmp_path / 'config.py'
    config.write_text(CONFIG)
    with pytest.raises(FileNotFoundError, match=r'checkpoint.*nowhere'):
        init_model(config, tmp_path / 'nowhere.pth')


def test_init_model_loads_weights_and_applies_options(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(CONFIG)
    torch.save({'state_dict': {'scale': torch.tensor([1.0, 2, 3, 4])}}, tmp_path / 'weights.pth')
    model = init_model(config, tmp_path / 'weights.pth', cfg_options={'model.width': 4})
    assert model.scale.tolist() == [1, 2, 3, 4]
    assert not model.training
    assert model.cfg.model.width == 4
    with pytest.raises(ValueError, match='scale'):
        init_model(config, tmp_path / 'weights.pth')


def test_results_on_disk_are_the_result(tmp_path, model, video):
    frames, masks = video
    path = tmp_path / 'in.avi'
    with VideoWriter(path, 12.5, (48, 64)) as writer:
        for frame in frames:
            writer.write(frame)
    out = tmp_path / 'deep' / 'out'
    result = ReferFormerInferencer(model)(path, ['Red Square!', 'blue'], out, window=4)
    drawn = VideoReader(out / 'overlay.avi')
    assert (sum(1 for _ in drawn), drawn.fps, drawn.size) == (10, 12.5, (48, 64))
    folder = out / 'masks' / '0_red-square'
    assert sorted(p.name for p in folder.iterdir()) == [f'{t:05d}.png' for t in range(10)]
    for t in range(10):
        png = np.asarray(Image.open(folder / f'{t:05d}.png'))
        assert set(np.unique(png)) == {0, 255}
        assert ((png > 0) == result.mask(0, t)).all()
    assert (result.masks(0) == masks).mean() > 0.95, 'JPEG changes edges only'
    scores = json.loads((out / 'scores.json').read_text())
    assert [clip['start'] for clip in scores['clips']] == [0, 4, 8]
    assert all(path.exists() for path in result.files.values())
    assert [path.name for path in out.parent.iterdir()] == ['out'], 'temporary folders are left'


def test_a_folder_keeps_its_frame_names(tmp_path, model, video):
    frames = tmp_path / 'frames'
    frames.mkdir()
    for t in range(3):
        Image.fromarray(video[0][t]).save(frames / f'img{5 * t}.png')
    ReferFormerInferencer(model)(frames, 'red', tmp_path / 'out')
    names = sorted(path.name for path in (tmp_path / 'out' / 'masks' / '0_red').iterdir())
    assert names == ['img0.png', 'img10.png', 'img5.png']
    assert (tmp_path / 'out' / 'overlay.mp4').is_file()


def test_existing_results_are_kept_unless_overwritten(tmp_path, model, video):
    frames = tmp_path / 'frames'
    frames.mkdir()
    Image.fromarray(video[0][0]).save(frames / '0.png')
    inferencer, out = ReferFormerInferencer(model), tmp_path / 'out'
    inferencer(frames, 'red', out)
    with pytest.raises(FileExistsError, match=r'already holds results.*--overwrite'):
        inferencer(frames, 'blue', out)
    assert (out / 'masks' / '0_red').is_dir()
    inferencer(frames, 'blue', out, overwrite=True)
    assert [path.name for path in (out / 'masks').iterdir()] == ['0_blue']
    (out / 'thesis.txt').write_text('precious')
    with pytest.raises(FileExistsError, match=r'thesis\.txt'):
        inferencer(frames, 'red', out, overwrite=True)
    with pytest.raises(NotADirectoryError, match='is a file'):
        check_output(out / 'thesis.txt' / 'below', overwrite=True)


def test_a_failure_leaves_no_half_results(tmp_path, model, video):
    frames = tmp_path / 'frames'
    frames.mkdir()
    Image.fromarray(video[0][0]).save(frames / '0.png')
    reader, out = VideoReader(frames), tmp_path / 'out'
    clip = ClipInferencer(model).predict(video[0][:1], ['red'])
    result = VideoPrediction(['red'], 10.0, reader.size, reader)
    with pytest.raises(RuntimeError), ResultWriter(out, result) as writer:
        writer.write(clip)
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ['frames']


@pytest.fixture(scope='module')
def micro(tmp_path_factory):
    """The micro model with random weights and masks that are neither empty nor full, and data."""
    folder = tmp_path_factory.mktemp('micro')
    root = write_ref_youtube_vos(folder / 'data')
    train_tokenizer(['the dog on the left', 'a cat that moves to the right'], folder / 'tokenizer')
    cfg = Config.fromfile(REPO / 'configs' / 'referformer_vswin-micro_synthetic.py')
    cfg.merge_from_dict(
        {
            'model.text_encoder.tokenizer': str(folder / 'tokenizer'),
            'test_dataloader.dataset.data_root': str(root),
        }
    )
    cfg.test_dataloader.dataset.pipeline.insert(
        -1, {'type': 'Resize', 'shorter': 40, 'resize_masks': False}
    )
    torch.manual_seed(0)
    model = init_model(cfg)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    item = pseudo_collate([dataset[0]])
    with torch.no_grad():
        logits = model(**model.data_preprocessor(item), mode='tensor').masks[-1]
    model.test_cfg['threshold'] = logits.sigmoid().median().item()
    return model, dataset, root


@pytest.mark.parametrize('index', [0, 1, 5])
def test_the_inferencer_and_the_test_loop_give_the_same(micro, index):
    model, dataset, root = micro
    item = dataset[index]
    tested = model.test_step(pseudo_collate([item]))[0]
    frames = VideoReader(root / 'valid' / 'JPEGImages' / tested.video_id)
    result = segment_video(model, frames, [tested.text, 'another cat'])
    expected = tested.pred_instances
    assert 0.1 < expected.masks.float().mean() < 0.9
    assert result.scores[0, 0] == pytest.approx(expected.scores.item(), abs=1e-5)
    assert np.abs(result.boxes[0] - expected.boxes[0].numpy()).max() < 1e-3
    # Pixels on the threshold, here the median, may fall on the other side in another batch size.
    assert (result.masks(0) == expected.masks[0].numpy()).mean() > 0.999
    assert (result.masks(0) != result.masks(1)).any(), 'the sentence makes no difference'


def test_sentences_together_give_what_they_give_alone(micro):
    model, _, root = micro
    frames = np.stack(list(VideoReader(root / 'valid' / 'JPEGImages' / 'valid0')))
    texts = ['the dog', 'a small cat that moves to the right', 'the dog']
    together = ClipInferencer(model).predict(frames, texts)
    for i, text in enumerate(texts):
        alone = ClipInferencer(model).predict(frames, [text])
        assert together.scores[i] == pytest.approx(alone.scores[0], abs=1e-5)
        assert (together.masks[i] == alone.masks[0]).mean() > 0.999


def test_what_loads_or_writes_sentences_in_a_pipeline_is_left_out():
    steps = [{'type': 'LoadInstances'}, {'type': 'WriteSentence'}, {'type': 'PackClip'}]
    assert [type(step).__name__ for step in _clip_transforms(steps, 64)] == ['Resize', 'PackClip']
