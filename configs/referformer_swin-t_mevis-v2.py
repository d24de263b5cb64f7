_base_ = [
    './_base_/finetune_runtime.py',
    './_base_/models/referformer_swin-t.py',
    './_base_/datasets/mevis_v2.py',
    './_base_/schedules/finetune_6e.py',
]

load_from = 'checkpoints/referformer_swin-t_refcoco.pth'
