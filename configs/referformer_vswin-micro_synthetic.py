# Third stage: clips at the size of the tests. The two before: ...-frames.py and ...-clips.py.
_base_ = [
    './_base_/iter_runtime.py',
    './_base_/models/referformer_micro.py',
    './_base_/datasets/synthetic.py',
    './_base_/schedules/micro.py',
]

# Made by tools/dataset_tools/make_synthetic.py data/synthetic-large --num-train 4000
train_dataloader = dict(dataset=dict(data_root='data/synthetic-large'))
# Mask losses are divided by the number of frames, box losses are not: 4 frames, 4 times the weight.
model = dict(criterion=dict(loss_mask=dict(weight=8.0), loss_dice=dict(weight=20.0)))
optim_wrapper = dict(optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=3500, eta_min=1e-5),
]
load_from = 'work_dirs/referformer_vswin-micro_synthetic-clips/iter_5000.pth'
