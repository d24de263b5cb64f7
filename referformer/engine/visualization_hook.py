"""Pictures of predictions, drawn while a model is validated or tested."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from referformer.registry import HOOKS
from referformer.structures import RVOSDataSample
from referformer.visualization import RVOSVisualizer


@HOOKS.register_module()
class VisualizationHook(Hook):
    """Draws truth beside prediction for some samples, with sentence, score and J.

    Pictures go to ``<out_dir>/val_<iteration>/`` and ``<out_dir>/test/``. The main process draws,
    of the samples it has. Samples without truth are passed over.

    Args:
        interval: Draw every this many samples.
        max_samples: Draw at most this many in one validation or test.
        out_dir: Where to write; None: ``vis`` in the runner's log folder. The option
            ``--show-dir`` of ``tools/test.py`` sets it.
        max_frames: How many frames of a clip are drawn at most.
    """

    priority = 'LOW'

    def __init__(
        self,
        interval: int = 10,
        max_samples: int = 12,
        out_dir: str | Path | None = None,
        max_frames: int = 6,
    ) -> None:
        if interval < 1:
            raise ValueError(f'interval must be at least 1, got {interval}.')
        self.interval = interval
        self.max_samples = max_samples
        self.out_dir = out_dir
        self.max_frames = max_frames
        self._visualizer: RVOSVisualizer | None = None
        self._seen = self._drawn = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Start counting anew."""
        self._seen = self._drawn = 0

    def before_test_epoch(self, runner: Runner) -> None:
        """Start counting anew."""
        self._seen = self._drawn = 0

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict[str, Any] | None = None,
        outputs: Sequence[RVOSDataSample] | None = None,
    ) -> None:
        """Draw some of the batch."""
        self._draw(runner, data_batch, outputs, f'val_{runner.iter:06d}')

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict[str, Any] | None = None,
        outputs: Sequence[RVOSDataSample] | None = None,
    ) -> None:
        """Draw some of the batch."""
        self._draw(runner, data_batch, outputs, 'test')

    def _draw(
        self,
        runner: Runner,
        data_batch: dict[str, Any],
        samples: Sequence[RVOSDataSample],
        folder: str,
    ) -> None:
        if not is_main_process():
            return
        for clip, sample in zip(data_batch['inputs'], samples):
            wanted = self._seen % self.interval == 0 and self._drawn < self.max_samples
            self._seen += 1
            if not wanted or 'gt_instances' not in sample:
                continue
            self._drawn += 1
            out_dir = Path(self.out_dir or Path(runner.log_dir) / 'vis') / folder
            # An expression can be annotated on several frames, which are samples of their own.
            frame = sample.frame_names if len(clip) > len(sample.key_frames) == 1 else []
            name = '_'.join([sample.video_id, sample.exp_id, *frame]).replace('/', '_')
            self._get_visualizer(runner).add_datasample(
                name,
                clip.permute(0, 2, 3, 1).cpu().numpy(),
                sample,
                out_file=out_dir / f'{name}.png',
                step=runner.iter,
            )

    def _get_visualizer(self, runner: Runner) -> RVOSVisualizer:
        if isinstance(runner.visualizer, RVOSVisualizer):
            return runner.visualizer
        self._visualizer = self._visualizer or RVOSVisualizer('rvos')
        return self._visualizer
