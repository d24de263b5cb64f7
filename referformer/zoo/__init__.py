"""Models by name: folders that come with the package, and published weights fetched on first use.

``names`` says which there are and needs nothing else of the package; ``download`` gets files from
anywhere, and ``weights`` turns them into checkpoints of ours.
"""

from .names import (
    DEFAULT_MODEL,
    PublishedModel,
    find_config,
    list_models,
    package_root,
    published_models,
    shipped_models,
)

__all__ = [
    'DEFAULT_MODEL',
    'PublishedModel',
    'find_config',
    'list_models',
    'package_root',
    'published_models',
    'shipped_models',
]
