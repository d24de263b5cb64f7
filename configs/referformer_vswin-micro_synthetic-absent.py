# After the last stage: half of the sentences are about objects that their video does not show, so
# that the class scores learn to say no (docs/presence.md).
_base_ = './referformer_vswin-micro_synthetic.py'

train_dataloader = dict(dataset=dict(absent_kinds=('appearance', 'motion', 'relation')))
train_cfg = dict(max_iters=700, val_interval=700)
optim_wrapper = dict(optimizer=dict(lr=4e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=700, eta_min=1e-5),
]
load_from = 'work_dirs/referformer_vswin-micro_synthetic/iter_2200.pth'
