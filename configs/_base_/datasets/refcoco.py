# Training on RefCOCO, RefCOCO+ and RefCOCOg together; testing on the val split of one of them:
# --cfg-options test_dataloader.dataset.name=refcocog
data_root = 'data/coco'

train_pipeline = [
    dict(type='SampleFrames', mode='all'),
    dict(type='LoadFrames'),
    dict(type='LoadCocoMask'),
    dict(
        type='RandomChoice',
        transforms=[
            [
                dict(
                    type='RandomResize',
                    scales=(480, 512, 544, 576, 608, 640, 672, 704, 736, 768),
                    max_size=800,
                )
            ],
            [
                dict(type='RandomCrop', min_size=384, max_size=600, shorter=(400, 500, 600)),
                dict(
                    type='RandomResize',
                    scales=(296, 328, 360, 392, 416, 448, 480, 512),
                    max_size=640,
                ),
            ],
        ],
    ),
    dict(type='FilterVisible'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackClip'),
]
test_pipeline = [
    dict(type='SampleFrames', mode='all'),
    dict(type='LoadFrames', keep_last=True),
    dict(type='LoadCocoMask'),
    dict(type='Resize', shorter=360, max_size=640, resize_masks=False),
    dict(type='PackClip'),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(type='RefCOCO', data_root=data_root, name='refcoco', pipeline=train_pipeline),
            dict(type='RefCOCO', data_root=data_root, name='refcoco+', pipeline=train_pipeline),
            dict(type='RefCOCO', data_root=data_root, name='refcocog', pipeline=train_pipeline),
        ],
    ),
)
val_dataloader = dict(
    batch_size=8,  # sentences about one image
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    batch_sampler=dict(type='VideoBatchSampler'),
    dataset=dict(
        type='RefCOCO',
        data_root=data_root,
        name='refcoco',
        split='val',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='ReferringMetric', with_ap=False, with_boxes=True)
test_evaluator = val_evaluator

# What this dataset changes in a model: model = {{_base_.refcoco_model}} in a leaf.
refcoco_model = dict(
    data_preprocessor=dict(test_divisor=32),
    text_encoder=dict(frozen=False),
    test_cfg=dict(keep='pairs', resize='masks'),
)
