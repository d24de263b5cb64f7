# Ref-YouTube-VOS's augmentation; clips with one annotated frame each.
_base_ = ['./ref_youtube_vos.py', '../single_frames.py']

data_root = 'data/a2d_sentences'

train_pipeline = [
    dict(type='SampleFrames'),
    dict(type='LoadVideoFrames'),
    dict(type='LoadH5Masks'),
    {{_base_.resize_or_crop}},
    dict(type='FilterVisible'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotometricDistort'),
    dict(type='PackClip'),
]
test_pipeline = [
    dict(type='SampleFrames', mode='centred'),
    dict(type='LoadVideoFrames'),
    dict(type='LoadH5Masks'),
    dict(type='Resize', shorter=360, max_size=640, resize_masks=False),
    dict(type='PackClip'),
]
train_dataloader = dict(
    batch_size=2,
    dataset=dict(type='A2DSentences', data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='A2DSentences',
        data_root=data_root,
        split='test',
        num_frames=5,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='ReferringMetric')
test_evaluator = dict(_delete_=True, type='ReferringMetric')
