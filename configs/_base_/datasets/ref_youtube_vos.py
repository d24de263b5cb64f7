data_root = 'data/ref-youtube-vos'

scales = (288, 320, 352, 392, 416, 448, 480, 512)
resize_or_crop = dict(
    type='RandomChoice',
    transforms=[
        [dict(type='RandomResize', scales=scales, max_size=640)],
        [
            dict(type='RandomCrop', min_size=384, max_size=600, shorter=(400, 500, 600)),
            dict(type='RandomResize', scales=scales, max_size=640),
        ],
    ],
)
train_pipeline = [
    dict(type='SampleFrames'),
    dict(type='LoadFrames', draft=True),
    dict(type='LoadMasks'),
    resize_or_crop,
    dict(type='FilterVisible'),
    # The reference flips and distorts first, and resizes before it crops: the same distribution but
    # for rounding and values that wrap around, at twice the cost (docs/benchmarks.md).
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotometricDistort'),
    dict(type='PackClip'),
]
# The whole video is one clip.
test_pipeline = [
    dict(type='SampleFrames', mode='all'),
    dict(type='LoadFrames'),
    dict(type='LoadMasks', with_control=True),
    dict(type='Resize', shorter=360, resize_masks=False),
    dict(type='PackClip'),
]
train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='RefYouTubeVOS',
        data_root=data_root,
        split='train',
        num_frames=5,
        pipeline=train_pipeline,
    ),
)
# The published valid split has no masks: nothing to validate on while training.
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='RefYouTubeVOS',
        data_root=data_root,
        split='valid',
        pipeline=test_pipeline,
    ),
)
# Written for the server; with masks of the valid split at hand: dict(type='VOSMetric').
test_evaluator = dict(type='SubmissionMetric', out_dir='work_dirs/submission_ref_youtube_vos')
