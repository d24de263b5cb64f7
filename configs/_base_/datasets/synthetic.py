# Made by tools/dataset_tools/make_synthetic.py; read as Ref-YouTube-VOS is.
data_root = 'data/synthetic'

load_pipeline = [
    dict(type='SampleFrames', mode='successive'),  # motion is the same in any part of a video
    dict(type='LoadFrames'),
    dict(type='LoadMasks'),
    dict(type='RandomFlip', prob=0.5),
]
pack_pipeline = [dict(type='FilterVisible'), dict(type='PackClip')]
# 96x160 -> 72x120: half the work, for the first stages.
small_pipeline = [*load_pipeline, dict(type='Resize', shorter=72), *pack_pipeline]
train_pipeline = [*load_pipeline, dict(type='Resize', shorter=96), *pack_pipeline]
test_pipeline = [
    dict(type='SampleFrames', mode='all'),
    dict(type='LoadFrames', keep_last=True),
    dict(type='LoadMasks', with_control=True, keep_last=True),
    dict(type='Resize', shorter=96, resize_masks=False),
    dict(type='PackClip'),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='RefYouTubeVOS',
        data_root=data_root,
        split='train',
        num_frames=5,
        classes='meta',
        pipeline=train_pipeline,
    ),
)
valid = dict(
    type='RefYouTubeVOS',
    data_root=data_root,
    split='valid',
    exclude_file=None,
    classes='meta',
    pipeline=test_pipeline,
)
val_dataloader = dict(
    batch_size=16,  # sentences about one video
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    batch_sampler=dict(type='VideoBatchSampler'),
    dataset=dict(valid, indices=180),  # for the curve the first third is enough
)
# All sentences, those about motion a second time with the frames in random order, and sentences
# about objects that are not in the video.
test_dataloader = dict(
    val_dataloader,
    dataset=dict(valid, shuffled_kinds=('motion',), absent_kinds=('appearance',)),
)
val_evaluator = dict(type='VOSMetric')
test_evaluator = val_evaluator
