"""Whatever a user calls a video gives the same frames, or one message that names what is wrong."""

import os
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from stub_segmenter import CONFIG, colour_video

from referformer.apis import ReferFormerInferencer, init_model
from referformer.inference import segment_video
from referformer.inference.sources import open_source
from referformer.video_io import VideoWriter

FRAMES, MASKS = colour_video(6)


@pytest.fixture
def folder(tmp_path):
    """The frames as images, and as a video."""
    (tmp_path / 'frames').mkdir()
    for t, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(tmp_path / 'frames' / f'{t}.png')
    with VideoWriter(tmp_path / 'video.mp4', 12.5, (48, 64)) as writer:
        for frame in FRAMES:
            writer.write(frame)
    return tmp_path


@pytest.fixture
def server(folder):
    """Serves the folder; the address."""
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    handler.log_message = lambda *_: None
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{http.server_port}'
        http.shutdown()


def forms(folder):
    return {
        'folder': folder / 'frames',
        'pattern': str(folder / 'frames' / '*.png'),
        'files': [folder / 'frames' / f'{t}.png' for t in range(6)],
        'array': FRAMES,
        'list of arrays': list(FRAMES),
        'pictures': [Image.fromarray(frame) for frame in FRAMES],
        'tensor': torch.from_numpy(FRAMES),
        'channels first': torch.from_numpy(FRAMES).permute(0, 3, 1, 2),
        'generator': (frame for frame in FRAMES),
    }


@pytest.mark.parametrize('form', forms(Path()))
def test_every_form_gives_the_same_frames(folder, form):
    source = open_source(forms(folder)[form], fps=5)
    assert (source.size, source.fps) == ((48, 64), 5)
    assert len(source) == (0 if form == 'generator' else 6)
    assert np.array_equal(np.stack(list(source)), FRAMES)
    assert len(source) == 6
    if form == 'generator':
        with pytest.raises(ValueError, match='only once'):
            iter(source)
    else:
        assert np.array_equal(np.stack(list(source)), FRAMES)


def test_an_address_is_read_as_its_file(folder, server):
    expected = open_source(folder / 'video.mp4')
    source = open_source(f'{server}/video.mp4')
    assert (source.size, source.fps, len(source)) == ((48, 64), 12.5, 6)
    for _ in range(2):
        assert np.array_equal(np.stack(list(source)), np.stack(list(expected)))
    assert (source.path.name, source.name) == ('video.mp4', f'{server}/video.mp4')
    with pytest.raises(OSError, match=r'nowhere\.mp4 cannot be opened.*404'):
        open_source(f'{server}/nowhere.mp4')
    (folder / 'page.mp4').write_text('<html>')
    with pytest.raises(OSError, match=r'page\.mp4 cannot be opened'):
        open_source(f'{server}/page.mp4')


def write_into(pipe):
    """A program that sends a video into a pipe, as cameras' programs do."""
    with open(pipe, 'wb') as file, av.open(file, 'w', format='matroska') as out:
        stream = out.add_stream('ffv1', 25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, 'bgr0'
        for frame in FRAMES:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, 'rgb24')))
        out.mux(stream.encode(None))


def test_a_pipe_is_read_while_it_is_written(tmp_path):
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    sender = threading.Thread(target=write_into, args=(pipe,), daemon=True)
    sender.start()
    source = open_source(pipe)
    assert (source.size, source.fps) == ((48, 64), 25)
    assert np.array_equal(np.stack(list(source)), FRAMES)
    with pytest.raises(ValueError, match='only once'):
        iter(source)
    sender.join(10)


@pytest.mark.skipif(sys.platform != 'linux', reason='about /dev/video*')
def test_a_camera_that_is_not_there_is_named():
    for camera in (99, '99'):
        with pytest.raises(OSError, match=r'camera 99 cannot be opened.*cameras of this machine'):
            open_source(camera)


def test_a_camera_gives_so_many_frames_and_its_rate(folder, monkeypatch):
    open_capture = cv2.VideoCapture  # a file stands in for the device
    monkeypatch.setattr(cv2, 'VideoCapture', lambda _: open_capture(str(folder / 'video.mp4')))
    source = open_source(0, max_frames=4)
    assert (source.name, source.fps, source.size) == ('camera 0', 12.5, (48, 64))
    frames = np.stack(list(source))
    assert frames.shape == (4, 48, 64, 3) and frames[0, 16, 10, 0] > 240 > frames[0, 36, 10, 0]
    with pytest.raises(ValueError, match='only once'):
        iter(source)


@pytest.mark.parametrize(
    ('video', 'message'),
    [
        (FRAMES.astype(np.float32), r'frame 0 of the given frames is float32 \(48, 64, 3\)'),
        (FRAMES[..., 0], r'frame 0 .* is uint8 \(48, 64\)'),
        (FRAMES[:0], 'no frames'),
        ([], 'no frames'),
        (None, 'None is no video'),
        (['a.mp4', 'b.mp4'], 'segment_videos'),
        (['a.png', FRAMES[0]], 'a list of files'),
    ],
)
def test_what_is_no_video_is_named(video, message):
    with pytest.raises(ValueError, match=message):
        open_source(video)


@pytest.mark.parametrize(
    ('frame', 'message'),
    [
        (np.zeros((50, 64, 3), np.uint8), 'frame 2 .*is 64x50, the first frame is 64x48'),
        (np.zeros((48, 64, 3)), 'frame 2 .*is float64'),
        (np.zeros((48, 64, 4), np.uint8), r'frame 2 .*is uint8 \(48, 64, 4\)'),
        (3.5, r'frame 2 .*is float64 \(\)'),
    ],
)
def test_the_frame_that_does_not_fit_is_named(folder, frame, message):
    frames = [FRAMES[0], FRAMES[1], frame]
    with pytest.raises(ValueError, match=message):
        list(open_source(frames))
    (folder / 'config.py').write_text(CONFIG)
    model = init_model(folder / 'config.py')
    for segment in (partial(segment_video, model), ReferFormerInferencer(model)):
        with pytest.raises(ValueError, match=message):
            segment(frames, ['red'])


def test_arrays_generators_and_tensors_are_segmented(folder):
    (folder / 'config.py').write_text(CONFIG)
    segment = ReferFormerInferencer(init_model(folder / 'config.py'))
    for form, video in forms(folder).items():
        result = segment(video, 'the red square', folder / 'out' / form, window=4)
        assert np.array_equal(result.masks(0), MASKS), form
        assert (folder / 'out' / form / 'overlay.mp4').is_file()
