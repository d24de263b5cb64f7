# tools/get_weights.py makes this file of resnet101-63fe2227.pth
_base_ = './referformer_r101.py'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/r101_imagenet.pth')),
    text_encoder=dict(pretrained='FacebookAI/roberta-base'),
)
