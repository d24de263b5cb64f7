"""The official model's stored numbers (layout of ../shared/parity), and this model's."""

import importlib.util
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from referformer.engine.checkpoint import check_keys
from referformer.engine.conversion import backbone_kind, convert_to_ours, model_options
from referformer.engine.official_names import to_official
from referformer.registry import MODELS, build
from referformer.structures import Predictions, RVOSDataSample
from referformer.structures.targets import stack_targets

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
# Largest difference from the official numbers.
TOLERANCES = {
    'logits': 1e-4,
    'boxes': 1e-4,
    'masks': 2e-3,  # logits of up to about 16
    'points': 1e-4,  # reference points that enter the last layer
    'pixels': 1e-4,  # share of predicted pixels that differ
    'match': 0,  # matched queries that differ
    'costs': 1e-4,  # relative; of every query in every layer
    'loss': 1e-4,  # relative
    'grad': 1e-3,  # relative; norm of every parameter's gradient
    'tolerances': 1,  # of a trajectory: differences in units of their own tolerances
    'groups': 0,  # parameters, by step, whose learning rate or weight decay differs
}
LAYERS = ('aux0', 'aux1', 'aux2', 'final')
LOSSES = {'cls': 'ce', 'bbox': 'bbox', 'giou': 'giou', 'mask': 'mask', 'dice': 'dice'}
# A ReLU whose input is 0 but for rounding lets the whole gradient pass or nothing, by the machine's
# order of summation. Where gradients differ, inputs that differ by such rounding are tried as well.
_ROUNDING = 2.0**-22
_TRIES = 8
# Gradients below this share of the total norm are only rounding (the bias of attention keys).
_SMALLEST_GRADIENT = 1e-6

Measures = dict[str, float]


class Fixtures:
    """A folder of fixtures, and the models they belong to.

    Building and seeding a model costs more than running it: text encoder, backbone and seeded
    weights are kept from case to case.

    Args:
        root: Holds ``weights.py``, ``manifest_<backbone>.json`` and ``<backbone>/<case>.npz``.
        backend: Of the deformable attention.

    Raises:
        FileNotFoundError: There is no such folder, or nothing in it.
    """

    def __init__(self, root: Path, backend: str = 'auto') -> None:
        self.root = Path(root)
        if not (self.root / 'weights.py').is_file():
            raise FileNotFoundError(
                f'{root} has no weights.py: name a folder with the fixtures of the official model, '
                'as described in its README.md'
            )
        self.backend = backend
        self.rule = _load_module(self.root / 'weights.py')
        self._weights: dict[str, Tensor] = {}
        self._parts: dict[str, nn.Module] = {}
        self._backbone = ''
        init_default_scope('referformer')

    def cases(self) -> list[str]:
        """``<backbone>/<case>`` of all that is there, by backbone."""
        manifests = sorted(self.root.glob('manifest_*.json'))
        names = [path.stem.removeprefix('manifest_') for path in manifests]
        return [f'{n}/{p.stem}' for n in names for p in sorted((self.root / n).glob('*.npz'))]

    def manifest(self, backbone: str) -> dict[str, Any]:
        """Options and parameters of the official model with this backbone."""
        return json.loads((self.root / f'manifest_{backbone}.json').read_text())

    def official_state(self, backbone: str, case: str, refine: bool) -> dict[str, Tensor]:
        """The official state dict, every parameter by its rule."""
        manifest = self.manifest(backbone)
        variant = manifest.get('variants', {}).get(case, {})
        entries = {**manifest['state_dict'], **variant.get('changed', {})}
        state = {}
        for key, entry in entries.items():
            if key in variant.get('missing', ()) or not entry['dtype'].startswith('float'):
                continue
            name = self.rule.canonical_name(key, refine)
            shape = tuple(entry['shape'])
            known = self._weights.get(name)
            if known is None or known.shape != shape:
                known = torch.from_numpy(self.rule.official_weight(name, shape))
                self._weights[name] = known
            state[key] = known
        return state

    def model(
        self,
        backbone: str,
        case: str,
        options: dict[str, Any],
        model: ConfigDict | None = None,
    ) -> nn.Module:
        """The model of a case, with the official weights brought in as a checkpoint's would be.

        By default it is as its weights tell; ``model`` is a config of it.
        """
        if backbone != self._backbone:
            self._weights = {k: v for k, v in self._weights.items() if not k.startswith('backbone')}
            self._backbone = backbone
        state = self.official_state(backbone, case, options['with_box_refine'])
        state = convert_to_ours(state).state
        if model is None:
            config = Config.fromfile(CONFIGS / '_base_' / 'models' / 'referformer.py')
            config.merge_from_dict({'model': model_options(state)})
            model = config.model
        if options['dilation']:
            model.backbone.dilation = True
        model.transformer.attention.backend = self.backend
        model.text_encoder.update(frozen=True, pretrained=None)
        model = model.to_dict()
        model['backbone'] = self._part('backbone', model['backbone'])
        model['text_encoder'] = self._part(
            'text_encoder', model['text_encoder'], out_channels=model['transformer']['embed_dim']
        )
        model = MODELS.build(model).eval()
        check_keys(model.state_dict(), {'state_dict': state}, f'{backbone}/{case}')
        model.load_state_dict(state, strict=False)
        model.text_encoder.frozen = options['freeze_text_encoder']
        model.text_encoder.encoder.requires_grad_(not model.text_encoder.frozen)
        model.zero_grad()
        return model

    def _part(self, name: str, config: dict, **derived: Any) -> nn.Module:
        key = f'{name} {config}'
        if key not in self._parts:
            for old in [k for k in self._parts if k.startswith(f'{name} ')]:
                del self._parts[old]
            self._parts[key] = build(config, **derived)
        return self._parts[key]


