"""Frames in, the same frames out: number, size, rate, order."""

import itertools
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from referformer.video_io import VideoReader, VideoWriter, output_suffix, prefetch


def make_frames(num, size=(48, 64)):
    """Frames that differ in brightness only every second time, with a red square."""
    frames = np.zeros((num, *size, 3), np.uint8)
    for t in range(num):
        frames[t] = 20 + 12 * (t // 2)
        frames[t, 8:24, 8:40] = (255, 0, 0)
    return frames


def write(path, frames, fps=10.0):
    with VideoWriter(path, fps, frames.shape[1:3]) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.mark.parametrize('suffix', ['.mp4', '.avi', '.gif'])
@pytest.mark.parametrize('fps', [10, 23.976, 30000 / 1001])
def test_what_is_written_is_read_back(tmp_path, suffix, fps):
    frames = make_frames(13)
    reader = VideoReader(write(tmp_path / f'video{suffix}', frames, fps))
    read = np.stack(list(reader))
    assert read.shape == frames.shape
    assert len(reader) == 13
    # A GIF counts in hundredths of a second, over 13 frames.
    assert reader.fps == pytest.approx(fps, rel=0.01 if suffix == '.gif' else 1e-5)
    assert np.abs(read.astype(int) - frames).mean() < 6
    assert read[0, 16, 20, 0] > 240 > 30 > read[0, 16, 20, 2], 'RGB, not BGR'
    assert not list(tmp_path.glob('.*')), 'a temporary file is left'


@pytest.mark.parametrize('suffix', ['.avi', '.gif'])
def test_odd_sizes_lose_no_row(tmp_path, suffix):
    frames = make_frames(4, (49, 65))
    reader = VideoReader(write(tmp_path / f'video{suffix}', frames, 29.97))
    assert reader.size == (49, 65)
    assert np.stack(list(reader)).shape == frames.shape


def test_an_mp4_of_an_odd_size_repeats_its_edge(tmp_path):
    frames = make_frames(3, (49, 65))
    frames[:, -1] = (0, 0, 255)
    reader = VideoReader(write(tmp_path / 'video.mp4', frames))
    assert reader.size == (50, 66)
    read = np.stack(list(reader)).astype(int)
    assert np.abs(read[:, :49, :65] - frames).mean() < 6
    assert (read[:, 49, :, 2] > 200).all(), 'the last row twice'


def test_equal_gif_frames_are_not_merged(tmp_path):
    frames = np.repeat(make_frames(1), 5, axis=0)
    assert len(list(VideoReader(write(tmp_path / 'still.gif', frames)))) == 5


def test_a_failed_video_leaves_nothing(tmp_path):
    target = write(tmp_path / 'video.mp4', make_frames(3))
    before = target.read_bytes()
    with pytest.raises(RuntimeError), VideoWriter(target, 10, (48, 64)) as writer:
        writer.write(make_frames(1)[0])
        raise RuntimeError
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ['video.mp4']


def test_empty_and_unequal_videos_are_refused(tmp_path):
    with pytest.raises(ValueError, match='no frames'), VideoWriter(tmp_path / 'a.avi', 5, (48, 64)):
        pass
    with (
        pytest.raises(ValueError, match=r'\(48, 64, 3\)'),
        VideoWriter(tmp_path / 'a.avi', 5, (48, 64)) as writer,
    ):
        writer.write(np.zeros((50, 64, 3), np.uint8))
    with pytest.raises(ValueError, match='webm'):
        VideoWriter(tmp_path / 'a.webm', 5, (48, 64))
    assert not list(tmp_path.iterdir())


def test_a_folder_is_sorted_naturally(tmp_path):
    for i in (10, 2, 1):
        Image.new('RGB', (8, 6), (i, 0, 0)).save(tmp_path / f'frame{i}.png')
    (tmp_path / 'notes.txt').write_text('not a frame')
    reader = VideoReader(tmp_path)
    assert reader.frame_names == ['frame1', 'frame2', 'frame10']
    assert [frame[0, 0, 0] for frame in reader] == [1, 2, 10]
    assert (reader.fps, reader.size, len(reader)) == (10.0, (6, 8), 3)
    assert VideoReader(tmp_path, fps=24).fps == 24


def test_frame_rate_of_a_gif_is_the_mean_of_its_durations(tmp_path):
    images = [Image.new('RGB', (8, 6), (40 * i, 0, 0)) for i in range(4)]
    path = tmp_path / 'a.gif'
    images[0].save(path, save_all=True, append_images=images[1:], duration=[100, 100, 300, 300])
    assert VideoReader(path).fps == pytest.approx(5)


def test_bad_videos_are_named(tmp_path):
    missing, text, gif, empty = (tmp_path / name for name in ('no.mp4', 'a.mp4', 'a.gif', 'empty'))
    text.write_text('this is not a video')
    gif.write_bytes(b'GIF89a')
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r'no\.mp4'):
        VideoReader(missing)
    for path in (text, gif, empty):
        with pytest.raises(ValueError, match=f'{path.name}.*Supported'):
            VideoReader(path)
    with pytest.raises(ValueError, match='frame rate'):
        VideoReader(text, fps=0)


