# Small enough for two cores, with a backbone that has seen real pictures: EfficientNet-Lite0.
_base_ = './referformer.py'

model = dict(
    num_queries=1,  # with more, masks improve without the sentence: the best of them is matched
    data_preprocessor=dict(
        mean=(127 / 255,) * 3, std=(128 / 255,) * 3, train_divisor=32, test_divisor=32
    ),
    backbone=dict(
        type='EfficientNetLite',
        frozen_stages=4,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/efficientnet-lite0.pth'),
    ),
    text_encoder=dict(
        model=dict(
            vocab_size=12261,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=256,
            max_position_embeddings=66,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        ),
        tokenizer='data/pictures/tokenizer',
        pretrained=None,
        dropout=0.0,
        frozen=False,
    ),
    projection=dict(num_groups=8),
    fusion=dict(num_heads=4),
    transformer=dict(
        embed_dim=128,
        num_heads=4,
        num_encoder_layers=2,
        num_decoder_layers=2,
        feedforward_dim=256,
        dropout=0.0,
        look_first=True,
    ),
    pixel_decoder=dict(num_heads=4, feedforward_dim=256, dropout=0.0),
    mask_head=dict(mask_dim=64),
    criterion=dict(visible_boxes=True),  # sentences about what is not there have no box
)
