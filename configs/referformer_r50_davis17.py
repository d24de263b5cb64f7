# Published: test with the weights of referformer_r50_ytvos.py. To train on Ref-DAVIS17, too:
_base_ = [
    './_base_/finetune_runtime.py',
    './_base_/models/referformer_r50.py',
    './_base_/datasets/ref_davis17.py',
    './_base_/schedules/finetune_6e.py',
]

model = dict(test_cfg=dict(window=36, keep_logits=True))  # independent clips; merged objects
load_from = 'checkpoints/referformer_r50_ytvos.pth'
