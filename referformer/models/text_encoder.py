"""The linguistic encoder: words and sentence, projected to C (paper section 3.2)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from referformer.registry import MODELS
from referformer.structures import TextFeatures

from .precision import full_precision
from .pretrained import architecture, make_config, read_weights, words_of

POOLINGS = ('auto', 'pooler', 'first', 'mean')
# Trained on sentences padded to one length, which pad tokens are part of.
_FIXED_LENGTH = ('siglip_text_model', 'siglip2_text_model')


@MODELS.register_module(['TransformersTextEncoder', 'RobertaTextEncoder'])
class TransformersTextEncoder(BaseModule):
    """A text encoder of ``transformers`` with one projection for words and sentence.

    Of a model with several towers (CLIP, SigLIP) the text tower is taken, of an encoder-decoder
    (T5) the encoder. ``RobertaTextEncoder``, as published, is this class with a RoBERTa.

    Args:
        name: Name on the Hub, or folder, of architecture, tokenizer and weights.
        model: The architecture without any download, in place of ``name``: arguments of
            ``transformers``' config class, which ``model_type`` (default 'roberta') names.
        tokenizer: Name or folder for ``AutoTokenizer.from_pretrained``, read at the first sentence;
            default: ``name``.
        pretrained: Name or folder of the weights that ``init_weights()`` reads; True: those of
            ``name``; None: start from scratch.
        out_channels: C.
        dropout: Dropout after the projection.
        frozen: The encoder gets no gradients (the projection does).
        max_length: Longer sentences are cut to this number of tokens, or to what the encoder takes.
        pooling: The sentence is the 'pooler' output, the 'first' token or the 'mean' of all;
            'auto': the first of these that the encoder has.

    Raises:
        ValueError: Neither ``name`` nor ``model`` is given, or both.
        OSError: ``name`` cannot be read or fetched.
    """

    def __init__(
        self,
        name: str | None = None,
        model: dict[str, Any] | None = None,
        tokenizer: str | None = None,
        pretrained: str | bool | None = True,
        out_channels: int = 256,
        dropout: float = 0.1,
        frozen: bool = True,
        max_length: int = 256,
        pooling: str = 'auto',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if pooling not in POOLINGS:
            raise ValueError(f'pooling must be one of {", ".join(POOLINGS)}, not {pooling!r}')
        if tokenizer is None and name is None:
            raise ValueError('model.text_encoder.tokenizer is missing: give a name or a folder')
        config = make_config(name, model, 'roberta', 'text_encoder')
        config = getattr(config, 'text_config', config)
        self.encoder = _model_class(config)._from_config(config, dtype=torch.float32)
        self.projection = nn.Sequential(
            nn.Linear(config.hidden_size, out_channels),
            nn.LayerNorm(out_channels, eps=1e-12),
            nn.Dropout(dropout),
        )
        self.pretrained = name if pretrained is True else pretrained or None
        self.max_length = min(max_length, _num_positions(self.encoder))
        self.pooling = pooling
        self.frozen = frozen
        if frozen:
            self.encoder.requires_grad_(False)
        elif (
            pooling not in ('auto', 'pooler') and getattr(self.encoder, 'pooler', None) is not None
        ):
            self.encoder.pooler.requires_grad_(False)  # not used
        self.tokenizer_name = tokenizer or name
        self._tokenizer = None

    def init_weights(self) -> None:
        """Read the pretrained encoder.

        Raises:
            OSError: ``pretrained`` is neither a folder nor in the local cache, and cannot be
            fetched.
            ValueError: It holds another architecture.
        """
        super().init_weights()
        if self.pretrained is not None:
            # The config of the text tower alone lets it find its weights among those of all towers.
            read = partial(type(self.encoder).from_pretrained, config=self.encoder.config)
            read_weights(self.encoder, read, self.pretrained, 'text_encoder')

    @property
    def architecture(self) -> dict[str, Any]:
        """What to give as ``model`` in place of ``name``, for a config that needs no download."""
        return architecture(self.encoder.config)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, read when first needed.

        Raises:
            OSError: The tokenizer is neither a folder nor in the local cache, and cannot be
            fetched.
        """
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            advice = (
                'Give the folder of a downloaded copy (model.text_encoder.tokenizer=FOLDER); '
                'that of synthetic data is made by tools/dataset_tools/make_synthetic.py.'
            )
            with words_of('the tokenizer', self.tokenizer_name, advice):
                self._tokenizer = AutoTokenizer.from_pretrained(self.tokenizer_name)
            self._tokenizer.padding_side = 'right'
        return self._tokenizer

    def forward(self, texts: Sequence[str]) -> TextFeatures:
        """Encode B sentences, padded to the longest.

        Raises:
            ValueError: A sentence is empty.
        """
        texts = [' '.join(text.lower().split()) for text in texts]
        if not all(texts):
            raise ValueError(f'sentence {texts.index("")} of {len(texts)} is empty')
        length = min(self.max_length, getattr(self.tokenizer, 'model_max_length', self.max_length))
        tokens = self.tokenizer(
            texts,
            padding='max_length' if self._fixed_length else True,
            truncation=True,
            max_length=length,
            return_attention_mask=True,
            return_tensors='pt',
        )
        # Lengths are read before the tokens leave the CPU: later, a GPU would be waited for.
        lengths = (tokens['attention_mask'] == 1).sum(1)
        longest = int(lengths.max())
        padded = int(lengths.min()) < longest
        device = self.projection[0].weight.device
        ids, mask = (tokens[name].to(device) for name in ('input_ids', 'attention_mask'))
        found = self.encode(ids, mask, padded)
        return TextFeatures(
            found.words[:, :longest], found.mask[:, :longest], found.sentence, padded
        )

    def encode(
        self, input_ids: Tensor, attention_mask: Tensor, padded: bool = True
    ) -> TextFeatures:
        """Encode tokens, (B, L) each; 1 in ``attention_mask`` = token, all else = padding.

        In full precision under autocast too: a few words cost little, and every pixel reads them.

        Args:
            padded: False promises that there is no padding, for which nothing is then computed.
        """
        mask = attention_mask != 1
        read = attention_mask if padded and not self._fixed_length else None
        with full_precision(input_ids):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                output = self.encoder(input_ids=input_ids, attention_mask=read)
            words, sentence = output.last_hidden_state, self._pool(output, mask)
            return TextFeatures(self.projection(words), mask, self.projection(sentence), padded)

    @property
    def _fixed_length(self) -> bool:
        return self.encoder.config.model_type in _FIXED_LENGTH

    def _pool(self, output: Any, mask: Tensor) -> Tensor:
        """The sentence, (B, hidden size)."""
        words, pooled = output.last_hidden_state, getattr(output, 'pooler_output', None)
        pooling = self.pooling
        if pooling == 'auto' and pooled is None:
            # A first token that stands for the sentence is one that the tokenizer adds.
            has_first = getattr(self.tokenizer, 'cls_token_id', None) is not None
            pooling = 'first' if has_first else 'mean'
        if pooling == 'first':
            return words[:, 0]
        if pooling == 'mean':
            weights = (~mask).to(words.dtype)[..., None]
            return (words * weights).sum(1) / weights.sum(1)
        if pooled is None:
            raise ValueError(
                f"model.text_encoder.pooling='pooler': {type(self.encoder).__name__} has none; "
                "use 'first' or 'mean'"
            )
        return pooled


RobertaTextEncoder = TransformersTextEncoder


def _model_class(config: Any) -> type:
    """The class of ``transformers`` that encodes text and has this config."""
    import transformers
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_TEXT_ENCODING_MAPPING,
        MODEL_MAPPING,
    )

    for mapping in (MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING):
        if type(config) in mapping:
            return mapping[type(config)]
    # Towers of models that are always used together are in no mapping.
    found = getattr(transformers, type(config).__name__.replace('Config', 'Model'), None)
    if found is None:
        raise ValueError(f'model.text_encoder: {config.model_type!r} is no text encoder')
    return found


def _num_positions(encoder: nn.Module) -> int:
    """How many tokens the encoder has positions for; a large number where they are relative."""
    for name, module in encoder.named_modules():
        is_table = name.endswith(('position_embedding', 'position_embeddings'))
        if is_table and isinstance(module, nn.Embedding):
            # RoBERTa and its kin count from the padding id on.
            start = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - start
    return 2**31
