# tools/get_weights.py makes this file of resnet50-0676ba61.pth
_base_ = './referformer_r50.py'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/r50_imagenet.pth')),
    text_encoder=dict(pretrained='FacebookAI/roberta-base'),
)
