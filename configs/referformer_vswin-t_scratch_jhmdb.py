# With the weights of referformer_vswin-t_scratch_a2d.py.
_base_ = './referformer_vswin-t_jhmdb.py'

test_dataloader = dict(dataset=dict(num_frames=6))
