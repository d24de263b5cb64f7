# Second stage: clips of the same pictures, in which camera and occluders move.
_base_ = './referformer_efflite0_pictures.py'

# Mask losses are divided by the number of frames, box losses are not: 3 frames, 3 times the weight.
model = dict(criterion=dict(loss_mask=dict(weight=6.0), loss_dice=dict(weight=15.0)))
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        pipeline=[
            dict(type='LoadInstances'),
            dict(type='RandomCrop', min_size=180, max_size=640),
            dict(type='Stretch', height=192, width=192),
            dict(type='RandomFlip', prob=0.5),
            dict(type='WriteSentence', absent=0.15),
            {{_base_.distort}},
            dict(type='MovingClip', num_frames=3),
            dict(type='PackClip'),
        ]
    ),
)
train_cfg = dict(max_iters=300, val_interval=300)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=20, end=300, eta_min=2e-5),
]
default_hooks = dict(checkpoint=dict(interval=25))
load_from = 'work_dirs/referformer_efflite0_pictures/iter_500.pth'
