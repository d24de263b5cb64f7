"""SAM 2's video model in small, with random weights."""

import torch

SIZE = 128


def small_sam2():
    """1.2 M parameters, always the same ones."""
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
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Sam2VideoModel(config).eval()
