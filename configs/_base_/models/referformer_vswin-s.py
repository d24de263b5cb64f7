_base_ = './referformer.py'

model = dict(backbone=dict(type='VideoSwin', depths=(2, 2, 18, 2), with_cp=True))
