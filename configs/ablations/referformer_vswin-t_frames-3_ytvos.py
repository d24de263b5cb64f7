_base_ = '../referformer_vswin-t_scratch_ytvos.py'
train_dataloader = dict(dataset=dict(num_frames=3))
