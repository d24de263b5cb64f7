"""ReferFormer (Language as Queries for Referring Video Object Segmentation) on MMEngine."""

from .version import __version__

__all__ = ['__version__']
