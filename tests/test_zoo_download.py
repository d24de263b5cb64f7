"""Files from anywhere: fetched once, whole or not at all, continued, and checked."""

import os
import socket
import threading
import time
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader
from test_engine.test_checkpoint import Hostile, save_hostile

from referformer.engine.checkpoint import read_checkpoint
from referformer.zoo import download
from referformer.zoo.download import cache_dir, fetch, find_tokenizer, set_aside

DRIVE = 'https://drive.google.com/file/d/1TBykzTRiOEbpM2YEYnDICyqjwkvlD2cR/view'
ID = '1TBykzTRiOEbpM2YEYnDICyqjwkvlD2cR'


@pytest.fixture
def large(tmp_path, server):
    """A file of Drive that takes several blocks."""
    path = tmp_path / 'large.bin'
    path.write_bytes(torch.randint(256, (3_000_000,), dtype=torch.uint8).numpy().tobytes())
    server.drive[ID] = path
    server.files['/w/large.bin'] = path.read_bytes()
    return path


def partial():
    return list((cache_dir() / 'downloads').glob('*.part'))


def test_a_file_of_drive_is_behind_a_page_and_comes_once(server, large):
    path = fetch(DRIVE)
    assert path.read_bytes() == large.read_bytes()
    assert path.is_relative_to(cache_dir())
    assert Path(f'{path}.sha256').read_text().split()[1] == path.name
    assert [url.split('?')[0] for url, _ in server.asked] == ['/uc', '/download']
    assert fetch(DRIVE) == path and len(server.asked) == 2
    assert not partial()


@pytest.mark.parametrize('url', [DRIVE, '{server}/w/large.bin'])
def test_a_broken_transfer_goes_on_where_it_ended(server, large, url):
    url = url.format(server=server.url)
    server.cut = 0.5
    with pytest.raises(ConnectionError, match='was not fetched'):
        fetch(url)
    (part,) = partial()
    brought = part.stat().st_size
    assert brought > 1_000_000 and part.read_bytes() == large.read_bytes()[:brought]
    assert not (cache_dir() / 'downloads' / 'large.bin').exists()
    server.cut = None
    assert fetch(url).read_bytes() == large.read_bytes()
    assert server.asked[-1][1] == f'bytes={brought}-'
    assert not partial()


def test_where_transfers_cannot_be_continued_they_start_anew(server, large):
    server.ranges, server.cut = False, 0.5
    with pytest.raises(ConnectionError):
        fetch(DRIVE)
    server.cut = None
    assert fetch(DRIVE).read_bytes() == large.read_bytes()


def test_no_network_keeps_what_a_broken_transfer_brought(server, large, monkeypatch):
    server.cut = 0.5
    with pytest.raises(ConnectionError):
        fetch(DRIVE)
    kept = partial()
    monkeypatch.setenv('REFERFORMER_DRIVE', 'http://127.0.0.1:9')
    with pytest.raises(ConnectionError, match='Connection refused'):
        fetch(DRIVE)
    assert partial() == kept


@pytest.mark.parametrize('case', ['quota', 'missing', 'refused', 'no such host', 'silent'])
def test_one_message_says_how_to_do_it_by_hand(server, large, monkeypatch, tmp_path, case):
    reason = {
        'quota': 'Too many users have viewed or downloaded this file recently',
        'missing': 'the server answers 404',
        'refused': 'Connection refused',
        'no such host': '',
        'silent': 'timed out',
    }[case]
    server.quota = case == 'quota'
    if case == 'missing':
        server.drive.clear()
    listener = socket.create_server(('127.0.0.1', 0))  # accepts, and never answers
    hosts = {
        'refused': 'http://127.0.0.1:9',
        'no such host': 'http://nowhere.invalid',
        'silent': f'http://127.0.0.1:{listener.getsockname()[1]}',
    }
    monkeypatch.setattr(download, '_TIMEOUT', 0.5)
    if case in hosts:
        monkeypatch.setenv('REFERFORMER_DRIVE', hosts[case])
    place, start = tmp_path / 'cache' / 'x.pth', time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        fetch(DRIVE, place, 'referformer get-weights x')
    listener.close()
    assert time.monotonic() - start < 3
    text = str(caught.value)
    assert reason in text.splitlines()[0], text
    assert f'Open {DRIVE} in a browser' in text
    assert f'save the file as {place}' in text and 'referformer get-weights x' in text
    assert len(server.asked) <= 1  # no retries
    # And so it is: put there by hand, it serves.
    place.write_bytes(large.read_bytes())
    assert fetch(DRIVE, place) == place


def test_a_changed_file_is_refused(server, large):
    path = fetch(DRIVE)
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match='has changed since it was fetched: its SHA-256 is'):
        fetch(DRIVE)


def test_two_who_want_one_file_fetch_it_once(server, large):
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch(DRIVE))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and len(set(found)) == 1
    assert sum(url.startswith('/download') for url, _ in server.asked) == 1


