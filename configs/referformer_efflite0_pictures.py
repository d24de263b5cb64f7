# First stage: single pictures.
_base_ = [
    './_base_/iter_runtime.py',
    './_base_/models/referformer_efflite0.py',
    './_base_/datasets/pictures.py',
    './_base_/schedules/micro.py',
]

model = dict(criterion=dict(mask_stride=4))  # enlarged predictions cost time
train_cfg = dict(max_iters=610, val_interval=610)
optim_wrapper = dict(
    type='BFloat16OptimWrapper',
    optimizer=dict(lr=2e-3),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=80),
    dict(type='MultiStepLR', by_epoch=False, milestones=[250], gamma=0.5),
]
default_hooks = dict(checkpoint=dict(interval=100))
