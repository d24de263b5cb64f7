# tools/get_weights.py makes this file of swin_base_patch244_window877_kinetics400_22k.pth
_base_ = './referformer_vswin-b.py'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vswin-b_kinetics.pth')),
    text_encoder=dict(pretrained='FacebookAI/roberta-base'),
)
