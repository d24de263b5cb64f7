# Pictures with masks in COCO's format, sentences made while training; real video for validation.
data_root = 'data/pictures'

distort = dict(  # after the sentence, which may name a colour
    type='PhotometricDistort',
    per_clip=True,
    clip=True,
    permute_channels=False,
    hue=0,
    saturation=(0.7, 1.3),
    contrast=(0.7, 1.3),
)
train_pipeline = [
    dict(type='LoadInstances'),
    dict(type='RandomCrop', min_size=180, max_size=640),
    dict(type='Stretch', height=160, width=160),
    dict(type='RandomFlip', prob=0.5),
    dict(type='WriteSentence', absent=0.12),  # of what is left
    distort,
    dict(type='PackClip'),
]
test_pipeline = [
    dict(type='LoadInstances'),
    dict(type='WriteSentence'),
    dict(type='Resize', shorter=256, resize_masks=False),
    dict(type='PackClip'),
]
train_dataloader = dict(
    batch_size=12,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='InstanceSentences',
        data_root=data_root,
        split='train',
        sources=dict(voc=3, coco=3, ccp=1, cats=1, wild4=1, animal63=1),
        join=0.4,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,  # sentences about one picture
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    batch_sampler=dict(type='VideoBatchSampler'),
    dataset=dict(
        type='InstanceSentences', data_root=data_root, split='val', pipeline=test_pipeline
    ),
)
val_evaluator = [dict(type='VOSMetric'), dict(type='FoundMetric')]
test_dataloader = val_dataloader
test_evaluator = val_evaluator
