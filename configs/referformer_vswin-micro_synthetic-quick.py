# The second stage of tools/quickstart.sh: clips at the size of the tests.
_base_ = './referformer_vswin-micro_synthetic.py'

train_dataloader = dict(dataset=dict(data_root='data/synthetic'))
train_cfg = dict(max_iters=200, val_interval=100)
optim_wrapper = dict(paramwise_cfg=None)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=30, end=200, eta_min=1e-5),
]
load_from = 'work_dirs/referformer_vswin-micro_synthetic-quick-frames/iter_700.pth'
