# tools/get_weights.py makes this file of swin_small_patch4_window7_224.pth
_base_ = './referformer_swin-s.py'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/swin-s_imagenet.pth')),
    text_encoder=dict(pretrained='FacebookAI/roberta-base'),
)
