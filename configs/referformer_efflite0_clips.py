# Second stage: clips of the same pictures, in which camera and occluders move.
_base_ = './referformer_efflite0_pictures.py'

# Mask losses are divided by the number of frames, box losses are not: 2 frames, twice the weight.
model = dict(criterion=dict(mask_stride=1, loss_mask=dict(weight=4.0), loss_dice=dict(weight=10.0)))
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        pipeline=[
            dict(type='LoadInstances'),
            dict(type='RandomCrop', min_size=180, max_size=640),
            dict(type='Stretch', height=176, width=176),
            dict(type='RandomFlip', prob=0.5),
            dict(type='WriteSentence', absent=0.12),
            {{_base_.distort}},
            dict(type='MovingClip', num_frames=2),
            dict(type='PackClip'),
        ]
    ),
)
train_cfg = dict(max_iters=220, val_interval=220)
optim_wrapper = dict(optimizer=dict(lr=7e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=10),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=10, end=220, eta_min=1e-5),
]
load_from = 'work_dirs/referformer_efflite0_pictures/iter_610.pth'
