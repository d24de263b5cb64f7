"""Sentences to features."""

import pytest
import torch
from mmengine.registry import init_default_scope
from model_fixtures import text_encoder_cfg

from referformer.registry import MODELS


@pytest.fixture
def make(tmp_path):
    def make(**options):
        init_default_scope('referformer')
        torch.manual_seed(0)
        cfg = {**text_encoder_cfg(tmp_path), 'out_channels': 12, **options}
        return MODELS.build(cfg).eval()

    return make


def test_shapes_and_padding(make):
    features = make()(['the red dog', 'a cat'])
    assert features.words.shape == (2, 5, 12) and features.sentence.shape == (2, 12)
    assert features.mask.tolist() == [[False] * 5, [False] * 4 + [True]]


def test_padding_does_not_change_a_sentence(make):
    encoder = make()
    alone, together = encoder(['a cat']), encoder(['the big red dog', 'a cat'])
    torch.testing.assert_close(together.sentence[1:], alone.sentence)
    torch.testing.assert_close(together.words[1:, :4], alone.words)


def test_capitals_and_white_space_do_not_matter(make):
    encoder = make()
    first, second = encoder(['The  Red\tdog ']), encoder(['the red dog'])
    assert torch.equal(first.words, second.words)


def test_the_sentence_is_the_pooled_output_through_the_same_projection(make):
    encoder = make()
    tokens = encoder.tokenizer(['the red dog'], return_tensors='pt')
    output = encoder.encoder(**tokens)
    features = encoder(['the red dog'])
    torch.testing.assert_close(features.sentence, encoder.projection(output.pooler_output))
    torch.testing.assert_close(features.words, encoder.projection(output.last_hidden_state))


@pytest.mark.parametrize('frozen', [True, False])
def test_a_frozen_encoder_gets_no_gradient_and_its_projection_does(make, frozen):
    encoder = make(frozen=frozen)
    encoder(['the red dog']).words.square().sum().backward()
    trained = {name for name, p in encoder.named_parameters() if p.grad is not None}
    assert any(name.startswith('projection') for name in trained)
    assert any(name.startswith('encoder') for name in trained) is not frozen


def test_long_sentences_are_cut_to_what_the_encoder_takes(make):
    assert make(max_length=6)(['the red dog ' * 30]).words.shape[1] == 6
    # 20 positions, of which RoBERTa leaves those up to the padding id unused.
    assert make()(['the red dog ' * 30]).words.shape[1] == 18


def test_empty_sentences_are_named(make):
    with pytest.raises(ValueError, match='sentence 1 of 2 is empty'):
        make()(['the red dog', '  '])


def test_what_cannot_be_found_is_named_with_the_remedy(make, tmp_path):
    missing = str(tmp_path / 'nowhere')
    with pytest.raises(OSError, match=r'the tokenizer .*nowhere.* could not be loaded'):
        make(tokenizer=missing)(['a dog'])
    with pytest.raises(OSError, match=r'model\.text_encoder\.pretrained=FOLDER'):
        make(pretrained=missing).init_weights()


def test_pretrained_weights_are_read_by_init_weights_alone(make, tmp_path):
    source = make()
    source.encoder.save_pretrained(tmp_path / 'weights')
    torch.manual_seed(5)
    encoder = make(pretrained=str(tmp_path / 'weights'))
    for parameter in encoder.encoder.parameters():
        parameter.data.zero_()
    encoder.init_weights()
    found = encoder.encoder.state_dict()
    assert all(torch.equal(v, found[k]) for k, v in source.encoder.state_dict().items())
