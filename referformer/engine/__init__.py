"""What training and testing need beyond MMEngine."""

from .checkpoint import load_checkpoint, read_checkpoint
from .fsdp import ShardedOptimWrapper, ShardedStrategy
from .hooks import (
    EpochSeedHook,
    MatchingCheckpointHook,
    RemoveFilesHook,
    SafeCheckpointHook,
)
from .invalid_loss import InvalidLossHook
from .loops import ExactEpochLoop, ExactIterLoop
from .muon import MuonAdamW
from .optim_wrapper import BFloat16OptimWrapper
from .samplers import VideoBatchSampler, VideoSampler
from .visualization_hook import VisualizationHook

__all__ = [
    'BFloat16OptimWrapper',
    'EpochSeedHook',
    'ExactEpochLoop',
    'ExactIterLoop',
    'InvalidLossHook',
    'MatchingCheckpointHook',
    'MuonAdamW',
    'RemoveFilesHook',
    'SafeCheckpointHook',
    'ShardedOptimWrapper',
    'ShardedStrategy',
    'VideoBatchSampler',
    'VideoSampler',
    'VisualizationHook',
    'load_checkpoint',
    'read_checkpoint',
]
