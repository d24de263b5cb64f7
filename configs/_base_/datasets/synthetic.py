# Made by tools/dataset_tools/make_synthetic.py; read as Ref-YouTube-VOS is.
data_root = 'data/synthetic'

train_pipeline = [
    dict(type='SampleFrames'),
    dict(type='LoadFrames'),
    dict(type='LoadMasks'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Resize', shorter=72),  # 96x160 -> 72x120: nearly half the work, J up to 0.9
    dict(type='FilterVisible'),
    dict(type='PackClip'),
]
test_pipeline = [
    dict(type='SampleFrames', mode='all'),
    dict(type='LoadFrames', keep_last=True),
    dict(type='LoadMasks', with_control=True, keep_last=True),
    dict(type='Resize', shorter=72, resize_masks=False),
    dict(type='PackClip'),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='RefYouTubeVOS',
        data_root=data_root,
        split='train',
        num_frames=2,
        classes='meta',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,  # sentences about one video
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    batch_sampler=dict(type='VideoBatchSampler'),
    dataset=dict(
        type='RefYouTubeVOS',
        data_root=data_root,
        split='valid',
        exclude_file=None,
        classes='meta',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='VOSMetric')
test_evaluator = val_evaluator
