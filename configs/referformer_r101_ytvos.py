_base_ = [
    './_base_/finetune_runtime.py',
    './_base_/models/referformer_r101.py',
    './_base_/datasets/ref_youtube_vos.py',
    './_base_/schedules/finetune_6e.py',
]

load_from = 'checkpoints/referformer_r101_refcoco.pth'
