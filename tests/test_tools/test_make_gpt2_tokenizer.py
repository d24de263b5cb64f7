"""A tokenizer of published merges."""

import importlib.util

import pytest
from toy_project import REPO
from transformers import AutoTokenizer

MERGES = '#version: 0.2\nĠ t\nh e\nĠt he\nT h\nĠ d\no g\nĠd og\n'


@pytest.fixture
def tool():
    path = REPO / 'tools' / 'dataset_tools' / 'make_gpt2_tokenizer.py'
    spec = importlib.util.spec_from_file_location('make_gpt2_tokenizer', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_merges_without_capitals_join_words_and_all_else_is_bytes(tool, tmp_path, monkeypatch):
    (tmp_path / 'vocab.bpe').write_text(MERGES)
    arguments = [str(tmp_path / 'vocab.bpe'), str(tmp_path / 'out'), '--num-merges', '6']
    monkeypatch.setattr('sys.argv', ['tool', *arguments])
    tool.main()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / 'out')
    assert len(tokenizer) == 5 + 256 + 6
    assert tokenizer.tokenize('The dog') == ['Ġthe', 'Ġdog']
    ids = tokenizer('the dög')['input_ids']
    assert tokenizer.unk_token_id not in ids and (ids[0], ids[-1]) == (0, 2)
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == 'the dög'


def test_what_is_no_list_of_merges_is_an_error(tool, tmp_path):
    (tmp_path / 'vocab.bpe').write_text('{"a": 1, "b": 2}\n')
    with pytest.raises(ValueError, match='is no list of merges'):
        tool.read_merges(tmp_path / 'vocab.bpe', 1)
    (tmp_path / 'vocab.bpe').write_text(MERGES)
    with pytest.raises(ValueError, match='must be 1 to 6 for'):
        tool.read_merges(tmp_path / 'vocab.bpe', 7)
