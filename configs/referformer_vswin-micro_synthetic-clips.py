# Second stage: clips at half the size, of all kinds of sentences.
_base_ = './referformer_vswin-micro_synthetic.py'

train_dataloader = dict(dataset=dict(pipeline={{_base_.small_pipeline}}))
train_cfg = dict(max_iters=5000, val_interval=2500)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=5000, eta_min=2e-4),
]
load_from = 'work_dirs/referformer_vswin-micro_synthetic-frames/iter_4000.pth'
