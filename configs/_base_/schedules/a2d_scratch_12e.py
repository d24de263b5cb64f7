# From the weights of the encoders.
_base_ = './a2d_finetune_6e.py'

train_cfg = dict(max_epochs=12)
optim_wrapper = dict(optimizer=dict(weight_decay=1e-4))
param_scheduler = dict(milestones=[8, 10])
