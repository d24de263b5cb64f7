# Read as MeViS, but for the names of the files and the kinds of sentences.
_base_ = './mevis.py'

test_pipeline = [
    dict(type='SampleFrames', mode='all'),
    dict(type='LoadFrames'),
    dict(type='LoadRLEMasks', with_foreground=True),
    dict(type='Resize', shorter=360, resize_masks=False),
    dict(type='PackClip'),
]
train_dataloader = dict(dataset=dict(type='ReVOS', data_root='data/revos'))
test_dataloader = dict(
    dataset=dict(type='ReVOS', data_root='data/revos', split='valid', pipeline=test_pipeline),
)
test_evaluator = dict(protocol='revos')
