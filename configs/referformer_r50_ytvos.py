_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/referformer.py',
    './_base_/datasets/ref_youtube_vos.py',
    './_base_/schedules/finetune_6e.py',
]

model = dict(backbone=dict(type='ResNet', depth=50), text_encoder=dict(pretrained=None))
load_from = 'checkpoints/referformer_r50_refcoco.pth'
default_hooks = dict(checkpoint_keys=dict(fresh=[r'^class_heads\.']))
