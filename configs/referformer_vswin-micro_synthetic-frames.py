# First stage, as in the paper: single frames, and sentences that mostly need no more than one.
_base_ = './referformer_vswin-micro_synthetic.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/referformer_vswin-micro_synthetic-backbone/iter_2400.pth',
            prefix='backbone.',
        )
    ),
    criterion=dict(loss_mask=dict(weight=2.0), loss_dice=dict(weight=5.0)),
)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        num_frames=1, kinds=('appearance', 'relation'), pipeline={{_base_.small_pipeline}}
    ),
)
train_cfg = dict(max_iters=2000, val_interval=1000)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    # Longer than the stage: the rate is still high when the clips come.
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=2500, eta_min=2e-4),
]
load_from = None
