"""A model, data and metric that train in milliseconds, for the tests of engine and tools."""

import time
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

from referformer.registry import DATASETS, METRICS, MODELS

REPO = Path(__file__).resolve().parents[1]


@MODELS.register_module()
class ToyModel(BaseModel):
    """Linear regression with dropout and batch norm, so that random numbers and buffers matter."""

    def __init__(
        self,
        width: int = 4,
        head: str = 'head',
        nan_from: float = float('inf'),
        nan_gradient_at: int = 0,
    ):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Dropout(0.5))
        setattr(self, head, nn.Linear(width, 1))
        self.head_name = head
        self.nan_from = nan_from
        self.nan_gradient_at = nan_gradient_at
        self.steps = 0

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = getattr(self, self.head_name)(self.body(torch.stack(inputs)))[:, 0]
        if mode == 'predict':
            for sample, value in zip(data_samples, out):
                sample.set_field(value, 'pred')
            return data_samples
        self.steps += 1
        loss = (out - 1).square().mean()
        if self.steps >= self.nan_from:
            loss = loss * torch.nan
        if self.steps == self.nan_gradient_at:
            loss = loss + (out - out.detach()).abs().sqrt().sum()  # 0, but its slope is infinite
        return {'loss_a': loss, 'loss_b': out.abs().mean()}


@DATASETS.register_module()
class ToyDataset(Dataset):
    """Eight random triples, with noise drawn at every access; ``log`` receives the noise.

    Those from ``nan_at`` on are nan; loading one takes so many ``seconds`` more.
    """

    metainfo = {'name': 'toy'}

    def __init__(
        self,
        size: int = 8,
        file: str | None = None,
        log: str | None = None,
        nan_at: int = -1,
        seconds: float = 0.0,
    ):
        if file is not None and not Path(file).is_file():
            raise FileNotFoundError(f'{file} not found: the toy data is missing')
        self.values = torch.randn(size, 3, generator=torch.Generator().manual_seed(0))
        self.log = log
        self.seconds = seconds
        self.values[nan_at if nan_at >= 0 else size :] = torch.nan

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        time.sleep(self.seconds)
        noise = torch.randn(3)
        if self.log:
            with open(self.log, 'a') as file:
                file.write(f'{index} {noise[0].item():.6f}\n')
        sample = BaseDataElement(metainfo={'video_id': 'toy', 'exp_id': str(index)})
        return {'inputs': self.values[index] + 0.1 * noise, 'data_samples': sample}


@METRICS.register_module()
class ToyMetric(BaseMetric):
    """The mean prediction, and a value that is not defined."""

    default_prefix = 'toy'

    def process(self, data_batch, data_samples):
        self.results += [float(sample['pred']) for sample in data_samples]

    def compute_metrics(self, results):
        return {'mean': sum(results) / len(results), 'undefined': float('nan')}


CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports=['toy_project'])
experiment_name = {name!r}
model = dict(type='ToyModel')
train_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dict(type='ToyDataset'),
    sampler=dict(type='DefaultSampler', shuffle=True))
val_dataloader = dict(
    batch_size=2, num_workers=0, dataset=dict(type='ToyDataset'),
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='ToyMetric')
test_evaluator = val_evaluator
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.01))
param_scheduler = dict(type='MultiStepLR', milestones=[1], gamma=0.1)
default_hooks = dict(logger=dict(interval=1))
"""


def write_config(folder: Path, name: str = 'toy', extra: str = '') -> Path:
    """A config in ``folder`` on top of the real default_runtime.py."""
    base = str(REPO / 'configs' / '_base_' / 'default_runtime.py')
    path = folder / f'{name}.py'
    # MMEngine keeps loggers and message hubs by experiment name: each run of a test needs its own.
    path.write_text(CONFIG.format(base=base, name=f'{folder.name}-{name}') + extra)
    return path
