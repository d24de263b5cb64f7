default_scope = 'referformer'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=3),
    checkpoint_keys=dict(type='MatchingCheckpointHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='VisualizationHook', interval=10, max_samples=12),
    invalid_loss=dict(type='InvalidLossHook'),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=42)

log_level = 'INFO'
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)

load_from = None
resume = False

visualizer = dict(type='RVOSVisualizer', vis_backends=[dict(type='LocalVisBackend')])
