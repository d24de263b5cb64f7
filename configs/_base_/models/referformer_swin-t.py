_base_ = './referformer.py'

model = dict(backbone=dict(type='Swin'))
