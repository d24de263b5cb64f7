# One video dataset, from the weights of the encoders, on 8 GPUs.
_base_ = './finetune_6e.py'

train_cfg = dict(max_epochs=10)
param_scheduler = dict(milestones=[6, 8])
