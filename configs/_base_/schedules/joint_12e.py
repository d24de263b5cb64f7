# Videos and pseudo clips together, from the weights of the encoders, on 8 GPUs.
_base_ = './finetune_6e.py'

train_cfg = dict(max_epochs=12)
param_scheduler = dict(milestones=[8, 10])
