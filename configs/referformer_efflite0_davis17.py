# To test on Ref-DAVIS17, which it is not trained on.
_base_ = './referformer_efflite0_clips.py'

model = dict(test_cfg=dict(keep_logits=True))
test_dataloader = dict(
    batch_size=4,  # sentences about one video: the four of an object
    sampler=dict(_delete_=True, type='VideoSampler'),
    batch_sampler=dict(type='VideoBatchSampler'),
    dataset=dict(
        _delete_=True,
        type='RefDAVIS',
        data_root='data/ref-davis',
        split='valid',
        pipeline=[
            dict(type='SampleFrames', mode='all'),
            dict(type='LoadFrames', keep_last=True),
            dict(type='LoadMasks', keep_last=True),
            dict(type='Resize', shorter=288, resize_masks=False),
            dict(type='PackClip'),
        ],
    ),
)
test_evaluator = dict(_delete_=True, type='RefDAVISMetric')
