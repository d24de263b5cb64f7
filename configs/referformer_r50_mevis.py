_base_ = [
    './_base_/finetune_runtime.py',
    './_base_/models/referformer_r50.py',
    './_base_/datasets/mevis.py',
    './_base_/schedules/finetune_6e.py',
]

load_from = 'checkpoints/referformer_r50_refcoco.pth'
