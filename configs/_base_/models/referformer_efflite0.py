# As small as the micro model but for its channels, with a backbone that has seen real pictures:
# EfficientNet-Lite0.
_base_ = './referformer_micro.py'

model = dict(
    data_preprocessor=dict(
        mean=(127 / 255,) * 3, std=(128 / 255,) * 3, train_divisor=32, test_divisor=32
    ),
    backbone=dict(
        _delete_=True,
        type='EfficientNetLite',
        frozen_stages=4,
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/efficientnet-lite0.pth'),
    ),
    text_encoder=dict(
        model=dict(vocab_size=12261, hidden_size=128), tokenizer='data/pictures/tokenizer'
    ),
    transformer=dict(embed_dim=128, num_encoder_layers=2, feedforward_dim=256, look_first=True),
    pixel_decoder=dict(feedforward_dim=256, shrinks=(8, 4, 2, 1)),
    mask_head=dict(mask_dim=64),
    criterion=dict(visible_boxes=True),  # what is not there has no box
    test_cfg=dict(window=8),
)
