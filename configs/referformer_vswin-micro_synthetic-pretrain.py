# First stage, as in the paper: single frames, and only sentences that a single frame can answer.
_base_ = './referformer_vswin-micro_synthetic.py'

model = dict(criterion=dict(loss_mask=dict(weight=2.0), loss_dice=dict(weight=5.0)))
train_dataloader = dict(batch_size=16, dataset=dict(num_frames=1, kinds=('appearance', 'relation')))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
