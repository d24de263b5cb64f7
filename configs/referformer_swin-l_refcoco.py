_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/referformer_swin-l_imagenet.py',
    './_base_/datasets/refcoco.py',
    './_base_/schedules/pretrain_12e.py',
]

model = {{_base_.refcoco_model}}