def test_a_video_without_frames_is_refused(tmp_path):
    path = tmp_path / 'a.avi'
    cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48)).release()
    assert path.is_file()
    with pytest.raises(ValueError, match=r'a\.avi'):
        VideoReader(path)


def test_a_truncated_jpeg_is_found_by_verify(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    for i in range(3):
        Image.fromarray(noise).save(tmp_path / f'{i}.jpg')
    whole = (tmp_path / '1.jpg').read_bytes()
    (tmp_path / '1.jpg').write_bytes(whole[: len(whole) // 2])
    reader = VideoReader(tmp_path)
    with pytest.raises(ValueError, match=r'1\.jpg.*truncated'):
        reader.verify()


def test_frames_of_another_size_are_named(tmp_path):
    for i, width in enumerate((64, 64, 32)):
        Image.new('RGB', (width, 48)).save(tmp_path / f'{i}.png')
    with pytest.raises(ValueError, match=r'2\.png is 32x48.*64x48'):
        VideoReader(tmp_path).verify()


def test_two_images_of_one_name_are_refused(tmp_path):
    for suffix in ('png', 'jpg'):
        Image.new('RGB', (8, 8)).save(tmp_path / f'a.{suffix}')
    with pytest.raises(ValueError, match='several images named a'):
        VideoReader(tmp_path)


def test_decoded_frames_count_not_the_containers_claim(tmp_path):
    path = write(tmp_path / 'video.avi', make_frames(12))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    reader = VideoReader(path)
    num = sum(1 for _ in reader)
    assert 0 < num < 12
    assert len(reader) == num


def test_output_keeps_the_format_where_it_can(tmp_path):
    frames = make_frames(2)
    assert output_suffix(VideoReader(write(tmp_path / 'a.gif', frames))) == '.gif'
    assert output_suffix(VideoReader(write(tmp_path / 'a.avi', frames))) == '.avi'
    Image.fromarray(frames[0]).save(tmp_path / '0.png')
    assert output_suffix(VideoReader([tmp_path / '0.png'])) == '.mp4'


def test_prefetch_keeps_order_raises_and_stops():
    assert list(prefetch(range(100), 3)) == list(range(100))

    def broken():
        yield 1
        raise ValueError('broken frame')

    items = prefetch(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match='broken frame'):
        next(items)

    threads = threading.active_count()
    endless = prefetch(itertools.count(), 2)
    next(endless)
    assert threading.active_count() == threads + 1
    endless.close()
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ('name', 'size', 'fps', 'num'),
    [('bedroom', (540, 960), 30.0, 200), ('01_dog', (720, 1280), 29.97, 289)],
)
def test_real_videos(shared_dir: Path, name, size, fps, num):
    reader = VideoReader(shared_dir / 'real' / f'{name}.mp4')
    assert reader.size == size
    assert reader.fps == pytest.approx(fps, abs=1e-3)
    assert sum(1 for _ in reader) == len(reader) == num


def write_timed(path, times, codec='libx264', rotation=0, sound=None, size=(48, 64)):
    """A video whose frames come at these seconds, red in the upper left quarter."""
    with av.open(str(path), 'w') as file:
        stream = file.add_stream(codec, 30)
        stream.height, stream.width = size
        stream.pix_fmt = 'yuv420p'
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            if not hasattr(stream, 'set_display_rotation'):
                pytest.skip('PyAV before 18 cannot write a rotation')
            stream.set_display_rotation(rotation)
        audio = sound and file.add_stream(sound, 48000, layout='mono')
        image = np.zeros((*size, 3), np.uint8)
        image[: size[0] // 2, : size[1] // 2, 0] = 255
        for time in times:
            frame = av.VideoFrame.from_ndarray(image, 'rgb24')
            frame.time_base, frame.pts = Fraction(1, 1000), round(1000 * time)
            file.mux(stream.encode(frame))
        if sound:
            tone = np.sin(np.arange(48000 * 2) * 0.1)[None].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(tone, 'fltp', 'mono')
            frame.sample_rate, frame.pts = 48000, 0
            file.mux(audio.encode(frame))
            file.mux(audio.encode(None))
        file.mux(stream.encode(None))
    return path


def packets(path, kind):
    with av.open(str(path)) as file:
        return [bytes(p) for p in file.demux(**{kind: 0}) if p.size]


def samples(path):
    """The sound of a file as one row of numbers, -1 to 1."""
    with av.open(str(path)) as file:
        to_float = av.AudioResampler('flt', 'mono', 48000)
        frames = [g for f in file.decode(audio=0) for g in to_float.resample(f)]
        return np.concatenate([frame.to_ndarray()[0] for frame in frames])


UNEVEN = [0, 0.1, 0.2, 0.5, 0.6, 1.3, 1.4]


@pytest.mark.parametrize('suffix', ['.mp4', '.gif'])
def test_uneven_frames_keep_their_times(tmp_path, suffix):
    reader = VideoReader(write_timed(tmp_path / 'in.mp4', UNEVEN))
    with VideoWriter(tmp_path / f'out{suffix}', reader.fps, reader.size, like=reader) as writer:
        for i, frame in enumerate(reader):
            assert reader.times[i] == pytest.approx(UNEVEN[i], abs=1e-6)
            writer.write(frame)
    again = VideoReader(tmp_path / f'out{suffix}')
    assert len(list(again)) == len(UNEVEN)
    assert again.times == pytest.approx(UNEVEN, abs=1e-3)


def test_a_given_frame_rate_wins_over_times_and_takes_the_sound_away(tmp_path):
    reader = VideoReader(write_timed(tmp_path / 'in.mp4', UNEVEN, sound='aac'), fps=20)
    with VideoWriter(tmp_path / 'out.mp4', reader.fps, reader.size, like=reader) as writer:
        for frame in reader:
            writer.write(frame)
    again = VideoReader(tmp_path / 'out.mp4')
    assert (again.fps, again.sound) == (20, None)
    list(again)
    assert again.times == pytest.approx(np.arange(7) / 20)


@pytest.mark.parametrize('rotation', [90, 180, 270])
def test_phone_videos_stand_upright_as_opencv_shows_them(tmp_path, rotation):
    path = write_timed(tmp_path / 'phone.mp4', [0, 0.1], rotation=rotation)
    expected = cv2.VideoCapture(str(path)).read()[1][..., ::-1]
    reader = VideoReader(path)
    assert reader.size == expected.shape[:2] == ((48, 64) if rotation == 180 else (64, 48))
    assert np.abs(next(iter(reader)).astype(int) - expected).max() <= 2


def test_browsers_can_play_what_is_written(tmp_path):
    path = write(tmp_path / 'a.mp4', make_frames(5))
    content = path.read_bytes()
    assert content.find(b'moov') < content.find(b'mdat'), 'the index comes first'
    with av.open(str(path)) as file:
        context = file.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ('h264', 'yuv420p')
        assert (context.colorspace, context.color_range) == (1, 1), 'BT.709, limited range'


def test_colours_survive(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (90, 200, 40), (0, 0, 0)]
    frames = np.repeat(np.repeat(np.uint8([[colours]]), 32, 1), 16, 2)
    read = next(iter(VideoReader(write(tmp_path / 'a.mp4', frames))))
    assert np.abs(read[16, 8::16].astype(int) - colours).max() <= 3


def test_sound_is_copied_and_other_sound_becomes_aac(tmp_path):
    for codec, name in (('aac', 'in.mp4'), ('pcm_s16le', 'in.mov')):
        reader = VideoReader(write_timed(tmp_path / name, [0, 0.5, 1.0], sound=codec))
        with VideoWriter(tmp_path / 'out.mp4', reader.fps, reader.size, like=reader) as writer:
            for frame in reader:
                writer.write(frame)
        with av.open(str(tmp_path / 'out.mp4')) as file:
            audio = file.streams.audio[0]
            assert audio.codec_context.name == 'aac'
            # The video ends after its third frame; 2 s of sound were there.
            assert 1.3 <= float(audio.duration * audio.time_base) <= 1.8
            assert audio.layout.name == 'mono'
        heard, given = (samples(tmp_path / n)[5000:40000] for n in ('out.mp4', name))
        assert np.corrcoef(heard, given)[0, 1] > 0.99, 'another sound, or at another time'
        if codec == 'aac':
            kept = packets(tmp_path / 'out.mp4', 'audio')
            assert kept == packets(tmp_path / name, 'audio')[: len(kept)]


def test_opencv_reads_where_pyav_is_missing(tmp_path, monkeypatch):
    path = write(tmp_path / 'a.mp4', make_frames(5), 12.5)
    expected = np.stack(list(VideoReader(path)))
    monkeypatch.setattr('referformer.video_codecs.av', None)
    reader = VideoReader(path)
    assert (len(reader), reader.fps, reader.size) == (5, 12.5, (48, 64))
    assert np.abs(np.stack(list(reader)).astype(int) - expected).max() <= 2
    with (
        pytest.raises(ModuleNotFoundError, match='pip install av'),
        VideoWriter(tmp_path / 'b.mp4', 10, (48, 64)),
    ):
        pass


def test_pictures_are_turned_as_cameras_say(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    Image.new('RGB', (64, 48)).save(tmp_path / 'a.jpg', exif=exif)
    assert VideoReader(tmp_path / 'a.jpg').size == (64, 48)


def test_reading_stops_where_told(tmp_path):
    reader = VideoReader(write(tmp_path / 'a.mp4', make_frames(9)), max_frames=4)
    assert len(reader) == len(list(reader)) == len(list(reader)) == 4
    with pytest.raises(ValueError, match='number of frames'):
        VideoReader(tmp_path / 'a.mp4', max_frames=0)


@pytest.mark.parametrize('suffix', ['.mp4', '.gif', '.avi'])
@pytest.mark.parametrize('limit', [100, 20_000, 60_000])
def test_a_file_that_could_not_be_written_whole_is_an_error(tmp_path, suffix, limit):
    """A limit of a file's size is to a program what a full disk is."""
    code = f"""
import resource, signal, numpy as np
from referformer.video_io import VideoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
frames = np.random.default_rng(0).integers(0, 256, (9, 96, 128, 3), np.uint8)
try:
    with VideoWriter('out{suffix}', 5, (96, 128)) as writer:
        for frame in frames:
            writer.write(frame)
except OSError as error:
    print(type(error).__name__, error.filename or error)
"""
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert f'out{suffix}' in done.stdout, done.stderr
    assert not list(tmp_path.iterdir())
