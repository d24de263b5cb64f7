# tools/get_weights.py makes this file of swin_base_patch4_window7_224_22k.pth
_base_ = './referformer_swin-b.py'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/swin-b_imagenet.pth')),
    text_encoder=dict(pretrained='FacebookAI/roberta-base'),
)
