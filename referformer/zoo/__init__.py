"""Models that come with the package: each a folder of config, weights, tokenizer and log."""

from pathlib import Path

_FOLDER = Path(__file__).parent


def shipped_models() -> list[str]:
    """Their names."""
    return sorted(path.parent.name for path in _FOLDER.glob('*/config.py'))


def find_config(config: str | Path) -> Path:
    """The config file of a shipped model's name; anything else is returned as a path."""
    if str(config) in shipped_models():
        return _FOLDER / str(config) / 'config.py'
    return Path(config)


def find_checkpoint(config: str | Path, checkpoint: str | Path | None) -> Path | None:
    """The given checkpoint, or without one the weights that come with a shipped model.

    Args:
        config: A config file, or the name of a shipped model.
        checkpoint: Wins, where it is given.
    """
    if checkpoint is not None:
        return Path(checkpoint)
    weights = find_config(config).parent / 'model.safetensors'
    return weights if weights.is_relative_to(_FOLDER) else None
