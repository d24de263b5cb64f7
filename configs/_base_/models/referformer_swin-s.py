_base_ = './referformer.py'

model = dict(backbone=dict(type='Swin', depths=(2, 2, 18, 2)))
