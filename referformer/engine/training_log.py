"""Reading the logs that MMEngine leaves in the work dir of a training."""

import json
import math
import re
from pathlib import Path

LOGS = '*/vis_data/scalars.json'  # in a work dir, one for each start
Curve = list[tuple[int, float]]  # (iteration, value) pairs


def logs_of(work_dir: Path) -> list[Path]:
    """The logs of the newest run in ``work_dir`` and of the runs it was resumed from, in order.

    Raises:
        FileNotFoundError: There is no log.
        ValueError: No log has a loss yet.
    """
    logs = sorted(work_dir.glob(LOGS))
    if not logs:
        raise FileNotFoundError(
            f'no log in {work_dir}: expected <time stamp>/vis_data/scalars.json, '
            'as `referformer train` writes it'
        )
    trainings = [log for log in logs if any('loss' in row for row in read_rows(log))]
    if not trainings:
        raise ValueError(f'{logs[-1]} has no loss yet; wait for the first line of the training log')
    starts = [i for i, log in enumerate(trainings) if not _resumed(log)]
    return trainings[starts[-1] if starts else 0 :]


def read_log(work_dir: Path) -> tuple[Curve, dict[str, Curve]]:
    """The curves of the newest run in ``work_dir``, with the runs it was resumed from.

    Returns:
        (iteration, loss) pairs; for 'J&F' and 'J&F_swapped', (iteration, percent) pairs.

    Raises:
        FileNotFoundError, ValueError: See :func:`logs_of`.
    """
    losses: dict[int, float] = {}
    scores: dict[str, dict[int, float]] = {}
    for log in logs_of(work_dir):
        # MMEngine numbers validations by epoch or by iteration, as configured: here each belongs
        # to the iteration logged before it.
        iteration = 0
        for row in read_rows(log):
            if 'loss' in row:
                # A run that was resumed from an older checkpoint goes over some iterations again.
                iteration = row['iter']
                losses[iteration] = row['loss']
            for name, value in row.items():
                name = name.rsplit('/')[-1]  # without the prefix a config may give its metric
                if name in ('J&F', 'J&F_swapped') and math.isfinite(value):
                    scores.setdefault(name, {})[iteration] = value
    return sorted(losses.items()), {name: sorted(curve.items()) for name, curve in scores.items()}


def read_rows(log: Path) -> list[dict]:
    """What MMEngine logged, a dict for each line."""
    rows = []
    for line in log.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break  # a run that was killed can leave half a line at the end
    return rows


def _resumed(log: Path) -> bool:
    config = log.with_name('config.py')
    return config.is_file() and re.search(r'^resume = True', config.read_text(), re.M) is not None
