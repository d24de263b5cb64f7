"""Fixtures shared by all tests."""

import logging
import os
from pathlib import Path
from typing import NamedTuple

import pytest

# Tests never reach the network, whatever the machine's settings.
os.environ['HF_HUB_OFFLINE'] = '1'
# What one test captured is closed when the logger, which lives on, writes there in the next one.
logging.raiseExceptions = False

REPO = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the tests that can take longer."""
    parser.addoption('--fuzz', type=float, default=0.05, help='share of the inputs of tests/fuzz')
    parser.addoption('--fuzz-seed', type=int, default=0, help='other inputs for tests/fuzz')
    parser.addoption('--kills', type=int, default=3, help='how often a training is killed')
    parser.addoption('--kills-seed', type=int, default=0, help='of the places where it is')


class Fuzz(NamedTuple):
    """How many inputs the tests in ``fuzz/`` damage, and by which seed."""

    share: float
    seed: int

    def count(self, full: int) -> int:
        """Of ``full``, the share that is asked for."""
        return max(1, round(self.share * full))


@pytest.fixture
def fuzz(request) -> Fuzz:
    """The options ``--fuzz`` and ``--fuzz-seed``."""
    return Fuzz(request.config.getoption('--fuzz'), request.config.getoption('--fuzz-seed'))


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


@pytest.fixture(scope='session')
def running_server():
    """One address for all tests: transformers asks the one it had first."""
    from stand_ins import stand_in

    with stand_in() as running:
        yield running


@pytest.fixture
def server(running_server, tmp_path, monkeypatch):
    """A local server in the place of Google Drive and the Hub, and an empty cache."""
    running_server.reset()
    monkeypatch.setenv('REFERFORMER_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('REFERFORMER_DRIVE', running_server.url)
    monkeypatch.setenv('HF_ENDPOINT', running_server.url)
    return running_server


@pytest.fixture
def hub_online(server, monkeypatch):
    """Lets huggingface_hub ask the server: its settings were read from the environment before."""
    from huggingface_hub import constants

    template = f'{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}'
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    monkeypatch.setattr(constants, 'ENDPOINT', server.url)
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', template)
