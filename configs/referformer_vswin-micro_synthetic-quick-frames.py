# The first stage of tools/quickstart.sh: the recipe's, in minutes, on 300 videos, and all parts at
# once.
_base_ = './referformer_vswin-micro_synthetic-frames.py'

model = dict(backbone=dict(init_cfg=None))
train_dataloader = dict(dataset=dict(data_root='data/synthetic'))
train_cfg = dict(max_iters=700, val_interval=350)
optim_wrapper = dict(paramwise_cfg=None)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=700, eta_min=2e-4),
]
