# Paper section 4.2, on 8 GPUs. A leaf adds load_from, and which parameters start afresh.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=6)
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=5e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(
        custom_keys={
            'backbone': dict(lr_mult=0.5),
            'text_encoder.encoder': dict(lr_mult=0.1),  # where it is not frozen
        }
    ),
)
param_scheduler = dict(type='MultiStepLR', milestones=[3, 5], gamma=0.1)
auto_scale_lr = dict(base_batch_size=8)
