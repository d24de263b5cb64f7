"""A small tokenizer of RoBERTa's type: trained on sentences, or of given merges."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SPECIAL_TOKENS = ('<s>', '<pad>', '</s>', '<unk>', '<mask>')  # ids 0 to 4


def train_tokenizer(expressions: Iterable[str], out_dir: str | Path, vocab_size: int = 800) -> None:
    """Train a byte-level BPE on sentences and save it for `AutoTokenizer.from_pretrained`.

    Text is lower-cased and wrapped as ``<s> ... </s>``. Bytes are tokens too, so that any sentence
    has a form without unknown tokens. The vocabulary ends early when all words are whole.

    Args:
        expressions: The sentences to learn from.
        out_dir: A folder, made if it does not exist.
        vocab_size: The most tokens, the 5 special ones and 256 bytes among them.
    """
    from tokenizers import models, pre_tokenizers
    from tokenizers.trainers import BpeTrainer

    tokenizer = _new_tokenizer(models.BPE(unk_token='<unk>'))
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(expressions, trainer)
    _save(tokenizer, out_dir)


def save_tokenizer(merges: Sequence[tuple[str, str]], out_dir: str | Path) -> None:
    """Save the byte-level BPE of given merges, as :func:`train_tokenizer` does its own.

    Args:
        merges: Pairs of pieces in the order in which they are joined, bytes as GPT-2 writes them.
        out_dir: A folder, made if it does not exist.
    """
    from tokenizers import models, pre_tokenizers

    pieces = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pieces += [''.join(pair) for pair in merges]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    _save(_new_tokenizer(models.BPE(vocabulary, list(merges), unk_token='<unk>')), out_dir)


def _new_tokenizer(model: Any) -> Any:
    from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _save(tokenizer: Any, out_dir: str | Path) -> None:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    tokenizer.post_processor = processors.TemplateProcessing(
        single='<s> $A </s>',
        pair='<s> $A </s> </s> $B </s>',
        special_tokens=[('<s>', 0), ('</s>', 2)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token='<s>',
        eos_token='</s>',
        cls_token='<s>',
        sep_token='</s>',
        unk_token='<unk>',
        pad_token='<pad>',
        mask_token='<mask>',
        model_max_length=512,
    ).save_pretrained(out_dir)
    # transformers 5 saves a class name that 4 does not know; both know this one.
    file = Path(out_dir) / 'tokenizer_config.json'
    config = json.loads(file.read_text())
    config['tokenizer_class'] = 'PreTrainedTokenizerFast'
    file.write_text(json.dumps(config, indent=2) + '\n')
