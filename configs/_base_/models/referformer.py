# ReferFormer without its backbone: paper section 4.2, implementation details.
model = dict(
    type='ReferFormer',
    num_queries=5,
    num_classes=1,  # binary: referred or not
    data_preprocessor=dict(
        type='ClipPreprocessor',
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        train_divisor=32,
        test_divisor=1,
    ),
    text_encoder=dict(
        type='RobertaTextEncoder',
        model=dict(  # roberta-base
            model_type='roberta',
            vocab_size=50265,
            max_position_embeddings=514,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
        ),
        tokenizer='FacebookAI/roberta-base',
        pretrained=None,  # comes with load_from; where none is given: 'FacebookAI/roberta-base'
        dropout=0.1,
        frozen=True,
    ),
    projection=dict(type='VisualProjection', num_groups=32),
    fusion=dict(type='VisionLanguageFusion', num_heads=8),
    transformer=dict(
        type='DeformableTransformer',
        embed_dim=256,
        num_heads=8,
        num_levels=4,
        num_encoder_layers=4,
        num_decoder_layers=4,
        feedforward_dim=2048,
        num_points=4,
        dropout=0.1,
        with_box_refine=True,
        attention=dict(type='MSDeformAttn'),
    ),
    pixel_decoder=dict(
        type='CrossModalFPN',
        num_heads=8,
        feedforward_dim=2048,
        dropout=0.1,
        shrinks=(8, 4, 2, 1),  # strides 4, 8, 16, 32
        num_groups=8,
    ),
    mask_head=dict(
        type='DynamicMaskHead',
        mask_dim=256,
        num_channels=8,
        num_controller_layers=3,
        rel_coord=True,
    ),
    criterion=dict(
        type='ReferFormerCriterion',
        matcher=dict(
            type='SequenceMatcher',
            class_weight=2.0,
            l1_weight=5.0,
            giou_weight=2.0,
            mask_weight=2.0,
            dice_weight=5.0,
        ),
        loss_cls=dict(type='FocalLoss', weight=2.0),
        loss_bbox=dict(type='BoxL1Loss', weight=5.0),
        loss_giou=dict(type='BoxGIoULoss', weight=2.0),
        loss_mask=dict(type='FocalLoss', weight=2.0),
        loss_dice=dict(type='DiceLoss', weight=5.0),
    ),
    test_cfg=dict(keep='best', resize='logits', threshold=0.5),
)
