# tools/get_weights.py makes this file of swin_small_patch244_window877_kinetics400_1k.pth
_base_ = './referformer_vswin-s.py'

model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='checkpoints/vswin-s_kinetics.pth')),
    text_encoder=dict(pretrained='FacebookAI/roberta-base'),
)
