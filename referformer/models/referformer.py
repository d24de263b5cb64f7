"""ReferFormer: language as queries for referring video object segmentation (paper figure 2).

Letters: B clips, T frames, T' annotated frames, Q queries, K classes, L words, C channels, D
decoder layers, H W padded input, h w = H/4 W/4.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from referformer.registry import MODELS, PROPAGATORS, build
from referformer.structures import (
    Predictions,
    RVOSDataSample,
    TextFeatures,
    cxcywh_to_xyxy,
    padding_mask,
)
from referformer.structures.targets import stack_targets

from .frame_chunks import by_frames
from .linking import QueryLink, window_starts
from .memory import predicted_bytes, read_bytes
from .position_encoding import sine_encoding_1d, sine_encoding_2d
from .postprocess import choose_queries, empty_absent, join_clips, masks_at_original_size
from .precision import check_dtype, full_precision, precision
from .vision_language import WordTokens


@MODELS.register_module()
class ReferFormer(BaseModel):
    """The sentence becomes the queries of a deformable Transformer; each query makes its own mask
    kernels.

    Parts are modules or their configs; widths that follow from another part are filled in.

    Args:
        backbone: Four maps, strides 4 to 32. A backbone with ``takes_clips = True`` gets (B, T, 3,
            H, W).
        text_encoder: Sentences to ``TextFeatures``.
        projection: Backbone maps to the Transformer's levels.
        fusion: Early fusion of pixels and words; None for the ablation without it.
        transformer: Encoder and decoder with box heads.
        pixel_decoder: The cross-modal FPN.
        mask_head: Dynamic convolution.
        criterion: Matcher and losses; may be None for inference only.
        num_queries: Q.
        num_classes: K; 1 is the binary "referred or not".
        test_cfg: ``keep``: 'best' query of the clip (VOS), 'all' (A2D, JHMDB) or 'pairs' of query
            and class (COCO), see ``choose_queries``; ``resize``: 'logits' or 'probabilities'
            before the threshold or 'masks' after it, see ``masks_at_original_size``;
            ``threshold``: of mask probabilities; ``presence_thr``: frames in which the class score
            of the kept query is below this have an empty mask (default 0: none; a sample's
            ``presence_thr`` goes before it);
            ``max_memory``: as many sentences about one clip run together as are predicted to fit
            ('2GB'; one always runs), see ``memory``;
            ``window``: longer clips are divided into independent ones of so many frames
            (Ref-DAVIS17: 36; needs ``keep`` 'best'), 0: never; ``stream``: these windows overlap,
            and the query is linked across them; ``dtype``: 'fp32', 'bf16' or 'fp16', in which
            predictions are computed; ``keep_logits``: give mask logits
            at stride 4 too, as ``pred_instances.logits`` (k, T', h, w); ``refine``: what the masks
            of the video are refined by, see ``refine.Refiner.from_config`` (a sample's
            ``refine=False`` goes before it).
        data_preprocessor: Usually ``ClipPreprocessor``.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        text_encoder: dict | nn.Module,
        transformer: dict | nn.Module,
        pixel_decoder: dict | nn.Module,
        mask_head: dict | nn.Module,
        projection: dict | nn.Module,
        fusion: dict | nn.Module | None = None,
        criterion: dict | nn.Module | None = None,
        num_queries: int = 5,
        num_classes: int = 1,
        test_cfg: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = build(backbone)
        self.transformer = build(transformer)
        C = self.transformer.embed_dim
        channels = _channels(self.backbone)
        self.text_encoder = build(text_encoder, out_channels=C)
        self.projection = build(
            projection,
            in_channels=channels[1:],
            out_channels=C,
            num_levels=self.transformer.num_levels,
        )
        self.fusion = build(fusion, embed_dim=C)
        self.pixel_decoder = build(pixel_decoder, in_channels=channels[0], embed_dim=C)
        self.mask_head = build(mask_head, embed_dim=C)
        self.criterion = build(criterion)
        self.query_embed = nn.Embedding(num_queries, C)
        # As the box heads: one for each layer, or one for all without box refinement.
        refine = self.transformer.with_box_refine
        num_heads = self.transformer.num_decoder_layers if refine else 1
        self.class_heads = nn.ModuleList(nn.Linear(C, num_classes) for _ in range(num_heads))
        self.test_cfg = {
            'keep': 'best',
            'resize': 'logits',
            'threshold': 0.5,
            'presence_thr': 0.0,
            'max_memory': '2GB',
            'window': 0,
            'stream': False,
            'dtype': 'fp32',
            'keep_logits': False,
            'refine': None,
            **(test_cfg or {}),
        }
        keep, window = self.test_cfg['keep'], self.test_cfg['window']
        if not 0 <= self.test_cfg['presence_thr'] <= 1:
            raise ValueError(
                'test_cfg.presence_thr must be a score in [0, 1], not '
                f'{self.test_cfg["presence_thr"]}'
            )
        read_bytes(self.test_cfg['max_memory'])
        check_dtype(self.test_cfg['dtype'])
        if self.test_cfg['stream'] and window < 2:
            raise ValueError(f'test_cfg.stream needs a window of at least 2 frames, not {window}')
        if window < 0 or (window and keep != 'best'):
            raise ValueError(
                f"test_cfg.window must be 0, or a number of frames with keep='best': got {window} "
                f'with keep={keep!r}. Queries of one clip have nothing to do with those of another.'
            )
        self.refiner = None
        if self.test_cfg['refine'] is not None:
            if keep != 'best':
                raise ValueError(f"test_cfg.refine needs keep='best', not {keep!r}.")
            self.refiner = PROPAGATORS.get('Refiner').from_config(self.test_cfg['refine'])

    def init_weights(self) -> None:
        """Initialise every part; class scores start at 0.01."""
        super().init_weights()
        for head in self.class_heads:
            nn.init.constant_(head.bias, -math.log(99))

    def forward(
        self, inputs: Tensor, data_samples: list[RVOSDataSample], mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[RVOSDataSample] | Predictions:
        """MMEngine's entry.

        Args:
            inputs: Normalised, padded clips (B, T, 3, H, W). In prediction B may be 1 with several
                samples: sentences about one clip, which is then seen once.
            data_samples: The sentences, with ``img_shape``; ground truth for the loss.
            mode: 'loss' (dict of losses), 'predict' (samples with ``pred_instances``) or 'tensor'
                (``Predictions`` of all layers).
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        if mode == 'tensor':
            texts = self.text_encoder([sample.text for sample in data_samples])
            return self.run(self.see(inputs, data_samples), texts)
        raise ValueError(f"mode must be 'loss', 'predict' or 'tensor', not {mode!r}")

    def loss(self, inputs: Tensor, data_samples: list[RVOSDataSample]) -> dict[str, Tensor]:
        """Losses of all decoder layers."""
        targets = stack_targets(data_samples, inputs.shape[-2:], self.criterion.mask_stride)
        predictions = self(inputs, data_samples, mode='tensor')
        return self.criterion(predictions, targets)

    def see(self, inputs: Tensor, data_samples: list[RVOSDataSample]) -> 'VisualFeatures':
        """All that does not depend on the sentence.

        Args:
            inputs: (B, T, 3, H, W).
            data_samples: B samples (of several sentences about one clip the first is used), for
                ``img_shape`` and ``key_frames``.
        """
        B, T, _, H, W = inputs.shape
        samples = data_samples[:B]
        takes_clips = getattr(self.backbone, 'takes_clips', False)
        key_frames = [s.get('key_frames') or range(T) for s in samples]
        if takes_clips or len(key_frames[0]) < T:
            if takes_clips:
                maps = self.backbone(inputs)
            else:
                maps = by_frames(self.backbone, inputs.flatten(0, 1))
            if len(key_frames[0]) < T:  # A2D, JHMDB: one annotated frame; only it goes on
                index = [t + i * T for i, frames in enumerate(key_frames) for t in frames]
                index = torch.tensor(index, device=inputs.device)
                maps = [x[index] for x in maps]
            stride4, *levels = by_frames(self._enter, *maps)
        else:  # in one go: a backbone's maps are wider than what is kept of them
            stride4, *levels = by_frames(
                lambda frames: self._enter(*self.backbone(frames)), inputs.flatten(0, 1)
            )

        img_sizes = [tuple(sample.img_shape[:2]) for sample in samples]
        grids = [tuple(x.shape[-2:]) for x in (stride4, *levels)]
        masks = None
        if any(size != (H, W) for size in img_sizes):
            full = padding_mask(img_sizes, H, W, inputs.device)[:, None].float()
            masks = [F.interpolate(full, grid)[:, 0].bool() for grid in grids]
        positions = [
            sine_encoding_2d(grid, self.transformer.embed_dim, inputs.device, masks and masks[i])
            for i, grid in enumerate(grids)
        ]
        sizes = torch.tensor(img_sizes, device=inputs.device).flip(-1)  # w, h
        return VisualFeatures(stride4, levels, positions, masks, sizes)

    def _enter(self, *maps: Tensor) -> list[Tensor]:
        """Backbone maps of some frames -> those of ``VisualFeatures``."""
        return [self.pixel_decoder.enter(maps[0]), *self.projection(maps[1:])]

    def find(self, visual: 'VisualFeatures', text: TextFeatures) -> 'FoundObjects':
        """Let the sentences look for their objects: everything but the masks."""
        found, climb = self._search(visual, text)
        return found._replace(features=climb().unflatten(0, found.hs.shape[1:3]))

    def _search(
        self, visual: 'VisualFeatures', text: TextFeatures
    ) -> tuple['FoundObjects', Callable[..., Tensor]]:
        """What the decoder finds, and the pixel decoder, which waits for its last arguments."""
        B = text.sentence.shape[0]
        visual = visual.for_sentences(B)
        T = visual.levels[0].shape[0] // B
        keys = text.words + sine_encoding_1d(text.mask, text.words.shape[-1])
        words = WordTokens(text.words, keys, text.mask if text.padded else None)

        levels = visual.levels
        if self.fusion is not None:
            levels = [self.fusion(level, words) for level in levels]
        by_frame = visual.repeat_frames(T)
        memory, output = self.transformer(
            levels,
            by_frame.positions[1:],
            by_frame.masks and by_frame.masks[1:],
            text.sentence.repeat_interleave(T, 0),
            self.query_embed.weight,
        )
        climb = partial(
            self.pixel_decoder,
            [visual.stride4, *memory[:3]],
            visual.positions[:4],
            visual.masks and visual.masks[:4],
            words,
        )
        heads = self.class_heads
        with full_precision(output.hs):
            logits = [heads[i % len(heads)](x) for i, x in enumerate(output.hs)]
        references = (
            output.references.detach() if self.transformer.with_box_refine else output.references
        )
        clip = (1, (B, T))
        found = FoundObjects(
            features=None,
            hs=output.hs.unflatten(*clip),
            logits=torch.stack(logits).unflatten(*clip),
            boxes=output.boxes.unflatten(*clip),
            references=references.unflatten(*clip),
        )
        return found, climb

    def run(self, visual: 'VisualFeatures', text: TextFeatures) -> Predictions:
        """Predictions of all decoder layers and queries."""
        found = self.find(visual, text)
        points = found.references[1:] * visual.sizes[:, None, None]
        masks = self.mask_head(found.features, found.hs, points)
        return Predictions(found.logits, found.boxes, masks)

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list[RVOSDataSample]) -> list[RVOSDataSample]:
        """Fill ``pred_instances``: of the best query of the clip, or of all queries (``test_cfg``).

        The choice depends on class scores alone, so only kept queries get masks.
        A batch of sentences about one clip sees the clip once.
        """
        if all(_same_clip(sample, data_samples[0]) for sample in data_samples[1:]):
            inputs = inputs[:1]
        num_frames = inputs.shape[1]
        window, stream = self.test_cfg['window'] or num_frames, self.test_cfg['stream']
        if num_frames > window and any(
            len(sample.get('key_frames') or ()) not in (0, num_frames) for sample in data_samples
        ):
            raise ValueError('test_cfg.window needs clips of which all frames are annotated')
        keep = 'all' if stream else data_samples[0].get('keep') or self.test_cfg['keep']
        links = [QueryLink() for _ in data_samples]
        found = []
        with precision(self.test_cfg['dtype'], inputs.device):
            text = self.read(data_samples)
            for start in window_starts(num_frames, window, stream):
                clip = inputs[:, start : start + window]
                parts = self._predict_clip(clip, data_samples, text, keep)
                if stream:
                    parts = [link.follow(part, start)[0] for link, part in zip(links, parts)]
                found.append(parts)
        for sample, parts in zip(data_samples, zip(*found)):
            sample.pred_instances = join_clips(parts)
        if self.refiner is not None and data_samples[0].get('refine', True):
            self.refiner.refine_samples(inputs, data_samples, self.data_preprocessor)
        return data_samples

    @torch.no_grad()
    def read(self, data_samples: list[RVOSDataSample]) -> TextFeatures:
        """Encode the sentences, all at once; samples may bring theirs as ``text_features``."""
        known = [sample.get('text_features') for sample in data_samples]
        if any(features is None for features in known):
            return self.text_encoder([sample.text for sample in data_samples])
        words, mask, sentence, padded = zip(*known)
        return TextFeatures(torch.cat(words), torch.cat(mask), torch.cat(sentence), any(padded))

    def predict_memory(
        self,
        num_frames: int,
        size: tuple[int, int],
        ori_size: tuple[int, int],
        num_sentences: int = 1,
        num_masks: int = 1,
    ) -> int:
        """Bytes that a prediction takes beyond the loaded model; see ``memory``."""
        takes_clips = getattr(self.backbone, 'takes_clips', False)
        channels = _channels(self.backbone)[0] if takes_clips else 0
        sizes = (num_frames, size, ori_size, num_sentences, num_masks)
        return predicted_bytes(self.transformer.embed_dim, channels, *sizes)

    def sentences_together(
        self,
        num_frames: int,
        size: tuple[int, int],
        ori_size: tuple[int, int],
        num_masks: int = 1,
        max_memory: str | None = None,
    ) -> int:
        """How many sentences about one clip run together: as ``max_memory`` allows, at least 1."""
        one, two = (self.predict_memory(num_frames, size, ori_size, n, num_masks) for n in (1, 2))
        room = read_bytes(max_memory or self.test_cfg['max_memory']) - one
        return 1 + max(0, room) // (two - one)

    def _predict_clip(
        self, inputs: Tensor, data_samples: list[RVOSDataSample], text: TextFeatures, keep: str
    ) -> list[InstanceData]:
        """What each sentence finds in clips that are not divided further."""
        visual = self.see(inputs, data_samples)
        if len(inputs) > 1:
            return self._answer(visual, data_samples, text, keep)
        _, T, _, H, W = inputs.shape
        num_masks = 1 if keep == 'best' else self.query_embed.num_embeddings
        together = self.sentences_together(
            T,
            (H, W),
            data_samples[0].ori_shape[:2],
            num_masks,
            data_samples[0].get('max_memory'),
        )
        found = []
        for start in range(0, len(data_samples), together):
            part = slice(start, start + together)
            found += self._answer(visual, data_samples[part], text.select(part), keep)
        return found

    def _answer(
        self,
        visual: 'VisualFeatures',
        data_samples: list[RVOSDataSample],
        text: TextFeatures,
        keep: str,
    ) -> list[InstanceData]:
        """What sentences that run together find."""
        found, climb = self._search(visual, text)
        scores, kept, frame_scores = choose_queries(found.logits[-1], keep)
        found = found.keep_queries(kept)
        points = found.references[-1] * visual.sizes[:, None, None]
        # A few frames at a time from the features to the masks, which are much smaller.
        masks = climb(self._draw, (found.hs[-1].flatten(0, 1), points.flatten(0, 1)))
        masks = masks.unflatten(0, points.shape[:2])  # (B, T', k, h, w)
        boxes = cxcywh_to_xyxy(found.boxes[-1])
        answers = []
        for i, sample in enumerate(data_samples):
            h, w = sample.ori_shape[:2]
            scale = boxes.new_tensor([w, h])
            presence_thr = sample.get('presence_thr', self.test_cfg['presence_thr'])
            logits = masks[i].transpose(0, 1)  # (k, T', h, w)
            logits = empty_absent(logits, frame_scores[i], presence_thr)
            answers.append(
                InstanceData(
                    scores=scores[i],
                    frame_scores=frame_scores[i],
                    boxes=(boxes[i] * scale.repeat(2)).transpose(0, 1),
                    # Those that enter the last decoder layer, as the reference draws them.
                    reference_points=(found.references[-2, i] * scale).transpose(0, 1),
                    masks=masks_at_original_size(
                        logits,
                        sample.img_shape[:2],
                        (h, w),
                        resize=self.test_cfg['resize'],
                        threshold=self.test_cfg['threshold'],
                    ),
                )
            )
            if self.test_cfg['keep_logits']:
                answers[-1].logits = logits
        return answers

    def _draw(self, features: Tensor, hs: Tensor, points: Tensor) -> Tensor:
        """Masks of frames, (n, C, h, w), (n, k, C), (n, k, 2) -> (n, k, h, w)."""
        return self.mask_head(features[:, None], hs[None, :, None], points[None, :, None])[0, :, 0]


def _same_clip(a: RVOSDataSample, b: RVOSDataSample) -> bool:
    keys = ('video_id', 'frame_names', 'key_frames', 'img_shape')
    return a.get('video_id') is not None and all(a.get(key) == b.get(key) for key in keys)


def _channels(backbone: nn.Module) -> list[int]:
    """Channels of the backbone's maps: what it says, or what a small frame shows."""
    if hasattr(backbone, 'out_channels'):
        return list(backbone.out_channels)
    training = backbone.training
    backbone.eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 64, 64))
    backbone.train(training)
    return [x.shape[1] for x in maps]


