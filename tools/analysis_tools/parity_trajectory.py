"""Optimiser steps of the official training (``trajectory/<backbone>.npz``), and this project's.

The steps are those of a training: the leaf config of the backbone with its optimiser, parameter
groups, clipping and scheduler, and the model's ``train_step``. As in the stored run, dropouts are 0
and the rate is divided by 10 after step 6.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import build_optim_wrapper
from parity_cases import (
    CONFIGS,
    LAYERS,
    LOSSES,
    Case,
    Fixtures,
    Measures,
    official_parameters,
)

from referformer.registry import PARAM_SCHEDULERS, build

_LEAVES = {
    'resnet50': 'r50',
    'resnet101': 'r101',
    'swin_t_p4w7': 'swin-t',
    'swin_l_p4w7': 'swin-l',
    'video_swin_t_p4w7': 'vswin-t',
    'video_swin_s_p4w7': 'vswin-s',
    'video_swin_b_p4w7': 'vswin-b',
}
# Prefix of the arrays: name of the tolerances, factor of the rates, how many steps are comparable.
_RUNS = {'': ('factor 0.1', 0.1, 10), 'x1.': ('factor 1', 1.0, 4)}
_VALUES_AT = (1, 5, 10)


def trajectories(root: Path) -> list[str]:
    """Backbones of which a trajectory is stored."""
    return [path.stem for path in sorted((root / 'trajectory').glob('*.npz'))]


def check_trajectory(fixtures: Fixtures, backbone: str) -> tuple[Measures, str]:
    """Train from the stored start, and compare every step.

    Returns:
        The largest difference in units of its tolerance (1 at most), matched queries that differ,
        parameters whose rate or decay differ; and which difference is largest in each run.

    Raises:
        ValueError: No config has this backbone.
    """
    if backbone not in _LEAVES:
        raise ValueError(f'trajectory/{backbone}.npz: no config for it, only {", ".join(_LEAVES)}')
    measures = {'tolerances': 0.0, 'match': 0.0, 'groups': 0.0}
    notes = []
    for prefix, (name, *_) in _RUNS.items():
        shares, wrong = Trajectory(fixtures, backbone, prefix).run()
        worst = max(shares, key=shares.get)
        notes.append(f'{name}: {worst} at {shares[worst]:.2f} of its tolerance')
        measures['tolerances'] = max(measures['tolerances'], shares[worst])
        for key, count in wrong.items():
            measures[key] += count
    return measures, '; '.join(notes)


class Trajectory:
    """One run of ``trajectory/<backbone>.npz``.

    Args:
        fixtures: Those of :class:`Case`.
        backbone: Its official name.
        prefix: Of the arrays, a key of ``_RUNS``.
    """

    def __init__(self, fixtures: Fixtures, backbone: str, prefix: str = '') -> None:
        folder = fixtures.root / 'trajectory'
        arrays = np.load(folder / f'{backbone}.npz')
        self.told = json.loads((folder / f'{backbone}.json').read_text())
        self.stored = {key.removeprefix(prefix): arrays[key] for key in arrays.files}
        tolerances, self.factor, self.num_steps = _RUNS[prefix]
        self.tolerances = self.told['tolerances'][tolerances]
        config = Config.fromfile(CONFIGS / f'referformer_{_LEAVES[backbone]}_ytvos.py')
        config.merge_from_dict(_without_dropout(config))
        config.optim_wrapper.optimizer.lr *= self.factor
        model = fixtures.model(backbone, 'batch', self.told['options'], config.model)
        self.cases = {
            name: Case(fixtures, f'{backbone}/{name}', model)
            for name in dict.fromkeys(self.told['cases'])
        }
        self.model = model.train()
        MMLogger.get_instance('trajectory', log_level='ERROR')  # it lists every parameter
        self.optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
        scheduler = {**config.param_scheduler, 'milestones': [6], 'optimizer': self.optim_wrapper}
        self.scheduler = build(scheduler, PARAM_SCHEDULERS)
        self.names = json.loads(str(self.stored['param.names']))
        found = {n: p for n, p in official_parameters(model) if p.requires_grad}
        if set(found) != set(self.names):
            raise ValueError(f'other parameters are trained: {set(found) ^ set(self.names)}')
        self.parameters = [found[name] for name in self.names]

    def run(self, num_steps: int | None = None) -> tuple[dict[str, float], dict[str, int]]:
        """Train, by default all steps.

        Returns:
            Differences in units of their tolerances; how much that must be equal is not.
        """
        shares: dict[str, float] = {}
        wrong = {'match': 0, 'groups': 0}
        start = [p.detach().clone() for p in self.parameters]
        for step in range(num_steps or self.num_steps):
            wrong['groups'] += self._wrong_groups(step)
            differences, query = self._step(self.told['cases'][step], step, start)
            wrong['match'] += self._wrong_matches(query, step)
            allowed = self.tolerances['steps'][step]
            for key, value in differences.items():
                shares[f'{key} of step {step + 1}'] = value / allowed[key]
            if step + 1 in _VALUES_AT:
                allowed = self.tolerances['values_in_units_of_lr'][str(step + 1)]
                for key, value in _summary('values', self._values(start, step)).items():
                    name = key.removeprefix('values_')
                    shares[f'{key} of step {step + 1}'] = value / allowed[name]
        return shares, wrong

    def _step(
        self, name: str, step: int, start: list[torch.Tensor]
    ) -> tuple[dict[str, float], torch.Tensor]:
        """One step of the training, and its differences."""
        case, queries, gradients = self.cases[name], [], {}
        hooks = [
            p.register_post_accumulate_grad_hook(
                lambda p, i=i: gradients.__setitem__(i, p.grad.double().norm().item())
            )
            for i, p in enumerate(self.parameters)
        ]
        matcher = self.model.criterion.matcher
        hooks.append(matcher.register_forward_hook(lambda *args: queries.append(args[-1])))
        clips, samples = case.clips()
        case.give_tokens()
        logged = self.model.train_step(
            {'inputs': clips, 'data_samples': samples}, self.optim_wrapper
        )
        self.scheduler.step()
        for hook in hooks:
            hook.remove()
        norm = MessageHub.get_current_instance().get_scalar('train/grad_norm').current()
        moved = np.array(
            [
                (p.detach().double() - q.double()).norm().item()
                for p, q in zip(self.parameters, start)
            ]
        )
        norms = np.array([gradients[i] for i in range(len(self.parameters))])
        truth = {key: self.stored[key][step] for key in ('grad.norms', 'delta.norms')}
        total, grad = (self.stored[k][step] for k in ('loss.weighted_total', 'grad.total_norm'))
        return {
            'total_rel': abs(logged['loss'].item() - total) / total,
            'loss_abs': self._loss_difference(logged, step),
            'grad_norm_rel': abs(norm - grad) / grad,
            **_summary('param_grad_rel', _relative(norms, truth['grad.norms']), ('median', 'p95')),
            **_summary('delta_rel', _relative(moved, truth['delta.norms'])),
        }, queries[0]

    def _loss_difference(self, logged: dict[str, torch.Tensor], step: int) -> float:
        """The largest, of the losses before their weights."""
        worst = 0.0
        stored = dict(
            zip(json.loads(str(self.stored['loss.names'])), self.stored['loss.values'][step])
        )
        for layer in range(len(LAYERS)):
            last = layer == len(LAYERS) - 1
            for ours, theirs in LOSSES.items():
                weight = getattr(self.model.criterion, f'loss_{ours}').weight
                value = logged[f'loss_{ours}' if last else f'd{layer}.loss_{ours}'].item() / weight
                truth = stored[f'loss_{theirs}' + ('' if last else f'_{layer}')]
                worst = max(worst, abs(value - truth))
        return worst

    def _wrong_matches(self, query: torch.Tensor, step: int) -> int:
        stored = self.stored['match.query'][step]  # -1 where there is no second sample
        return int((query.numpy() != stored[:, : query.shape[1]]).sum())

    def _wrong_groups(self, step: int) -> int:
        """How many parameters have another rate or decay than in the official run."""
        settings = {
            id(p): (group['lr'], group['weight_decay'])
            for group in self.optim_wrapper.param_groups
            for p in group['params']
        }
        return sum(
            not np.allclose(settings[id(p)], (self.stored['lr'][step][group], told[2]), rtol=1e-9)
            for p, group, told in zip(
                self.parameters,
                self.stored['param.group'],
                (self.told['parameters'][name] for name in self.names),
            )
        )

    def _values(self, start: list[torch.Tensor], step: int) -> np.ndarray:
        """For each parameter, the largest difference of its stored values in units of its rate."""
        first, spread = (self.stored[f'{k}.step{step + 1}'] for k in ('first8', 'spread32'))
        worst = []
        for i, parameter in enumerate(self.parameters):
            values = parameter.detach().double().flatten().numpy()
            n = len(values)
            places = np.round(np.linspace(0, n - 1, min(n, 32))).astype(int)
            found = np.concatenate([values[:8], values[places]])
            truth = np.concatenate([first[i][: min(n, 8)], spread[i][: len(places)]])
            rate = self.stored['lr'][0][self.stored['param.group'][i]]
            worst.append(np.abs(found - truth).max() / rate)
        return np.array(worst)


def _without_dropout(config: Config) -> dict[str, Any]:
    options = {
        'model.text_encoder.dropout': 0.0,
        'model.text_encoder.model.hidden_dropout_prob': 0.0,
        'model.text_encoder.model.attention_probs_dropout_prob': 0.0,
        'model.transformer.dropout': 0.0,
        'model.pixel_decoder.dropout': 0.0,
    }
    if config.model.backbone.type != 'ResNet':
        options['model.backbone.drop_path'] = 0.0
    return options


def _relative(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.abs(found - truth) / np.maximum(truth, np.finfo(float).tiny)


def _summary(
    name: str, values: np.ndarray, kinds: tuple[str, ...] = ('median', 'p95', 'max')
) -> dict[str, float]:
    numbers = {
        'median': np.median(values),
        'p95': np.percentile(values, 95),
        'max': values.max(),
    }
    return {f'{name}_{kind}': float(numbers[kind]) for kind in kinds}
