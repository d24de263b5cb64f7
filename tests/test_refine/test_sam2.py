"""SAM 2's video model carries masks of key frames, in constant memory."""

import numpy as np
import pytest
import torch

from referformer.refine import Sam2Propagator

SIZE = 128


@pytest.fixture(scope='module')
def model():
    """The architecture in small, with random weights."""
    from transformers import Sam2VideoConfig, Sam2VideoModel

    S = SIZE
    vision = {
        'model_type': 'sam2_vision_model',
        'backbone_config': {
            'model_type': 'sam2_hiera_det_model',
            'hidden_size': 12,
            'blocks_per_stage': [1, 2, 2, 1],
            'embed_dim_per_stage': [12, 24, 48, 96],
            'num_attention_heads_per_stage': [1, 2, 4, 8],
            'window_size_per_stage': [8, 4, 4, 4],
            'global_attention_blocks': [4],
            'image_size': [S, S],
        },
        'backbone_channel_list': [96, 48, 24, 12],
        'backbone_feature_sizes': [[S // 4] * 2, [S // 8] * 2, [S // 16] * 2],
        'fpn_hidden_size': 128,
    }
    config = Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config={'hidden_size': 128, 'image_size': S},
        mask_decoder_config={'hidden_size': 128},
        image_size=S,
        memory_attention_hidden_size=128,
        memory_attention_rope_feat_sizes=[S // 16] * 2,
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
    )
    torch.manual_seed(0)
    return Sam2VideoModel(config).eval()


def video(length, size=(48, 64)):
    """A bright square that moves over noise, and its masks."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 90, (length, *size, 3), dtype=np.uint8)
    masks = np.zeros((length, *size), bool)
    for t in range(length):
        x = 4 + t % 40
        masks[t, 12:30, x : x + 16] = True
    frames[masks] = (250, 200, 40)
    return frames, masks


def test_dropping_what_is_not_asked_for_changes_no_bit(model):
    frames, masks = video(36)
    given = [{0: masks[0], 9: masks[9]}, {0: masks[0, ::-1]}]
    kept, dropped = (Sam2Propagator(model, 'cpu', prune=prune).tracker() for prune in (False, True))
    for t, frame in enumerate(frames):
        new = {n: keys[t] for n, keys in enumerate(given) if t in keys}
        full, small = kept.step(frame, new), dropped.step(frame, new)
        assert all(np.array_equal(full[n], small[n]) for n in (0, 1))
    assert len(kept.sessions[0].output_dict_per_obj[0]['non_cond_frame_outputs']) == 34
    assert len(dropped.sessions[0].output_dict_per_obj[0]['non_cond_frame_outputs']) <= 16
    assert not dropped.sessions[0].processed_frames