class Case:
    """One ``<backbone>/<case>.npz`` and its model, by default the one made for it."""

    def __init__(self, fixtures: Fixtures, name: str, model: nn.Module | None = None) -> None:
        self.name = name
        backbone, case = name.split('/')
        self.arrays = np.load(fixtures.root / f'{name}.npz')
        options = json.loads(str(self.arrays['meta']))['options']
        self.model = model or fixtures.model(backbone, case, options)
        self.give_tokens()

    def give_tokens(self) -> None:
        """Make this case's tokens those that the model's tokenizer gives."""
        tokens = {key: self.tensor(f'in.{key}') for key in ('input_ids', 'attention_mask')}
        self.model.text_encoder._tokenizer = lambda texts, **options: tokens

    def tensor(self, key: str) -> Tensor:
        """A stored array."""
        return torch.from_numpy(self.arrays[key])

    def check(self) -> tuple[Measures, str]:
        """Differences from the official numbers, and a note on the gradients."""
        inputs, samples = self.batch()
        note = ''
        with_losses = 'loss.num_boxes' in self.arrays
        with torch.set_grad_enabled(with_losses):
            predictions = self.model(inputs, samples, mode='tensor')
        measures = self._check_outputs(predictions)
        if with_losses:
            measures.update(self._check_losses(predictions, inputs, samples))
        if 'grad.names' in self.arrays:
            measures['grad'], note = self._check_gradients()
            if measures['grad'] > TOLERANCES['grad']:
                measures['grad'], note = self._retry_gradients(
                    inputs, samples, measures['grad'], note
                )
        measures.update(self._check_predict(inputs, samples))
        return measures, note

    def _retry_gradients(
        self, inputs: Tensor, samples: list[RVOSDataSample], first: float, worst: str
    ) -> tuple[float, str]:
        """The gradients of the nearest of several inputs that differ in their last bits."""
        generator = torch.Generator().manual_seed(0)
        best = first, worst
        for tried in range(1, _TRIES + 1):
            noise = torch.randn(inputs.shape, generator=generator) * _ROUNDING
            self.model.zero_grad()
            losses = self.model.loss(inputs * (1 + noise), samples)
            sum(losses.values()).backward()
            error, name = self._check_gradients()
            if error <= TOLERANCES['grad']:
                return error, f'grad {first:.1e} at {worst}, within rounding of the input ({tried})'
            best = min(best, (error, name))
        return best

    def mask_iou(self, dtype: torch.dtype) -> float:
        """Mean IoU of the binarised masks under autocast with the official float32 ones."""
        inputs, samples = self.batch()
        mixed = torch.autocast('cpu', dtype) if dtype != torch.float32 else nullcontext()
        with torch.no_grad(), mixed:
            masks = self.model(inputs, samples, mode='tensor').masks[-1].float() > 0
        truth = self.tensor('out.pred_masks') > 0  # (B, T, Q, h, w)
        inter = (masks & truth).sum((1, 3, 4)).double()
        union = (masks | truth).sum((1, 3, 4)).double()
        return torch.where(union > 0, inter / union, 1.0).mean().item()

    def batch(self) -> tuple[Tensor, list[RVOSDataSample]]:
        """Clips, as bytes, through the model's own preprocessor; samples with their truth."""
        clips, samples = self.clips()
        preprocessor = self.model.data_preprocessor
        padded = int(self.arrays['in.size_divisibility']) == preprocessor.train_divisor
        data = preprocessor({'inputs': clips, 'data_samples': samples}, training=padded)
        return data['inputs'], samples

    def clips(self) -> tuple[list[Tensor], list[RVOSDataSample]]:
        """What a data loader gives: clips as bytes, samples with their truth."""
        B = len(self.arrays['in.sizes'])
        preprocessor = self.model.data_preprocessor
        clips, samples = [], []
        for i in range(B):
            pixels = self.tensor(f'in.images_{i}') * preprocessor.std + preprocessor.mean
            clips.append((pixels * 255).round().to(torch.uint8))
            size = tuple(self.arrays['in.sizes'][i].tolist())
            meta = {'text': f'sentence {i}', 'img_shape': size, 'ori_shape': size}
            if 'in.valid_indices' in self.arrays:
                meta['key_frames'] = [int(self.arrays['in.valid_indices'][i])]
            sample = RVOSDataSample(metainfo=meta)
            if f'tgt.labels_{i}' in self.arrays:
                sample.gt_instances = InstanceData(
                    labels=self.tensor(f'tgt.labels_{i}')[:1],
                    boxes=self.tensor(f'tgt.boxes_{i}')[None],
                    masks=torch.from_numpy(unpack(self.arrays, f'tgt.masks_{i}'))[None],
                    valid=self.tensor(f'tgt.valid_{i}').bool()[None],
                )
            samples.append(sample)
        return clips, samples

    def _check_outputs(self, predictions: Predictions) -> Measures:
        measures = {}
        for name, values in zip(('logits', 'boxes', 'masks'), predictions):
            keys = [*(f'out.{layer}.pred_{name}' for layer in LAYERS[:-1]), f'out.pred_{name}']
            measures[name] = max(difference(v, self.tensor(k)) for v, k in zip(values, keys))
        return measures

    def _check_losses(
        self, predictions: Predictions, inputs: Tensor, samples: list[RVOSDataSample]
    ) -> Measures:
        seen = {}

        def remember(matcher: nn.Module, args: tuple, output: Tensor) -> None:
            seen.update(costs=matcher.costs(*args), query=output)

        criterion = self.model.criterion
        with criterion.matcher.register_forward_hook(remember):
            losses = criterion(predictions, stack_targets(samples, inputs.shape[-2:]))
        sum(losses.values()).backward()
        query = torch.stack([self.tensor(f'match.{layer}.query') for layer in LAYERS])
        costs = torch.stack([self.tensor(f'match.{layer}.cost') for layer in LAYERS])
        worst = 0.0
        for ours, theirs in LOSSES.items():
            weight = getattr(criterion, f'loss_{ours}').weight
            for layer in range(len(LAYERS)):
                last = layer == len(LAYERS) - 1
                value = losses[f'loss_{ours}' if last else f'd{layer}.loss_{ours}'].item() / weight
                truth = float(self.arrays[f'loss.loss_{theirs}' + ('' if last else f'_{layer}')])
                worst = max(worst, abs(value - truth) / abs(truth))
        return {
            'match': (seen['query'] != query).sum().item(),
            'costs': ((seen['costs'] - costs).abs() / costs.abs().clamp(min=1)).max().item(),
            'loss': worst,
        }

    def _check_gradients(self) -> tuple[float, str]:
        """Largest relative difference of a gradient's norm, and the official name of the parameter.

        Raises:
            AssertionError: Other parameters have gradients than in the official model.
        """
        names = json.loads(str(self.arrays['grad.names']))
        norms = dict(zip(names, self.arrays['grad.norms'].tolist()))
        total = float(self.arrays['grad.total_norm'])
        found = {}
        for name, parameter in official_parameters(self.model):
            if parameter.grad is not None:
                found[name] = parameter.grad.double().norm().item()
        assert set(found) == set(norms), f'gradients of other parameters: {set(found) ^ set(norms)}'
        smallest = total * _SMALLEST_GRADIENT
        errors = {n: abs(found[n] - norms[n]) / max(norms[n], smallest) for n in norms}
        errors['total'] = abs(sum(g * g for g in found.values()) ** 0.5 - total) / total
        worst = max(errors, key=errors.get)
        return errors[worst], worst

    def _check_predict(self, inputs: Tensor, samples: list[RVOSDataSample]) -> Measures:
        """The same by way of ``predict``, which takes short cuts, at the size of the input."""
        self.model.test_cfg['keep'] = 'all'
        samples = self.model.predict(inputs, samples)
        points, wrong, pixels = 0.0, 0, 0
        for i, sample in enumerate(samples):
            h, w = sample.ori_shape
            found = sample.pred_instances
            truth = self.tensor('out.reference_points')[i].transpose(0, 1)
            points = max(
                points, difference(found.reference_points / truth.new_tensor([w, h]), truth)
            )
            logits = self.tensor('out.pred_masks')[i].transpose(0, 1)
            big = nn.functional.interpolate(logits, (h, w), mode='bilinear')
            wrong += (found.masks != (big > 0)).sum().item()
            pixels += found.masks.numel()
        return {'points': points, 'pixels': wrong / pixels}


def official_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The model's parameters by their official names."""
    backbone = backbone_kind(model.state_dict())
    for name, parameter in model.named_parameters():
        official = to_official(name, backbone)
        # PyTorch lists a shared parameter by the first of its names: that of the decoder.
        if model.transformer.with_box_refine and official.startswith('bbox_embed.'):
            official = f'transformer.decoder.{official}'
        yield official, parameter


def difference(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference; infinite where a value is not a number."""
    assert a.shape == b.shape, f'{tuple(a.shape)} is not {tuple(b.shape)}'
    return (a.detach().double() - b.double()).abs().nan_to_num(nan=float('inf')).max().item()


def unpack(arrays: Any, name: str) -> np.ndarray:
    """A bool array stored as ``<name>.packed`` and ``<name>.shape``."""
    shape = arrays[f'{name}.shape']
    return np.unpackbits(arrays[f'{name}.packed'])[: np.prod(shape)].reshape(shape).astype(bool)


def _load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location('parity_weights', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
