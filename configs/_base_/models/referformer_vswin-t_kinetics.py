# tools/get_weights.py makes this file of swin_tiny_patch244_window877_kinetics400_1k.pth
_base_ = './referformer_vswin-t.py'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vswin-t_kinetics.pth')),
    text_encoder=dict(pretrained='FacebookAI/roberta-base'),
)
