# From scratch on two cores. Muon instead of AdamW: with AdamW boxes are not learned in this time.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=3500, val_interval=1750)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='MuonAdamW', lr=2e-3, weight_decay=5e-4),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
