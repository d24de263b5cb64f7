data_root = 'data/synthetic'
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval=1000,
        max_keep_ckpts=3,
        type='SafeCheckpointHook'),
    checkpoint_keys=dict(type='MatchingCheckpointHook'),
    epoch_seed=dict(type='EpochSeedHook'),
    invalid_loss=dict(interval=50, type='InvalidLossHook'),
    logger=dict(interval=50, log_metric_by_epoch=False, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    timer=dict(type='IterTimerHook'),
    visualization=dict(interval=10, max_samples=12, type='VisualizationHook'))
default_scope = 'referformer'
env_cfg = dict(
    cudnn_benchmark=False,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
load_pipeline = [
    dict(mode='successive', type='SampleFrames'),
    dict(type='LoadFrames'),
    dict(type='LoadMasks'),
    dict(prob=0.5, type='RandomFlip'),
]
log_level = 'INFO'
log_processor = dict(by_epoch=False, type='LogProcessor', window_size=50)
model = dict(
    backbone=dict(
        conv_channels=32,
        depths=(
            0,
            1,
            1,
            1,
        ),
        drop_path=0.0,
        embed_dim=24,
        init_cfg=None,
        num_heads=(
            4,
            4,
            8,
            8,
        ),
        patch_frames=5,
        type='VideoSwin',
        window=(
            5,
            6,
            6,
        )),
    criterion=dict(
        loss_bbox=dict(type='BoxL1Loss', weight=5.0),
        loss_cls=dict(type='FocalLoss', weight=2.0),
        loss_dice=dict(type='DiceLoss', weight=25.0),
        loss_giou=dict(type='BoxGIoULoss', weight=2.0),
        loss_mask=dict(type='FocalLoss', weight=10.0),
        mask_stride=1,
        matcher=dict(
            class_weight=2.0,
            dice_weight=5.0,
            giou_weight=2.0,
            l1_weight=5.0,
            mask_weight=2.0,
            type='SequenceMatcher'),
        type='ReferFormerCriterion'),
    data_preprocessor=dict(
        mean=(
            0.485,
            0.456,
            0.406,
        ),
        std=(
            0.229,
            0.224,
            0.225,
        ),
        test_divisor=1,
        train_divisor=4,
        type='ClipPreprocessor'),
    fusion=dict(num_heads=4, type='VisionLanguageFusion'),
    mask_head=dict(
        mask_dim=32,
        num_channels=8,
        num_controller_layers=3,
        rel_coord=True,
        type='DynamicMaskHead'),
    num_classes=1,
    num_queries=1,
    pixel_decoder=dict(
        dropout=0.0,
        feedforward_dim=128,
        num_groups=8,
        num_heads=4,
        shrinks=(
            4,
            2,
            1,
            1,
        ),
        type='CrossModalFPN'),
    projection=dict(num_groups=8, type='VisualProjection'),
    test_cfg=dict(
        keep='best', presence_thr=0.55, resize='logits', threshold=0.5),
    text_encoder=dict(
        dropout=0.0,
        frozen=False,
        model=dict(
            attention_probs_dropout_prob=0.0,
            hidden_dropout_prob=0.0,
            hidden_size=64,
            intermediate_size=256,
            layer_norm_eps=1e-05,
            max_position_embeddings=66,
            model_type='roberta',
            num_attention_heads=4,
            num_hidden_layers=2,
            type_vocab_size=1,
            vocab_size=512),
        pretrained=None,
        tokenizer='{{ fileDirname }}/tokenizer',
        type='RobertaTextEncoder'),
    transformer=dict(
        attention=dict(type='MSDeformAttn'),
        dropout=0.0,
        embed_dim=64,
        feedforward_dim=128,
        num_decoder_layers=2,
        num_encoder_layers=1,
        num_heads=4,
        num_levels=4,
        num_points=4,
        type='DeformableTransformer',
        with_box_refine=True),
    type='ReferFormer')
optim_wrapper = dict(
    clip_grad=dict(max_norm=1.0, norm_type=2),
    optimizer=dict(lr=0.0007, type='MuonAdamW', weight_decay=0.0005),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.1))),
    type='OptimWrapper')
