# For testing only, with the weights trained on A2D-Sentences.
_base_ = '../single_frames.py'

data_root = 'data/jhmdb_sentences'

test_pipeline = [
    dict(type='SampleFrames', mode='centred'),
    dict(type='LoadFrames'),
    dict(type='LoadMatMasks'),
    dict(type='Resize', shorter=360, max_size=640, resize_masks=False),
    dict(type='PackClip'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='JHMDBSentences', data_root=data_root, num_frames=5, pipeline=test_pipeline),
)
test_evaluator = dict(type='ReferringMetric')
test_cfg = dict(type='TestLoop')
