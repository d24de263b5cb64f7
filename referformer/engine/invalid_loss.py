"""Losses and weights that are nan or infinite: found at once on every process, and replayed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement, InstanceData
from torch import Tensor, nn

from ..registry import HOOKS
from ..structures import RVOSDataSample
from .loops import seed_step


@HOOKS.register_module()
class InvalidLossHook(Hook):
    """Log the losses' mean over all processes; stop all of them when one is nan or infinite.

    So it is when a step made a weight nan or infinite. No checkpoint has such weights. The message
    names the iteration, the process, its losses and samples, and a command that goes through the
    step again with the batch, which is kept in the work dir.

    Args:
        interval: Not used any more (every iteration is judged); configs of earlier versions have
            it.
    """

    priority = 'HIGHEST'  # before MMEngine's hook notes the losses

    def __init__(self, interval: int = 1) -> None:
        del interval

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        """Judge, and put the means in the place of the losses."""
        losses = {k: v.detach() for k, v in (outputs or {}).items() if isinstance(v, Tensor)}
        if not losses:
            return
        values = torch.stack([value.double().mean() for value in losses.values()])
        judged = torch.cat([values, _norm(runner.model)[None].to(values)])
        finite = judged.isfinite()
        if get_world_size() > 1:
            all_reduce(judged, 'mean')
            outputs.update({name: mean.to(losses[name]) for name, mean in zip(losses, judged)})
        if judged.isfinite().all():
            return
        bad = [name for name, ok in zip(losses, finite.tolist()) if not ok]
        # A gradient is that of all processes: where all losses are finite, each may be the cause.
        somewhere = any(all_gather_object(bool(bad)))
        verdict = self._verdict(runner, bad, data_batch) if bad or not somewhere else ''
        raise ValueError(
            f'iteration {runner.iter + 1}: '
            + ' '.join(filter(None, all_gather_object(verdict)))
            + ' Look at these samples; else lower the learning rate, clip gradients '
            '(optim_wrapper.clip_grad), or train without --amp.'
        )

    def _verdict(self, runner: Runner, bad: list[str], data_batch: Any) -> str:
        path = Path(runner.work_dir, 'invalid', f'iter_{runner.iter + 1}_rank_{get_rank()}.pth')
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {'seed': runner.seed, 'iter': runner.iter, 'rank': get_rank(), 'batch': data_batch}
        torch.save(kept, path)
        config = Path(runner.work_dir, Path(runner.cfg.filename or 'CONFIG').name)
        what = ', '.join(bad) if bad else 'losses finite, weights after the step'
        where = f' on rank {get_rank()}' if get_world_size() > 1 else ''
        samples = ', '.join(_sample_names(data_batch)) or 'unknown'
        return (
            f'{what} not finite{where}, samples (video/expression): {samples}. To replay: '
            f'referformer train {config} --work-dir {runner.work_dir} --resume --replay {path}.'
        )


def replay(runner: Runner, path: str | Path) -> str:
    """Go through a step again with a batch that :class:`InvalidLossHook` kept.

    Args:
        runner: Its model starts from ``load_from``.
        path: The file of the batch.

    Returns:
        The losses, the operation in which a gradient turned nan, the parameters concerned.

    Raises:
        ValueError: The file is none.
    """
    kept = read_batch(path)
    model = runner.model
    model.init_weights()
    optimizer = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.load_or_resume()
    model.train()
    seed_step(kept['seed'], kept['iter'], kept['rank'])
    with optimizer.optim_context(model):
        data = model.data_preprocessor(kept['batch'], True)
        loss, losses = model.parse_losses(model(**data, mode='loss'))
    lines = [f'iteration {kept["iter"] + 1} with the weights of {runner._load_from}']
    lines += [f'  {name}: {value.item():g}' for name, value in losses.items()]
    loss.backward(retain_graph=True)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    bad = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
    lines.append(f'  {len(bad)} of {len(gradients)} gradients not finite: {", ".join(bad[:10])}')
    try:
        with torch.autograd.set_detect_anomaly(True):
            loss.backward()
    except RuntimeError as error:
        lines.append(f'  {error}')
    return '\n'.join(lines)


def read_batch(path: str | Path) -> dict[str, Any]:
    """What :class:`InvalidLossHook` kept; nothing in the file is run.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else.
    """
    try:
        with torch.serialization.safe_globals([BaseDataElement, InstanceData, RVOSDataSample]):
            kept = torch.load(path, weights_only=True)
        return {key: kept[key] for key in ('seed', 'iter', 'rank', 'batch')}
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever damaged bytes bring about
        raise ValueError(
            f'{path} is no batch that a training kept (invalid/*.pth in its work dir)'
        ) from error


def _norm(model: nn.Module) -> Tensor:
    """Nan or infinite where a trained parameter is."""
    parameters = [p.detach() for p in model.parameters() if p.requires_grad]
    return torch.stack(torch._foreach_norm(parameters)).norm()


def _sample_names(data_batch: Any) -> list[str]:
    samples = data_batch.get('data_samples') if isinstance(data_batch, Mapping) else None
    return [
        f'{sample.get("video_id", "?")}/{sample.get("exp_id", "?")}'
        for sample in samples or []
        if hasattr(sample, 'get')
    ]
