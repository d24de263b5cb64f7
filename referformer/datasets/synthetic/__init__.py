"""A small, honest Ref-YouTube-VOS: videos of moving shapes with sentences true of one of them."""

from .scene import COLOURS, HELD_OUT, MOTIONS, SHAPES, SIZES, Scene, SceneObject
from .sentences import KINDS, VOCABULARY, Expression
from .tokenizer import train_tokenizer
from .video import SyntheticVideo, make_video
from .writer import generate_dataset

__all__ = [
    'COLOURS',
    'HELD_OUT',
    'KINDS',
    'MOTIONS',
    'SHAPES',
    'SIZES',
    'VOCABULARY',
    'Expression',
    'Scene',
    'SceneObject',
    'SyntheticVideo',
    'generate_dataset',
    'make_video',
    'train_tokenizer',
]
