"""Encoders of ``transformers`` by name: each saved as its authors publish it, and loaded."""

import pytest
import torch
import transformers as hf
from mmengine.registry import init_default_scope
from model_fixtures import WORDS, save_tokenizer

from referformer.registry import MODELS

_SIZE = {
    'vocab_size': 64,
    'hidden_size': 16,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'intermediate_size': 32,
}
_PIECES = [f'▁{word}' for word in WORDS] + list('▁abcdefghijklmnopqrstuvwxyz')
_TOWERS = {'projection_dim': 8, 'vision_config': {**_SIZE, 'image_size': 8, 'patch_size': 4}}


def _word_pieces(special, cls=hf.BertTokenizer):
    """A tokenizer of BERT's kind."""
    return cls(vocab={word: i for i, word in enumerate(special + WORDS)})


def _unigram(cls, special):
    """A tokenizer of SentencePiece's kind."""
    return cls(vocab=[(piece, -float(i)) for i, piece in enumerate(special + _PIECES)])


def _clip_tokenizer():
    letters = list('abcdefghijklmnopqrstuvwxyz')
    pieces = letters + [f'{letter}</w>' for letter in letters]
    pieces += ['<|startoftext|>', '<|endoftext|>']
    return hf.CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])


def _siglip_tokenizer(folder):
    spm = pytest.importorskip('sentencepiece', reason='pip install sentencepiece')
    text = folder / 'text.txt'
    text.write_text('\n'.join(WORDS * 20))
    spm.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(folder / 'spiece'), vocab_size=40, minloglevel=2,
        hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    )  # fmt: skip
    return hf.SiglipTokenizer(str(folder / 'spiece.model'), model_max_length=12)


def _roberta(config):
    return lambda folder: (
        hf.AutoModel.from_config(config),
        hf.AutoTokenizer.from_pretrained(save_tokenizer(folder / 'made')),
    )


_BERT = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
_T5 = ['<pad>', '</s>', '<unk>']
_XLM = ['<s>', '<pad>', '</s>', '<unk>']


def _simple(config, tokenizer):
    return lambda folder: (hf.AutoModel.from_config(config), tokenizer())


# Kind -> (what makes model and tokenizer, how the sentence is pooled, most tokens of a sentence).
ENCODERS = {
    'roberta': (
        _roberta(hf.RobertaConfig(**_SIZE, max_position_embeddings=14, type_vocab_size=1)),
        'pooler',
        12,
    ),
    'bert': (
        _simple(
            hf.BertConfig(**_SIZE, max_position_embeddings=12), lambda: _word_pieces(_BERT)
        ),
        'pooler',
        12,
    ),
    'distilbert': (
        _simple(
            hf.DistilBertConfig(
                vocab_size=64, dim=16, n_layers=2, n_heads=2, hidden_dim=32,
                max_position_embeddings=12,
            ),
            lambda: _word_pieces(_BERT),
        ),
        'first',
        12,
    ),
    'electra': (
        _simple(
            hf.ElectraConfig(**_SIZE, embedding_size=8, max_position_embeddings=12),
            lambda: _word_pieces(_BERT),
        ),
        'first',
        12,
    ),
    'deberta-v2': (
        _simple(
            hf.DebertaV2Config(
                **_SIZE, relative_attention=True, position_biased_input=False,
                pos_att_type=['p2c', 'c2p'], position_buckets=8, max_position_embeddings=12,
            ),
            lambda: _unigram(hf.DebertaV2Tokenizer, ['[PAD]', '[CLS]', '[SEP]', '[UNK]', '[MASK]']),
        ),
        'first',
        40,
    ),
    'mpnet': (
        _simple(
            hf.MPNetConfig(**_SIZE, max_position_embeddings=14),
            lambda: _word_pieces(
                ['<s>', '<pad>', '</s>', '[UNK]', '<mask>'], hf.MPNetTokenizer
            ),
        ),
        'pooler',
        12,
    ),
    'xlm-roberta': (
        _simple(
            hf.XLMRobertaConfig(**_SIZE, max_position_embeddings=14, type_vocab_size=1),
            lambda: _unigram(hf.XLMRobertaTokenizer, _XLM),
        ),
        'pooler',
        12,
    ),
    'clip': (
        _simple(
            hf.CLIPConfig(
                text_config={
                    **_SIZE, 'max_position_embeddings': 12, 'eos_token_id': 53, 'bos_token_id': 52,
                    'pad_token_id': 53,
                },
                **_TOWERS,
            ),
            _clip_tokenizer,
        ),
        'end',
        12,
    ),
    'siglip': (
        lambda folder: (
            hf.AutoModel.from_config(
                hf.SiglipConfig(
                    text_config={**_SIZE, 'max_position_embeddings': 12}, **_TOWERS
                )
            ),
            _siglip_tokenizer(folder),
        ),
        'padded',
        12,
    ),
    't5': (
        _simple(
            hf.T5Config(
                vocab_size=200, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
                decoder_start_token_id=0,
            ),
            lambda: _unigram(hf.T5Tokenizer, _T5),
        ),
        'mean',
        40,
    ),
}  # fmt: skip


