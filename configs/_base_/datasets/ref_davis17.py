# Written by tools/dataset_tools/convert_ref_davis.py; trained on as Ref-YouTube-VOS.
_base_ = './ref_youtube_vos.py'

data_root = 'data/ref-davis'

# The whole video; the model divides it into clips (model.test_cfg.window in the leaf configs).
test_pipeline = [
    dict(type='SampleFrames', mode='all'),
    dict(type='LoadFrames', keep_last=True),
    dict(type='LoadMasks', keep_last=True),
    dict(type='Resize', shorter=360, resize_masks=False),
    dict(type='PackClip'),
]
train_dataloader = dict(dataset=dict(type='RefDAVIS', data_root=data_root))
test_dataloader = dict(
    batch_size=4,  # sentences about one video: the four of an object
    sampler=dict(_delete_=True, type='VideoSampler'),
    batch_sampler=dict(type='VideoBatchSampler'),
    dataset=dict(type='RefDAVIS', data_root=data_root, pipeline=test_pipeline),
)
test_evaluator = dict(_delete_=True, type='RefDAVISMetric')
