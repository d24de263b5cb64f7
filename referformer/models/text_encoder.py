"""The linguistic encoder: words and sentence, projected to C (paper section 3.2)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from referformer.registry import MODELS
from referformer.structures import TextFeatures


@MODELS.register_module()
class RobertaTextEncoder(BaseModule):
    """A RoBERTa-type encoder of ``transformers`` with one projection for words and sentence.

    The architecture comes from ``model``, so that the whole network can be built, and filled from a
    checkpoint, without any download; ``pretrained`` weights are read by ``init_weights()``.

    Args:
        model: Arguments of ``transformers``' config class; ``model_type`` (default 'roberta')
            names it.
        tokenizer: Name or folder for ``AutoTokenizer.from_pretrained``; read at the first sentence.
        pretrained: Name or folder for ``AutoModel.from_pretrained``; None to start from scratch.
        out_channels: C.
        dropout: Dropout after the projection.
        frozen: The encoder gets no gradients (the projection does).
        max_length: Longer sentences are cut to this number of tokens.
    """

    def __init__(
        self,
        model: dict[str, Any],
        tokenizer: str,
        pretrained: str | None = None,
        out_channels: int = 256,
        dropout: float = 0.1,
        frozen: bool = True,
        max_length: int = 256,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        from transformers import AutoConfig, AutoModel

        options = dict(model)
        config = AutoConfig.for_model(options.pop('model_type', 'roberta'), **options)
        self.encoder = AutoModel.from_config(config)
        self.projection = nn.Sequential(
            nn.Linear(config.hidden_size, out_channels),
            nn.LayerNorm(out_channels, eps=1e-12),
            nn.Dropout(dropout),
        )
        self.pretrained = pretrained
        self.max_length = min(max_length, config.max_position_embeddings - config.pad_token_id - 1)
        self.frozen = frozen
        if frozen:
            self.encoder.requires_grad_(False)
        self._tokenizer_name = tokenizer
        self._tokenizer = None

    def init_weights(self) -> None:
        """Read the pretrained encoder.

        Raises:
            OSError: ``pretrained`` is neither a folder nor in the local cache, and cannot be
            fetched.
        """
        super().init_weights()
        if self.pretrained is None:
            return
        from transformers import AutoModel

        try:
            source = AutoModel.from_pretrained(self.pretrained)
        except OSError as error:
            raise OSError(
                f'the text encoder {_reason(self.pretrained, error)} '
                'Give the folder of a downloaded copy (model.text_encoder.pretrained=FOLDER '
                'model.text_encoder.tokenizer=FOLDER), or start from a checkpoint that holds it '
                '(load_from=..., model.text_encoder.pretrained=None).'
            ) from error
        self.encoder.load_state_dict(source.state_dict())
        print_log(f'text encoder: weights of {self.pretrained!r}', 'current')

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, read when first needed.

        Raises:
            OSError: The tokenizer is neither a folder nor in the local cache, and cannot be
            fetched.
        """
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            try:
                self._tokenizer = AutoTokenizer.from_pretrained(self._tokenizer_name)
            except (OSError, ValueError) as error:
                raise OSError(
                    f'the tokenizer {_reason(self._tokenizer_name, error)} '
                    'Give the folder of a downloaded copy (model.text_encoder.tokenizer=FOLDER); '
                    'that of synthetic data is made by tools/dataset_tools/make_synthetic.py.'
                ) from error
        return self._tokenizer

    def forward(self, texts: Sequence[str]) -> TextFeatures:
        """Encode B sentences, padded to the longest.

        Raises:
            ValueError: A sentence is empty.
        """
        texts = [' '.join(text.lower().split()) for text in texts]
        if not all(texts):
            raise ValueError(f'sentence {texts.index("")} of {len(texts)} is empty')
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_length, return_tensors='pt'
        )
        device = self.projection[0].weight.device
        return self.encode(tokens['input_ids'].to(device), tokens['attention_mask'].to(device))

    def encode(self, input_ids: Tensor, attention_mask: Tensor) -> TextFeatures:
        """Encode tokens, (B, L) each; 1 in ``attention_mask`` = token, all else = padding.

        In full precision under autocast too: a few words cost little, and every pixel reads them.
        """
        with torch.autocast(input_ids.device.type, enabled=False):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
            return TextFeatures(
                words=self.projection(output.last_hidden_state),
                mask=attention_mask != 1,
                sentence=self.projection(output.pooler_output),
            )


def _reason(name: str, error: Exception) -> str:
    """Why ``transformers`` did not load ``name``, in a line."""
    looks_like_path = name.startswith(('/', '.', '~')) or name.count('/') > 1
    if looks_like_path and not Path(name).exists():
        return f'{name!r} could not be loaded: there is no such folder.'
    return f'{name!r} could not be loaded: {str(error).splitlines()[0]}'
