# The same classes as the full model in small: about two million parameters, trainable on two CPU
# cores. Kinetics, which teaches the paper's backbones motion, is missing: convolutions and patches
# of five frames teach it in minutes.
_base_ = './referformer.py'

model = dict(
    num_queries=1,  # with more, masks improve without the sentence: the best of them is matched
    data_preprocessor=dict(train_divisor=4),
    backbone=dict(
        type='VideoSwin',
        embed_dim=24,
        depths=(0, 1, 1, 1),
        num_heads=(4, 4, 8, 8),
        window=(5, 6, 6),
        drop_path=0.0,
        patch_frames=5,
        conv_channels=32,
    ),
    text_encoder=dict(
        model=dict(
            vocab_size=512,  # at least that of the tokenizer
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=256,
            max_position_embeddings=66,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        tokenizer='data/synthetic/tokenizer',
        pretrained=None,
        dropout=0.0,
        frozen=False,
    ),
    projection=dict(num_groups=8),
    fusion=dict(num_heads=4),
    transformer=dict(
        embed_dim=64,
        num_heads=4,
        num_encoder_layers=1,
        num_decoder_layers=2,
        feedforward_dim=128,
        dropout=0.0,
    ),
    pixel_decoder=dict(num_heads=4, feedforward_dim=128, dropout=0.0, shrinks=(4, 2, 1, 1)),
    mask_head=dict(mask_dim=32),
    criterion=dict(mask_stride=1),  # objects are a few pixels wide at stride 4
)
