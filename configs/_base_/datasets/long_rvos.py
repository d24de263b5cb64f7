# Ref-YouTube-VOS's augmentation; a folder of masks for each object.
_base_ = './ref_youtube_vos.py'

data_root = 'data/long_rvos'

train_pipeline = [
    dict(type='SampleFrames'),
    dict(type='LoadFrames', draft=True),
    dict(type='LoadObjectMasks'),
    {{_base_.resize_or_crop}},
    dict(type='FilterVisible'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotometricDistort'),
    dict(type='PackClip'),
]
# The whole video; the model divides it into clips (model.test_cfg.window in the leaf configs).
test_pipeline = [
    dict(type='SampleFrames', mode='all'),
    dict(type='LoadFrames'),
    dict(type='LoadObjectMasks', with_control=True),
    dict(type='Resize', shorter=360, resize_masks=False),
    dict(type='PackClip'),
]
train_dataloader = dict(
    dataset=dict(type='LongRVOS', data_root=data_root, pipeline=train_pipeline),
)
test_dataloader = dict(
    dataset=dict(type='LongRVOS', data_root=data_root, split='valid', pipeline=test_pipeline),
)
test_evaluator = dict(_delete_=True, type='VOSMetric', protocol='long-rvos')
