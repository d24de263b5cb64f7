_base_ = './referformer.py'

model = dict(backbone=dict(type='ResNet', depth=50))
