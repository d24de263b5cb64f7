# Videos of Ref-YouTube-VOS and pseudo clips of the images of RefCOCO, RefCOCO+ and RefCOCOg.
_base_ = './ref_youtube_vos.py'

coco_root = 'data/coco'
coco_pipeline = [
    dict(type='SampleFrames', mode='all'),
    dict(type='LoadFrames'),
    dict(type='LoadCocoMask'),
    dict(type='PseudoClip', num_frames=5),
    {{_base_.resize_or_crop}},
    dict(type='FilterVisible'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotometricDistort'),
    dict(type='PackClip'),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        ignore_keys=['classes'],  # labels do not count in binary classification
        datasets=[
            {{_base_.train_dataloader.dataset}},
            dict(type='RefCOCO', data_root=coco_root, name='refcoco', pipeline=coco_pipeline),
            dict(type='RefCOCO', data_root=coco_root, name='refcoco+', pipeline=coco_pipeline),
            dict(type='RefCOCO', data_root=coco_root, name='refcocog', pipeline=coco_pipeline),
        ],
    )
)
