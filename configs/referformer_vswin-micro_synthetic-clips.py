# Second stage: clips, at three quarters of the size, of all kinds of sentences.
_base_ = './referformer_vswin-micro_synthetic.py'

train_dataloader = dict(dataset=dict(pipeline={{_base_.small_pipeline}}))
train_cfg = dict(max_iters=1500, val_interval=1500)
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=1500, eta_min=2e-4),
]
load_from = 'work_dirs/referformer_vswin-micro_synthetic-frames/iter_2000.pth'
