# Ref-YouTube-VOS's augmentation; masks of several objects from one file.
_base_ = './ref_youtube_vos.py'

data_root = 'data/mevis'

train_pipeline = [
    dict(type='SampleFrames'),
    dict(type='LoadFrames'),
    dict(type='LoadRLEMasks'),
    {{_base_.resize_or_crop}},
    dict(type='FilterVisible'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotometricDistort'),
    dict(type='PackClip'),
]
# The whole video is one clip.
test_pipeline = [
    dict(type='SampleFrames', mode='all'),
    dict(type='LoadFrames'),
    dict(type='LoadRLEMasks'),
    dict(type='Resize', shorter=360, resize_masks=False),
    dict(type='PackClip'),
]
train_dataloader = dict(
    dataset=dict(type='MeViS', data_root=data_root, pipeline=train_pipeline),
)
# For the server: --cfg-options test_dataloader.dataset.split=valid
# test_evaluator.type=SubmissionMetric test_evaluator.out_dir=work_dirs/submission_mevis
test_dataloader = dict(
    dataset=dict(type='MeViS', data_root=data_root, split='valid_u', pipeline=test_pipeline),
)
test_evaluator = dict(_delete_=True, type='VOSMetric')
