# Paper section 4.2: RefCOCO, RefCOCO+ and RefCOCOg together, on 8 GPUs.
_base_ = './finetune_6e.py'

train_cfg = dict(max_epochs=12)
val_cfg = dict(type='ValLoop')
param_scheduler = dict(milestones=[8, 10])
auto_scale_lr = dict(base_batch_size=16)
