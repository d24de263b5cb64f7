"""Memory and start-up time of the parsed annotations, with worker processes."""

import json
import multiprocessing
import time
from pathlib import Path

import pytest

from referformer.datasets import RVOSDataset

MEGABYTE = 2**20


def write_annotations(root, num_videos, num_frames=27, num_expressions=4):
    """The annotation files and the (empty) folders of a train split; no frames."""
    names = [f'{5 * t:05d}' for t in range(num_frames)]
    videos, objects = {}, {}
    for number in range(num_videos):
        video_id = f'{number * 2654435761 % 2**40:010x}'
        for kind in ('JPEGImages', 'Annotations'):
            (root / 'train' / kind / video_id).mkdir(parents=True)
        expressions = {
            str(e): {
                'exp': f'a person {e} in a red shirt number {number} walking to the left side',
                'obj_id': str(1 + e // 2),
            }
            for e in range(num_expressions)
        }
        videos[video_id] = {'frames': names, 'expressions': expressions}
        objects[video_id] = {'objects': {str(k): {'category': 'person'} for k in (1, 2)}}
    for path, content in (
        ('meta_expressions/train/meta_expressions.json', videos),
        ('train/meta.json', objects),
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(json.dumps({'videos': content}))
    return root


def share_of_memory():
    """What this process has for itself and its share of what it shares with others, bytes."""
    for line in Path('/proc/self/smaps_rollup').read_text().splitlines():
        if line.startswith('Pss:'):
            return 1024 * int(line.split()[1])
    raise AssertionError('no Pss in smaps_rollup')


def read_items(dataset, barrier, queue):
    for index in range(len(dataset)):
        dataset.get_data_info(index)
    barrier.wait()  # all processes are alive and have touched what they touch
    queue.put(share_of_memory())
    barrier.wait()


def measure(root, num_workers, queue):
    """Put the seconds to build the dataset, and the memory of this process and all workers."""
    start = time.process_time()
    dataset = RVOSDataset(root)
    seconds = time.process_time() - start
    context = multiprocessing.get_context('fork')
    barrier, parts = context.Barrier(num_workers + 1), context.Queue()
    workers = [
        context.Process(target=read_items, args=(dataset, barrier, parts))
        for _ in range(num_workers)
    ]
    for worker in workers:
        worker.start()
    read_items(dataset, barrier, parts)
    queue.put((seconds, sum(parts.get() for _ in range(num_workers + 1)), len(dataset)))
    for worker in workers:
        worker.join()


def run(root, num_workers):
    context = multiprocessing.get_context('spawn')
    queue = context.Queue()
    process = context.Process(target=measure, args=(root, num_workers, queue))
    process.start()
    result = queue.get(timeout=300)
    process.join()
    return result


@pytest.mark.slow
def test_annotations_of_4000_videos_take_less_than_60_megabytes(tmp_path):
    if not Path('/proc/self/smaps_rollup').exists():
        pytest.skip('shared memory is measured by /proc/self/smaps_rollup, which only Linux has')
    large = write_annotations(tmp_path / 'large', 4000)
    small = write_annotations(tmp_path / 'small', 10)
    used = {}
    for num_workers in (0, 4):
        seconds, memory, length = run(large, num_workers)
        _, floor, _ = run(small, num_workers)
        used[num_workers] = (memory - floor) / MEGABYTE
        assert length == 4000 * 4 * 6
        assert seconds < 5
    print({'seconds': seconds, **used})
    assert max(used.values()) < 60, used