pack_pipeline = [
    dict(type='FilterVisible'),
    dict(type='PackClip'),
]
param_scheduler = [
    dict(begin=0, by_epoch=False, end=50, start_factor=0.1, type='LinearLR'),
    dict(
        begin=50,
        by_epoch=False,
        end=2200,
        eta_min=1e-05,
        type='CosineAnnealingLR'),
]
randomness = dict(seed=42)
small_pipeline = [
    dict(mode='successive', type='SampleFrames'),
    dict(type='LoadFrames'),
    dict(type='LoadMasks'),
    dict(prob=0.5, type='RandomFlip'),
    dict(shorter=72, type='Resize'),
    dict(type='FilterVisible'),
    dict(type='PackClip'),
]
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_sampler=dict(type='VideoBatchSampler'),
    batch_size=16,
    dataset=dict(
        absent_kinds=('appearance', ),
        classes='meta',
        data_root='data/synthetic',
        exclude_file=None,
        pipeline=[
            dict(mode='all', type='SampleFrames'),
            dict(keep_last=True, type='LoadFrames'),
            dict(keep_last=True, type='LoadMasks', with_control=True),
            dict(resize_masks=False, shorter=96, type='Resize'),
            dict(type='PackClip'),
        ],
        shuffled_kinds=('motion', ),
        split='valid',
        type='RefYouTubeVOS'),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(type='VOSMetric')
test_pipeline = [
    dict(mode='all', type='SampleFrames'),
    dict(keep_last=True, type='LoadFrames'),
    dict(keep_last=True, type='LoadMasks', with_control=True),
    dict(resize_masks=False, shorter=96, type='Resize'),
    dict(type='PackClip'),
]
train_cfg = dict(max_iters=2200, type='IterBasedTrainLoop', val_interval=2200)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        classes='meta',
        data_root='data/synthetic-large',
        num_frames=5,
        pipeline=[
            dict(mode='successive', type='SampleFrames'),
            dict(type='LoadFrames'),
            dict(type='LoadMasks'),
            dict(prob=0.5, type='RandomFlip'),
            dict(shorter=96, type='Resize'),
            dict(type='FilterVisible'),
            dict(type='PackClip'),
        ],
        split='train',
        type='RefYouTubeVOS'),
    num_workers=1,
    sampler=dict(shuffle=True, type='DefaultSampler'))
train_pipeline = [
    dict(mode='successive', type='SampleFrames'),
    dict(type='LoadFrames'),
    dict(type='LoadMasks'),
    dict(prob=0.5, type='RandomFlip'),
    dict(shorter=96, type='Resize'),
    dict(type='FilterVisible'),
    dict(type='PackClip'),
]
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_sampler=dict(type='VideoBatchSampler'),
    batch_size=16,
    dataset=dict(
        classes='meta',
        data_root='data/synthetic',
        exclude_file=None,
        indices=180,
        pipeline=[
            dict(mode='all', type='SampleFrames'),
            dict(keep_last=True, type='LoadFrames'),
            dict(keep_last=True, type='LoadMasks', with_control=True),
            dict(resize_masks=False, shorter=96, type='Resize'),
            dict(type='PackClip'),
        ],
        split='valid',
        type='RefYouTubeVOS'),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(type='VOSMetric')
valid = dict(
    classes='meta',
    data_root='data/synthetic',
    exclude_file=None,
    pipeline=[
        dict(mode='all', type='SampleFrames'),
        dict(keep_last=True, type='LoadFrames'),
        dict(keep_last=True, type='LoadMasks', with_control=True),
        dict(resize_masks=False, shorter=96, type='Resize'),
        dict(type='PackClip'),
    ],
    split='valid',
    type='RefYouTubeVOS')
visualizer = dict(
    type='RVOSVisualizer', vis_backends=[
        dict(type='LocalVisBackend'),
    ])