def test_a_folder_is_a_hub(server, hub_online, tmp_path, monkeypatch):
    server.hub = tmp_path / 'hub'
    (server.hub / 'some-one' / 'small.model' / 'sub').mkdir(parents=True)
    state = {'a': torch.arange(3.0)}
    torch.save(state, server.hub / 'some-one' / 'small.model' / 'sub' / 'w.pth')
    source = 'hf://some-one/small.model/sub/w.pth'
    found = CheckpointLoader.load_checkpoint(source)
    assert torch.equal(found['a'], state['a'])
    assert fetch(source) == cache_dir() / 'downloads/hf/some-one/small.model/sub/w.pth'
    asked = len(server.asked)
    assert fetch('hf://some-one/small.model@v1/sub/w.pth').parts[-3] == 'small.model@v1'
    assert all('/resolve/v1/' in url for url, _ in server.asked[asked:])
    start = time.monotonic()
    with pytest.raises(ConnectionError, match=r'answers 404 .*\n.*blob/main/absent\.pth'):
        fetch('hf://some-one/small.model/absent.pth')
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
    with pytest.raises(ConnectionError, match='Connection refused'):
        fetch('hf://other/model/w.pth')
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    'source, message',
    [
        ('s3://bucket/a.pth', 'is no address that can be fetched; expected a path, https://'),
        ('pavi://a', 'expected a path, https://'),
        ('hf://owner/file.pth', 'hf://OWNER/REPO/FILE'),
        ('hf://owner/repo/../../x', 'hf://OWNER/REPO/FILE'),
        ('torchvision://resnet5', 'no weights of this name; similar: resnet50'),
    ],
)
def test_other_addresses_are_explained(server, source, message):
    with pytest.raises(ValueError, match=message):
        CheckpointLoader.load_checkpoint(source)
    assert not server.asked and not cache_dir().exists()


def test_names_of_torchvision_are_known_without_it():
    assert download._resolve('torchvision://resnet50').endswith('/resnet50-0676ba61.pth')
    assert download._resolve('open-mmlab://detectron2/resnet50_caffe').startswith('https://')


@pytest.mark.parametrize('container', ['zip', 'pickle'])
@pytest.mark.parametrize('door', ['read', 'mmengine', 'init_cfg', 'prefix'])
def test_a_hostile_pickle_of_a_server_does_not_run(server, tmp_path, container, door):
    mark, path = tmp_path / 'ran', tmp_path / 'hostile.pth'
    save_hostile(path, Hostile(os.system, f'touch {mark}'), container)
    server.files['/hostile.pth'] = path.read_bytes()
    url = f'{server.url}/hostile.pth'
    init_cfg = {'type': 'Pretrained', 'checkpoint': url}
    doors = {
        'read': lambda: read_checkpoint(url),
        'mmengine': lambda: CheckpointLoader.load_checkpoint(url),
        'init_cfg': lambda: BaseModule(init_cfg=init_cfg).init_weights(),
        'prefix': lambda: BaseModule(init_cfg={**init_cfg, 'prefix': 'a.'}).init_weights(),
    }
    with pytest.raises(ValueError, match=r'could run code(.|\n)*set aside as .*\.wrong'):
        doors[door]()
    assert not mark.exists()
    assert server.asked  # it was fetched


def test_what_is_wrong_is_set_aside_and_fetched_anew(server):
    server.files['/w.pth'] = b'<html>please log in</html>'
    with pytest.raises(ValueError, match='cannot be read as a checkpoint'):
        read_checkpoint(f'{server.url}/w.pth')
    assert [p.suffix for p in (cache_dir() / 'downloads').glob('*w.pth*')].count('.wrong') == 1
    torch.save({'a': torch.ones(1)}, cache_dir() / 'good.pth')
    server.files['/w.pth'] = (cache_dir() / 'good.pth').read_bytes()
    assert read_checkpoint(f'{server.url}/w.pth')['a'] == 1


def test_a_tokenizer_that_cannot_be_had_is_told_at_once(server, hub_online, tmp_path, monkeypatch):
    start = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        find_tokenizer('Some-One/words')
    assert time.monotonic() - start < 3
    folder = cache_dir() / 'tokenizers' / 'Some-One' / 'words'
    assert f'{server.url}/Some-One/words/tree/main' in str(caught.value)
    assert str(folder) in str(caught.value)
    folder.mkdir(parents=True)
    (folder / 'tokenizer.json').write_text('{}')
    assert find_tokenizer('Some-One/words') == str(folder)
    assert find_tokenizer(str(tmp_path)) == str(tmp_path)


def test_set_aside_forgets_the_sum(tmp_path):
    path = tmp_path / 'a'
    path.write_text('x')
    download.check_sum(path)
    assert set_aside(path).read_text() == 'x'
    assert not Path(f'{path}.sha256').exists()


def test_a_tokenizer_is_fetched_once_and_serves_offline(server, hub_online, tmp_path, monkeypatch):
    from model_fixtures import save_tokenizer
    from transformers import AutoTokenizer

    server.hub = tmp_path / 'hub'
    save_tokenizer(server.hub / 'some-one' / 'words')
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub_cache'))
    folder = find_tokenizer('some-one/words')
    expected = AutoTokenizer.from_pretrained(server.hub / 'some-one' / 'words')('the red dog')
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
    asked = len(server.asked)
    assert find_tokenizer('some-one/words') == folder
    assert AutoTokenizer.from_pretrained(folder)('the red dog') == expected
    assert len(server.asked) == asked
