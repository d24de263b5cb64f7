"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

# Tests never reach the network, whatever the machine's settings.
os.environ['HF_HUB_OFFLINE'] = '1'

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def shared_dir() -> Path:
    """The folder with the fixtures of the official model, outside the repository."""
    path = REPO.parent / 'shared'
    if not path.is_dir():
        pytest.skip(f'the fixtures of the official model are not here: {path} does not exist')
    return path


@pytest.fixture
def tiny_model(tmp_path):
    """Makes small models: ``tiny_model(num_queries=5, transformer=dict(dropout=0))``."""
    from model_fixtures import tiny_model as make

    return lambda **changes: make(tmp_path / 'tokenizer', **changes)
