data_root = 'data/pictures'
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval=20,
        max_keep_ckpts=3,
        type='SafeCheckpointHook'),
    checkpoint_keys=dict(type='MatchingCheckpointHook'),
    epoch_seed=dict(type='EpochSeedHook'),
    invalid_loss=dict(interval=50, type='InvalidLossHook'),
    logger=dict(interval=10, log_metric_by_epoch=False, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    timer=dict(type='IterTimerHook'),
    visualization=dict(interval=10, max_samples=12, type='VisualizationHook'))
default_scope = 'referformer'
distort = dict(
    clip=True,
    contrast=(
        0.7,
        1.3,
    ),
    hue=0,
    per_clip=True,
    permute_channels=False,
    saturation=(
        0.7,
        1.3,
    ),
    type='PhotometricDistort')
env_cfg = dict(
    cudnn_benchmark=False,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
log_level = 'INFO'
log_processor = dict(by_epoch=False, type='LogProcessor', window_size=50)
model = dict(
    backbone=dict(frozen_stages=4, init_cfg=None, type='EfficientNetLite'),
    criterion=dict(
        loss_bbox=dict(type='BoxL1Loss', weight=5.0),
        loss_cls=dict(type='FocalLoss', weight=2.0),
        loss_dice=dict(type='DiceLoss', weight=10.0),
        loss_giou=dict(type='BoxGIoULoss', weight=2.0),
        loss_mask=dict(type='FocalLoss', weight=4.0),
        mask_stride=1,
        matcher=dict(
            class_weight=2.0,
            dice_weight=5.0,
            giou_weight=2.0,
            l1_weight=5.0,
            mask_weight=2.0,
            type='SequenceMatcher'),
        type='ReferFormerCriterion',
        visible_boxes=True),
    data_preprocessor=dict(
        mean=(
            0.4980392156862745,
            0.4980392156862745,
            0.4980392156862745,
        ),
        std=(
            0.5019607843137255,
            0.5019607843137255,
            0.5019607843137255,
        ),
        test_divisor=32,
        train_divisor=32,
        type='ClipPreprocessor'),
    fusion=dict(num_heads=4, type='VisionLanguageFusion'),
    mask_head=dict(
        mask_dim=64,
        num_channels=8,
        num_controller_layers=3,
        rel_coord=True,
        type='DynamicMaskHead'),
    num_classes=1,
    num_queries=1,
    pixel_decoder=dict(
        dropout=0.0,
        feedforward_dim=256,
        num_groups=8,
        num_heads=4,
        shrinks=(
            8,
            4,
            2,
            1,
        ),
        type='CrossModalFPN'),
    projection=dict(num_groups=8, type='VisualProjection'),
    test_cfg=dict(keep='best', resize='logits', threshold=0.5, window=8),
    text_encoder=dict(
        dropout=0.0,
        frozen=False,
        model=dict(
            attention_probs_dropout_prob=0.0,
            hidden_dropout_prob=0.0,
            hidden_size=128,
            intermediate_size=256,
            layer_norm_eps=1e-05,
            max_position_embeddings=66,
            model_type='roberta',
            num_attention_heads=4,
            num_hidden_layers=2,
            type_vocab_size=1,
            vocab_size=12261),
        pretrained=None,
        tokenizer='{{ fileDirname }}/tokenizer',
        type='RobertaTextEncoder'),
    transformer=dict(
        attention=dict(type='MSDeformAttn'),
        dropout=0.0,
        embed_dim=128,
        feedforward_dim=256,
        look_first=True,
        num_decoder_layers=2,
        num_encoder_layers=2,
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
    type='BFloat16OptimWrapper')
param_scheduler = [
    dict(begin=0, by_epoch=False, end=10, start_factor=0.1, type='LinearLR'),
    dict(
        begin=10,
        by_epoch=False,
        end=220,
        eta_min=1e-05,
        type='CosineAnnealingLR'),
]
randomness = dict(seed=42)
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_sampler=dict(type='VideoBatchSampler'),
    batch_size=8,
    dataset=dict(
        data_root='data/pictures',
        pipeline=[
            dict(type='LoadInstances'),
            dict(type='WriteSentence'),
            dict(resize_masks=False, shorter=256, type='Resize'),
            dict(type='PackClip'),
        ],
        split='val',
        type='InstanceSentences'),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = [
    dict(type='VOSMetric'),
    dict(type='FoundMetric'),
]
test_pipeline = [
    dict(type='LoadInstances'),
    dict(type='WriteSentence'),
    dict(resize_masks=False, shorter=256, type='Resize'),
    dict(type='PackClip'),
]
train_cfg = dict(max_iters=220, type='IterBasedTrainLoop', val_interval=100000)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        data_root='data/pictures',
        join=0.4,
        pipeline=[
            dict(type='LoadInstances'),
            dict(max_size=640, min_size=180, type='RandomCrop'),
            dict(height=176, type='Stretch', width=176),
            dict(prob=0.5, type='RandomFlip'),
            dict(absent=0.12, type='WriteSentence'),
            dict(
                clip=True,
                contrast=(
                    0.7,
                    1.3,
                ),
                hue=0,
                per_clip=True,
                permute_channels=False,
                saturation=(
                    0.7,
                    1.3,
                ),
                type='PhotometricDistort'),
            dict(num_frames=2, type='MovingClip'),
            dict(type='PackClip'),
        ],
        sources=dict(animal63=1, cats=1, ccp=1, coco=3, voc=3, wild4=1),
        split='train',
        type='InstanceSentences'),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=True, type='InfiniteSampler'))
train_pipeline = [
    dict(type='LoadInstances'),
    dict(max_size=640, min_size=180, type='RandomCrop'),
    dict(height=160, type='Stretch', width=160),
    dict(prob=0.5, type='RandomFlip'),
    dict(absent=0.12, type='WriteSentence'),
    dict(
        clip=True,
        contrast=(
            0.7,
            1.3,
        ),
        hue=0,
        per_clip=True,
        permute_channels=False,
        saturation=(
            0.7,
            1.3,
        ),
        type='PhotometricDistort'),
    dict(type='PackClip'),
]
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_sampler=dict(type='VideoBatchSampler'),
    batch_size=8,
    dataset=dict(
        data_root='data/pictures',
        pipeline=[
            dict(type='LoadInstances'),
            dict(type='WriteSentence'),
            dict(resize_masks=False, shorter=256, type='Resize'),
            dict(type='PackClip'),
        ],
        split='val',
        type='InstanceSentences'),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = [
    dict(type='VOSMetric'),
    dict(type='FoundMetric'),
]
visualizer = dict(
    type='RVOSVisualizer', vis_backends=[
        dict(type='LocalVisBackend'),
    ])
