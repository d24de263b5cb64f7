_base_ = [
    './_base_/default_runtime.py',
    './_base_/models/referformer_vswin-t_kinetics.py',
    './_base_/datasets/a2d_sentences.py',
    './_base_/schedules/a2d_scratch_12e.py',
]

model = dict(
    data_preprocessor={{_base_.single_frame_model.data_preprocessor}},
    transformer=dict(dropout=0.0),
    test_cfg={{_base_.single_frame_model.test_cfg}},
)
train_dataloader = dict(dataset=dict(num_frames=6))
val_dataloader = dict(dataset=dict(num_frames=6))
test_dataloader = dict(dataset=dict(num_frames=6))
