"""Propagation by SAM 2's video model, or EdgeTAM's, of ``transformers``."""

import sys
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.device import check_device
from ..models.pretrained import words_of
from ..registry import PROPAGATORS
from .propagator import Keys, Propagator, Tracker

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@PROPAGATORS.register_module()
class Sam2Propagator(Propagator):
    """Follows objects by ``Sam2VideoModel`` or ``EdgeTamVideoModel``.

    After each frame all that no later frame asks for is dropped, so that memory is constant;
    the numbers are bit for bit those of a session that keeps everything.

    Args:
        model: Name on the Hub or folder of the weights, such as
            ``facebook/sam2.1-hiera-{tiny,small,base-plus,large}`` or ``yonigozlan/EdgeTAM-hf``
            (which needs timm), or the model itself. Read when first used.
        device: As for ``apis.init_model``.
        prune: Drop what is not asked for any more; False only to compare.
    """

    def __init__(
        self,
        model: str | nn.Module = 'facebook/sam2.1-hiera-large',
        device: str = 'auto',
        prune: bool = True,
    ) -> None:
        self._model, self.device, self.prune = model, check_device(device), prune

    @property
    def model(self) -> nn.Module:
        """The model, ready.

        Raises:
            OSError: It cannot be read or fetched.
            ValueError: It is another kind of model.
        """
        if isinstance(self._model, str):
            from transformers import AutoModel

            advice = 'Give the folder of a downloaded copy (refine.model=FOLDER).'
            with words_of('the video segmenter', self._model, advice):
                model = AutoModel.from_pretrained(self._model, dtype=torch.float32)
            if not hasattr(model, 'num_maskmem'):
                raise ValueError(
                    f'{self._model} is a {type(model).__name__}; Sam2Propagator needs a '
                    'Sam2VideoModel or an EdgeTamVideoModel.'
                )
            self._model = model
        self._model = self._model.to(self.device).eval()
        return self._model

    def shrink(self, frame: np.ndarray) -> np.ndarray:
        """The frame as it is: the model resizes by itself."""
        return frame

    def tracker(self) -> 'Sam2Tracker':
        """Without objects."""
        return Sam2Tracker(self.model, self.prune)


class Sam2Tracker(Tracker):
    """One direction: a session for each object, that counts frames as they come.

    An object may begin at any frame, which one session for all would not allow; features of a frame
    are shared through their cache.
    """

    def __init__(self, model: nn.Module, prune: bool) -> None:
        self.model, self.prune = model, prune
        self.size = model.config.image_size
        self.sessions: dict[int, Any] = {}
        self._count = 0

    @torch.no_grad()
    def step(self, frame: np.ndarray, given: Keys) -> dict[int, np.ndarray]:
        """See ``Tracker``; probabilities have a quarter of the model's size."""
        pixels, t = self._pixels(frame), self._count
        for n, mask in given.items():
            session = self.sessions[n] = self.sessions.get(n) or self._begin()
            session.add_mask_inputs(0, t, self._prompt(mask))
            session.obj_with_new_inputs = [0]
        probs = {}
        for n, session in self.sessions.items():
            out = self.model(session, frame_idx=t, frame=pixels)
            probs[n] = out.pred_masks[0, 0].float().sigmoid().cpu().numpy()
            if self.prune:
                self._drop(session)
        self._count += 1
        return probs

    def _begin(self) -> Any:
        kind = type(self.model)
        name = kind.__name__.replace('Model', 'InferenceSession')
        device, dtype = self.model.device, self.model.dtype
        session = getattr(sys.modules[kind.__module__], name)(
            inference_device=device,
            inference_state_device=device,
            video_storage_device=device,
            dtype=dtype,
        )
        session.obj_id_to_idx(0)
        for other in self.sessions.values():
            session.cache = other.cache
        return session

    def _pixels(self, frame: np.ndarray) -> Tensor:
        """(3, S, S), normalised."""
        x = torch.tensor(frame).to(self.model.device)
        x = x.permute(2, 0, 1)[None].float() / 255
        size = (self.size, self.size)
        x = F.interpolate(x, size, mode='bilinear', align_corners=False, antialias=True)[0]
        mean, std = (x.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        return ((x - mean) / std).to(self.model.dtype)

    def _prompt(self, mask: np.ndarray) -> Tensor:
        """(1, 1, S, S), 0 or 1."""
        x = torch.from_numpy(np.asarray(mask, np.float32))[None, None]
        size = (self.size, self.size)
        x = F.interpolate(x, size, mode='bilinear', align_corners=False, antialias=True)
        return (x >= 0.5).float()

    def _drop(self, session: Any) -> None:
        """Keep what the next frames ask for: features of the last memory frames, pointers of the
        last frames, and all of the key frames but their large masks."""
        t = self._count
        features = t + 2 - self.model.num_maskmem
        pointers = (
            t + 2 - max(self.model.num_maskmem, self.model.config.max_object_pointers_in_encoder)
        )
        session.processed_frames.clear()
        session.mask_inputs_per_obj[0].clear()
        session.frames_tracked_per_obj[0].clear()
        outputs = session.output_dict_per_obj[0]
        for entry in outputs['cond_frame_outputs'].values():
            _forget(entry, 'pred_masks', 'high_res_masks')
        later = outputs['non_cond_frame_outputs']
        for i, entry in list(later.items()):
            _forget(entry, 'pred_masks', 'high_res_masks')
            if i < features:
                _forget(entry, 'maskmem_features', 'maskmem_pos_enc')
            if i < pointers:
                del later[i]


def _forget(entry: dict, *names: str) -> None:
    for name in names:
        entry.pop(name, None)