@pytest.fixture(scope='module', params=ENCODERS)
def published(request, tmp_path_factory):
    """A folder as on the Hub, the model in it, how it is pooled, and its most tokens."""
    folder = tmp_path_factory.mktemp(request.param)
    make, pooling, longest = ENCODERS[request.param]
    torch.manual_seed(0)
    model, tokenizer = make(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.half().save_pretrained(folder)  # as many are published
    tokenizer.save_pretrained(folder)
    return folder, model.float().eval(), pooling, longest


def build(folder, **options):
    init_default_scope('referformer')
    cfg = {'type': 'TransformersTextEncoder', 'name': str(folder), 'out_channels': 12, **options}
    return MODELS.build(cfg).eval()


def test_words_and_sentence_are_those_of_the_published_encoder(published):
    folder, model, pooling, _ = published
    encoder = build(folder)
    encoder.init_weights()
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}
    texts = ['the red dog', 'a cat']
    tower = model.get_encoder() if pooling == 'mean' else getattr(model, 'text_model', model)
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    features = encoder(texts)
    for i, text in enumerate(texts):
        if pooling == 'padded':  # SigLIP: padded to one length, without a mask
            tokens = tokenizer(text, return_tensors='pt', padding='max_length', max_length=12)
            output = tower(tokens['input_ids'])
            length = len(tokenizer(text)['input_ids'])
        else:
            tokens = tokenizer(text, return_tensors='pt')
            output = tower(input_ids=tokens['input_ids'])
            length = tokens['input_ids'].shape[1]
        words = output.last_hidden_state[0]
        sentence = {
            'pooler': lambda output: output.pooler_output[0],
            'padded': lambda output: output.pooler_output[0],
            'first': lambda output: output.last_hidden_state[0, 0],
            'end': lambda output: output.last_hidden_state[0, -1],
            'mean': lambda output: output.last_hidden_state[0].mean(0),
        }[pooling](output)
        assert (~features.mask[i]).sum() == length >= 3 - (pooling == 'padded')
        torch.testing.assert_close(
            features.words[i, :length], encoder.projection(words[:length]), atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(
            features.sentence[i], encoder.projection(sentence), atol=1e-5, rtol=1e-4
        )


def test_long_sentences_are_cut_to_the_positions_there_are(published):
    folder, _, _, longest = published
    features = build(folder, max_length=40)(['the red dog a cat ' * 20])
    assert features.words.shape[1] == longest


def test_it_is_built_without_its_folder_from_what_its_config_says(published, tmp_path):
    folder, _, _, _ = published
    named = build(folder)
    named.init_weights()
    plain = build(folder, name=None, tokenizer=str(folder), model=named.architecture)
    plain.load_state_dict(named.state_dict())
    found, expected = plain(['the red dog']), named(['the red dog'])
    assert torch.equal(found.sentence, expected.sentence)


def test_a_tokenizer_of_its_own_length_cuts_too(tmp_path):
    config = hf.RobertaConfig(**_SIZE, max_position_embeddings=40, type_vocab_size=1)
    hf.AutoModel.from_config(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    hf.AutoTokenizer.from_pretrained(tmp_path, model_max_length=7).save_pretrained(tmp_path)
    assert build(tmp_path)(['the red dog ' * 9]).words.shape[1] == 7


def test_pooling_can_be_chosen_and_what_it_leaves_out_is_not_trained(tmp_path):
    config = hf.BertConfig(**_SIZE, max_position_embeddings=12)
    hf.AutoModel.from_config(config).save_pretrained(tmp_path)
    _word_pieces(_BERT).save_pretrained(tmp_path)
    encoder = build(tmp_path, pooling='mean', frozen=False)
    encoder(['the red dog', 'a cat']).sentence.sum().backward()
    without = {n for n, p in encoder.named_parameters() if p.requires_grad and p.grad is None}
    assert not without
    with pytest.raises(ValueError, match=r"pooling must be one of .*, not 'max'"):
        build(tmp_path, pooling='max')


def test_what_does_not_fit_is_said_in_words(tmp_path):
    bert = hf.BertConfig(**_SIZE, max_position_embeddings=12)
    hf.AutoModel.from_config(bert).save_pretrained(tmp_path / 'bert')
    save_tokenizer(tmp_path / 'bert')
    with pytest.raises(ValueError, match=r'needs name .* or model .*, not both'):
        build(tmp_path / 'bert', model={'vocab_size': 3})
    with pytest.raises(OSError, match=r'config of the text_encoder .*nowhere.* no such folder'):
        build(tmp_path / 'nowhere')
    other = {**_SIZE, 'hidden_size': 8, 'model_type': 'bert'}
    encoder = build(None, name=None, model=other, tokenizer='t', pretrained=str(tmp_path / 'bert'))
    with pytest.raises(ValueError, match='does not hold the weights of this text_encoder'):
        encoder.init_weights()
    encoder = build(
        None, name=None, model={**_SIZE}, tokenizer='t', pretrained=str(tmp_path / 'bert')
    )
    with pytest.raises(ValueError, match=r'\(RobertaModel\): \d+ tensors'):
        encoder.init_weights()
