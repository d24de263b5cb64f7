_base_ = './referformer.py'

model = dict(
    backbone=dict(
        type='Swin',
        embed_dim=192,
        depths=(2, 2, 18, 2),
        num_heads=(6, 12, 24, 48),
        drop_path=0.3,
        with_cp=True,
    )
)
