# As Ref-YouTube-VOS, with 2 clips on each of 8 GPUs; the test split is scored after every epoch.
_base_ = './finetune_6e.py'

val_cfg = dict(type='ValLoop')
auto_scale_lr = dict(base_batch_size=16)
