"""Many videos: which they are, and segmenting them in one or several processes."""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import torch
from mmengine.dist import all_gather_object, get_dist_info

from ..cli import explain
from ..errors import well_formed
from ..files import check_folder, is_address, read_json
from ..video_io import natural
from .clips import check_texts
from .sources import is_image, is_pattern, match_files, open_source

LAUNCHERS = ('none', 'pytorch', 'slurm')
VIDEO_SUFFIXES = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv', '.gif')
MEMORY = 'Let the model see less: a smaller --window or --shorter.'
_SLURM = {'RANK': 'SLURM_PROCID', 'WORLD_SIZE': 'SLURM_NTASKS', 'LOCAL_RANK': 'SLURM_LOCALID'}


class Job(NamedTuple):
    """One of many videos."""

    video: str
    texts: list[str]
    name: str  # of the folder of its results


class Outcome(NamedTuple):
    """What became of many videos, over all processes."""

    done: int
    kept: int  # their results were there before
    failed: dict[str, str]  # video -> why


def list_videos(video: str) -> list[tuple[str, list[str]]] | None:
    """The videos that a list, a pattern or a folder of videos names; None for a single video.

    Args:
        video: A text file with a video a line, relative to its folder; after a tab there may be
            sentences about this video alone, each after a tab. A pattern: ``'videos/*.mp4'``. A
            folder that holds videos, or folders of frames.

    Returns:
        Videos, each with its own sentences.

    Raises:
        ValueError, FileNotFoundError: If there is no video.
    """
    path = Path(video)
    if is_pattern(video):
        files = match_files(video)
        return None if all(map(is_image, files)) else [(file, []) for file in files]
    if path.suffix.lower() == '.txt' and path.is_file():
        lines = [line.split('\t') for line in path.read_text(encoding='utf-8-sig').splitlines()]
        found = [
            (name if is_address(name) else str(path.parent / name.strip()), texts)
            for name, *texts in lines
            if name.strip() and not name.startswith('#')
        ]
    elif path.is_dir() and not any(map(is_image, path.iterdir())):
        inside = sorted(path.iterdir(), key=lambda child: natural(child.name))
        found = [(str(child), []) for child in inside if _is_video(child)]
    else:
        return None
    if not found:
        raise ValueError(f'{video} names no video.')
    return found


def plan(videos: Sequence[tuple[str, list[str]]], texts: Sequence[str]) -> list[Job]:
    """Give each video its sentences, and its folder a name that no other one has.

    Args:
        videos: See ``list_videos``.
        texts: Sentences about the videos that have none of their own.

    Raises:
        ValueError: If a video has no sentence, or an empty one.
    """
    stems = [Path(urlsplit(v).path if is_address(v) else v).stem for v, _ in videos]
    count = Counter(stems)
    names = [
        stem if count[stem] == 1 else re.sub(r'[^\w.-]+', '_', video).strip('_')
        for stem, (video, _) in zip(stems, videos)
    ]
    return [Job(video, check_texts(own or texts), n) for n, (video, own) in zip(names, videos)]


def segment_videos(
    segment: Callable[..., Any],
    jobs: Sequence[Job],
    out_dir: str | Path,
    fps: float | None = None,
    max_frames: int | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Outcome:
    """Segment this process's share of the videos, each into its own folder.

    A video whose results are there already is left out; one that cannot be segmented stops nothing.

    Args:
        segment: A ``ReferFormerInferencer``.
        jobs: What ``plan`` made, the same in all processes.
        out_dir: The folder for the folders.
        fps: See ``open_source``.
        max_frames: See ``open_source``.
        overwrite: Segment again what is there.
        options: Of the inferencer's call.
    """
    check_folder(out_dir)
    rank, processes = get_dist_info()
    done, kept, failed = 0, 0, {}
    share = jobs[rank::processes]
    for i, job in enumerate(share, 1):
        folder = Path(out_dir, job.name)
        print(f'[{i}/{len(share)}] {job.video} -> {folder}', flush=True)
        try:
            if not overwrite and _is_there(folder, job):
                kept += 1
                continue
            source = open_source(job.video, fps, max_frames)
            segment(source, job.texts, folder, overwrite=overwrite, **options)
            done += 1
        except Exception as error:
            failed[job.video] = ' '.join(explain(error, MEMORY)[0].split())
    shares = all_gather_object(Outcome(done, kept, failed))
    failures = {video: why for share in shares for video, why in share.failed.items()}
    return Outcome(sum(s.done for s in shares), sum(s.kept for s in shares), failures)


def join_processes(launcher: str) -> None:
    """Join the processes that ``launcher`` started: they talk through gloo, and only at the end.

    Args:
        launcher: One of ``LAUNCHERS``.

    Raises:
        ValueError: This process was not started by it.
    """
    if launcher == 'none':
        return
    needed = _SLURM.values() if launcher == 'slurm' else _SLURM.keys()
    missing = [name for name in needed if name not in os.environ]
    if missing:
        starter = 'srun' if launcher == 'slurm' else 'torchrun'
        raise ValueError(
            f'--launcher {launcher} needs {", ".join(missing)} in the environment: start this '
            f'command by {starter}.'
        )
    if launcher == 'slurm':
        os.environ.update({name: os.environ[slurm] for name, slurm in _SLURM.items()})
        os.environ.setdefault('MASTER_PORT', '29500')
        if 'MASTER_ADDR' not in os.environ:
            hosts = ['scontrol', 'show', 'hostnames', os.environ['SLURM_NODELIST']]
            found = subprocess.run(hosts, capture_output=True, text=True, check=True).stdout
            os.environ['MASTER_ADDR'] = found.split()[0]
    # The first one to finish waits for the last one, whose videos may take days longer.
    torch.distributed.init_process_group('gloo', timeout=timedelta(days=30))


def leave_processes() -> None:
    """Let go of the other processes before this one ends."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def own_device(device: str) -> str:
    """The GPU of this process, where it shares a machine with others."""
    if device in ('auto', 'cuda') and torch.cuda.is_available():
        return f'cuda:{int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count()}'
    return device


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES or (
        path.is_dir() and any(map(is_image, path.iterdir()))
    )


def _is_there(folder: Path, job: Job) -> bool:
    """Whether a run before has segmented this video.

    Raises:
        FileExistsError: If the folder holds another video or other sentences.
    """
    if not (folder / 'scores.json').is_file():
        return False
    file = folder / 'scores.json'
    with well_formed(file, 'what infer wrote'):
        summary = read_json(file)
        texts = [item['text'] for item in summary['sentences']]
        summary['video'] = str(summary['video'])
    if texts != job.texts or os.path.abspath(summary['video']) != os.path.abspath(job.video):
        raise FileExistsError(
            f'{folder} holds results of {summary["video"]} with the sentences {texts}; give '
            'another folder, or overwrite them (--overwrite).'
        )
    return True
