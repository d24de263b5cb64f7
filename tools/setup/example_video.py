"""Write a held-out video of the synthetic data as a video file, and sentences about it."""

import argparse
import json
from pathlib import Path

from referformer.cli import user_errors
from referformer.video_io import VideoReader, VideoWriter


def pick_video(videos: dict[str, dict]) -> tuple[str, list[str]]:
    """Take the video that speaks about the most objects; one sentence for each object.

    Args:
        videos: The "videos" of a meta_expressions.json.

    Returns:
        The video's name, and the first sentence about each of its objects.
    """

    def sentences(video: dict) -> list[str]:
        first: dict[str, str] = {}
        for expression in video['expressions'].values():
            first.setdefault(expression.get('obj_id'), expression['exp'])
        return list(first.values())

    name = max(sorted(videos), key=lambda video: len(sentences(videos[video])))
    return name, sentences(videos[name])


@user_errors()
def main() -> None:
    """Read the arguments, pick a video, write it and its sentences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('data', type=Path, help='folder of the synthetic data')
    parser.add_argument('out', type=Path, help='video to write; its sentences go to OUT with .txt')
    parser.add_argument('--fps', type=float, default=6.0, help='frames per second')
    args = parser.parse_args()

    ann_file = args.data / 'meta_expressions' / 'valid' / 'meta_expressions.json'
    if not ann_file.is_file():
        raise FileNotFoundError(f'{ann_file} not found; make the data with make_synthetic.py')
    name, sentences = pick_video(json.loads(ann_file.read_text())['videos'])
    reader = VideoReader(args.data / 'valid' / 'JPEGImages' / name)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix('.txt').write_text('\n'.join(sentences) + '\n')
    with VideoWriter(args.out, args.fps, reader.size) as writer:
        for frame in reader:
            writer.write(frame)
    print(f'{args.out}: video {name}, {writer.num_frames} frames, {len(sentences)} sentences')


if __name__ == '__main__':
    main()
