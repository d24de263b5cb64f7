_base_ = './referformer.py'

model = dict(
    backbone=dict(
        type='Swin',
        embed_dim=128,
        depths=(2, 2, 18, 2),
        num_heads=(4, 8, 16, 32),
        drop_path=0.3,
    )
)