class VisualFeatures(NamedTuple):
    """What is known of clips before a sentence is read; the lists begin at stride 4."""

    stride4: Tensor  # what enters the pixel decoder, (B*T', C, h, w)
    levels: list[Tensor]  # projected, strides 8 to 64, [(B*T', C, h_l, w_l)]
    positions: list[Tensor]  # strides 4 to 64, [(B or 1, C, h_l, w_l)]
    masks: list[Tensor] | None  # strides 4 to 64, [(B, h_l, w_l)], True = padded
    sizes: Tensor  # (B, 2), width and height of the unpadded input

    def for_sentences(self, num_sentences: int) -> 'VisualFeatures':
        """One clip for each of several sentences, at stride 4 still one for all; B clips for B
        sentences stay as they are."""
        if len(self.sizes) == num_sentences:
            return self
        if len(self.sizes) != 1:
            raise ValueError(f'{num_sentences} sentences for {len(self.sizes)} clips')
        n = num_sentences
        positions, masks = self.positions, self.masks
        if masks is not None:
            positions = [p.expand(n, -1, -1, -1) for p in positions]
            masks = [mask.expand(n, -1, -1) for mask in masks]
        return self._replace(
            levels=[level.repeat(n, 1, 1, 1) for level in self.levels],
            positions=positions,
            masks=masks,
            sizes=self.sizes.expand(n, -1),
        )

    def repeat_frames(self, num_frames: int) -> 'VisualFeatures':
        """Positions and masks of every frame instead of every clip."""
        if self.masks is None:
            return self
        return self._replace(
            positions=[p.repeat_interleave(num_frames, 0) for p in self.positions],
            masks=[mask.repeat_interleave(num_frames, 0) for mask in self.masks],
        )


class FoundObjects(NamedTuple):
    """Outputs of the decoder layers, and what masks are made of."""

    features: Tensor | None  # (B, T', C, h, w)
    hs: Tensor  # (D, B, T', Q, C)
    logits: Tensor  # (D, B, T', Q, K)
    boxes: Tensor  # (D, B, T', Q, 4)
    references: Tensor  # (D + 1, B, T', Q, 2), in [0, 1]

    def keep_queries(self, keep: Tensor) -> 'FoundObjects':
        """Only the queries of index ``keep`` (B, k), the same in all frames of a clip."""

        def pick(x: Tensor) -> Tensor:
            D, B, T, _, C = x.shape
            index = keep[None, :, None, :, None].expand(D, B, T, -1, C)
            return x.gather(3, index)

        return FoundObjects(self.features, *(pick(x) for x in self[1:]))
