# Before the first stage: the backbone alone learns what objects are like, as the paper's has from
# ImageNet and Kinetics.
_base_ = './referformer_vswin-micro_synthetic.py'

attributes = dict(
    category=['circle', 'square', 'triangle', 'star', 'cross', 'heart'],
    colour=['red', 'yellow', 'green', 'blue', 'purple', 'white', 'black'],
    size=['small', 'large'],
    motion=['still', 'left', 'right', 'up', 'down'],
)
model = dict(
    _delete_=True,
    type='BackbonePretraining',
    backbone={{_base_.model.backbone}},
    attributes=attributes,
    data_preprocessor={{_base_.model.data_preprocessor}},
)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        _delete_=True,
        type='ObjectAttributes',
        data_root='data/synthetic-large',
        attributes=attributes,
        num_frames=3,
        pipeline=[
            dict(type='SampleFrames', mode='successive'),
            dict(type='LoadFrames'),
            dict(type='LoadMasks'),
            dict(type='Resize', shorter=72),
            dict(type='PackClip'),
        ],
    ),
)
train_cfg = dict(max_iters=2400)
optim_wrapper = dict(optimizer=dict(lr=3e-3), paramwise_cfg=None)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=2400, eta_min=6e-5),
]
load_from = None
# The training loss tells enough: share of the pixels that are right, for each attribute.
val_cfg = val_dataloader = val_evaluator = None
test_cfg = test_dataloader = test_evaluator = None
