_base_ = [
    './_base_/finetune_runtime.py',
    './_base_/models/referformer_vswin-s.py',
    './_base_/datasets/a2d_sentences.py',
    './_base_/schedules/a2d_finetune_6e.py',
]

model = {{_base_.single_frame_model}}
load_from = 'checkpoints/referformer_vswin-s_refcoco.pth'
