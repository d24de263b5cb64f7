# Last stage: clips at the size of the tests. Those before: ...-backbone.py, -frames.py, -clips.py.
_base_ = [
    './_base_/iter_runtime.py',
    './_base_/models/referformer_micro.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/micro.py',
]

# Made by tools/dataset_tools/make_synthetic.py data/synthetic-large --num-train 4000
train_dataloader = dict(dataset=dict(data_root='data/synthetic-large'))
# Mask losses are divided by the number of frames, box losses are not: 5 frames, 5 times the weight.
model = dict(criterion=dict(loss_mask=dict(weight=10.0), loss_dice=dict(weight=25.0)))
train_cfg = dict(max_iters=2200, val_interval=2200)
optim_wrapper = dict(
    optimizer=dict(lr=7e-4),
    # Muon's steps are large: at the full rate the backbone forgets motion on single frames.
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=2200, eta_min=1e-5),
]
load_from = 'work_dirs/referformer_vswin-micro_synthetic-clips/iter_1500.pth'
